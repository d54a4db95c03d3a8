"""Scores of face clips on values worked out by hand."""

import numpy as np
import pytest
import torch

from mofa_nb.sampling.denoise import periodic_windows
from tests.benchmarks.face_scenes import HybridScene, asked_to_stand, with_surroundings
from tests.benchmarks.face_scores import (
    edge_gradient,
    face_crop,
    landmark_errors,
    mouth_opening,
    opening_correlation,
    rest_scores,
    seam_ratios,
    shape_error,
    share_above_floor,
    window_seams,
)
from tests.benchmarks.report import Check
from tests.benchmarks.tensor_memory import TensorMemory, growth_ratio


def face(shift=(0.0, 0.0), gap=0.0):
    """68 points in a column, the eyes 10 px apart, the inner lips `gap` px apart."""
    points = np.stack([np.full(68, 20.0), np.arange(68) * 0.5], 1)
    points[36:42], points[42:48] = (15.0, 12.0), (25.0, 12.0)
    points[[61, 62, 63]] = (20.0, 30.0)
    points[[65, 66, 67]] = (20.0, 30.0 + gap)
    return points + shift


def scene(frames=4, side=64, flow=None):
    """A face in the upper left quarter of a noisy picture; all else stays."""
    points = np.stack([face(), face((t := 0.0, t))] * (frames // 2)) * 0.6
    still = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    moves = torch.zeros(frames - 1, 2, side, side) if flow is None else flow
    seen = torch.ones(frames - 1, 1, side, side, dtype=torch.bool)
    clip = still.repeat(frames, 1, 1, 1)
    return HybridScene(clip, moves, seen, "a", torch.tensor(points).float(), "a", "moves")


def test_landmark_error_is_in_distances_between_the_eyes_and_a_lost_face_counts_as_still():
    asked = np.stack([face(), face((0, 4)), face((0, 8)), face((0, 5))])
    found = np.stack([face(), face((3, 4)), face((0, 0)), np.full((68, 2), np.nan)])
    np.testing.assert_allclose(landmark_errors(found, asked), [0, 0.3, 0.8, 0.5])


def test_the_share_above_the_floor_is_0_at_the_floor_and_1_when_still():
    assert share_above_floor(0.05, 0.05, 0.25) == 0
    assert share_above_floor(0.25, 0.05, 0.25) == 1
    assert share_above_floor(0.10, 0.05, 0.25) == pytest.approx(0.25)
    assert np.isnan(share_above_floor(0.1, 0.2, 0.1))


def test_shape_does_not_depend_on_place_turn_and_size_but_on_width():
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    assert shape_error(face() @ turn * 2.5 + 7, face()) == pytest.approx(0, abs=1e-9)
    mirrored = face((0, 0), gap=8.0) * (-1, 1)
    assert shape_error(mirrored, face(gap=8.0)) > 0.1
    square = np.tile(np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]), (17, 1))
    square[36:42], square[42:48] = (-1, 0), (1, 0)
    assert shape_error(square * (2, 1), square) > 0.15


def test_mouth_opening_is_the_gap_of_the_inner_lips_and_follows_a_curve_or_not():
    np.testing.assert_allclose(mouth_opening(np.stack([face(), face(gap=5.0)])), [0, 0.5])
    gaps = np.array([1.0, 2.0, 4.0, 1.0])
    points = np.stack([face((k, k), gap) for k, gap in enumerate(gaps)])
    assert opening_correlation(points, gaps) == pytest.approx(1)
    assert opening_correlation(points, -gaps) == pytest.approx(-1)
    assert opening_correlation(points[:1].repeat(4, 0), gaps) == 0
    points[3] = np.nan  # lost: the mouth of the first frame
    assert opening_correlation(points, gaps) == pytest.approx(1)
    assert opening_correlation(np.full_like(points, np.nan), gaps) == 0


def test_seams_are_where_other_windows_begin_or_end():
    assert window_seams(periodic_windows(14, 14), 14) == []
    windows = periodic_windows(5, 3)  # frames 0 1 2, 0 2 3, 0 3 4
    assert window_seams(windows, 5) == [2, 3, 4]
    assert window_seams(periodic_windows(28, 14), 28) == [8, 14, 15, 21]


def test_a_jump_at_a_seam_is_as_large_as_it_is():
    level = torch.tensor([0.0, 1, 2, 3, 6, 7, 8, 9]) / 10
    frames = level[:, None, None, None].expand(-1, 3, 4, 4)
    assert seam_ratios(frames, [4]) == pytest.approx([3.0])
    assert seam_ratios(frames, [6]) == pytest.approx([1.0])  # the median overlooks one jump
    assert seam_ratios(frames, [4, 6], reach=1) == pytest.approx([3.0, 1.0])
    assert seam_ratios(frames, [3, 4], reach=1) == pytest.approx([1.0, 3.0])
    two = torch.tensor([0.0, 1, 2, 5, 8, 9])[:, None, None, None].expand(-1, 3, 4, 4)
    assert seam_ratios(two, [3, 4], reach=1) == pytest.approx([3.0, 3.0])


def test_the_gradient_at_an_edge_sees_only_its_band():
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 8:] = 0.5
    region = torch.zeros(16, 16, dtype=torch.bool)
    region[:, 8:] = True
    assert edge_gradient(picture, region, reach=1) == pytest.approx(0.25)  # 1 of 2 columns
    assert edge_gradient(picture, region, reach=2) == pytest.approx(0.125)
    assert edge_gradient(picture, region.roll(5, 1) & region, reach=1) == 0


def test_drift_counts_only_what_stays_beside_the_head():
    one = scene()
    assert rest_scores(one, one.frames)["drift_p90"] == pytest.approx(0, abs=0.05)
    moved = one.frames.clone()
    moved[1:] = moved[1:].roll(3, -1)
    assert rest_scores(one, moved)["drift_median"] == pytest.approx(3, abs=0.3)
    going = torch.full((3, 2, 64, 64), 5.0)
    going[-1] = 0  # and come back
    assert np.isnan(rest_scores(scene(flow=going), one.frames)["drift_median"])


def test_a_standing_scene_does_not_move():
    one = asked_to_stand(scene(flow=torch.full((3, 2, 64, 64), 5.0)))
    assert not one.flow.any() and one.seen.all() and one.name == "a, stands still"
    assert torch.equal(one.landmarks, one.landmarks[:1].expand_as(one.landmarks))


def test_the_face_crop_surrounds_the_landmarks():
    one = scene()
    rows, columns = face_crop(one)
    x, y = one.landmarks[0].unbind(-1)
    assert columns.start <= x.min() and x.max() <= columns.stop
    assert rows.start <= y.min() and y.max() <= rows.stop
    assert columns.stop - columns.start <= 10  # 6 px times 1.3, whole pixels


def test_objects_move_beside_the_head_with_exact_flow():
    one = scene(frames=4, side=96)
    made = with_surroundings(one, 3)
    inside = made.region
    assert torch.equal(made.frames[:, :, inside], one.frames[:, :, inside])
    assert not made.flow[:, :, inside].any()
    y, x = (made.flow[-1].norm(dim=0) > 4).nonzero()[20]
    dx, dy = made.flow[-1, :, y, x].round().long()
    end = made.frames[-1, :, y + dy, x + dx]
    assert (end - made.frames[0, :, y, x]).abs().max() < 0.2
    assert not made.free()[inside].any() and not made.seen.all()


def test_memory_counts_each_storage_once_and_only_while_it_lives():
    weights = torch.ones(1000)
    with TensorMemory() as memory:
        first = torch.zeros(100)
        view, known = first[:50], weights[:10]
        assert memory.now == 400
        second = first + 1
        assert memory.now == memory.peak == 800
        del first, view
        assert memory.now == 400 and memory.peak == 800
        del second, known
        assert memory.now == 0
    torch.ones(5000)
    assert memory.peak == 800 and growth_ratio((100, 250), (20, 120)) == 1.5


def test_a_figure_that_is_no_number_is_never_reached():
    assert Check("a", 0.3, 0.3).reached and Check("a", 0.3, 0.3, at_most=True).reached
    assert not Check("a", 0.2, 0.3).reached and not Check("a", 0.4, 0.3, at_most=True).reached
    nothing = float("nan")
    assert not Check("a", nothing, 0).reached and not Check("a", nothing, 0, True).reached
