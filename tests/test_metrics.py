"""Metrics on clips and numbers whose answer is known."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from test_optical_flow import panned, textured

from mofa_nb.checks import InputError
from mofa_nb.flow.optical_flow import as_frames
from mofa_nb.flow.warp import disoccluded
from mofa_nb.study import metrics
from mofa_nb.study.control import splat_and_inpaint, still_clip
from mofa_nb.study.metrics import (
    Tracks,
    at_points,
    epe,
    motion_scores,
    on_outline,
    probe_points,
    psnr,
    track_points,
)
from tests.benchmarks import evaluate_mini
from tests.benchmarks.scoring import sharpness


def tracks(moved, lost=None):
    """Tracks from a nested list [N][steps][2]."""
    moved = torch.tensor(moved, dtype=torch.float32)
    lost = torch.zeros(moved.shape[:2], dtype=torch.bool) if lost is None else torch.tensor(lost)
    return Tracks(moved, lost)


def patch_over(rng, steps=5, dx=4):
    """(clip, flow, visible): a textured square slides right over a standing picture."""
    back, front = textured(rng, 64, 96), textured(rng, 40, 40)
    clip = np.stack([back] * steps)
    flow = torch.zeros(steps - 1, 2, 64, 96)
    flow[:, 0, 12:52, 16:56] = dx * torch.arange(1.0, steps)[:, None, None]
    seen = torch.ones(steps - 1, 1, 64, 96, dtype=torch.bool)
    for t in range(steps):
        clip[t, 12:52, 16 + dx * t : 56 + dx * t] = front
        if t:
            seen[t - 1, 0, 12:52, 56 : 56 + dx * t] = False
    return clip, flow, seen


def test_probe_points_are_a_grid_of_whole_pixels_read_x_before_y():
    points = probe_points((8, 16), 4)
    assert points[:5].tolist() == [[2, 1], [6, 1], [10, 1], [14, 1], [2, 3]]
    assert len(points) == 16
    with pytest.raises(InputError, match="9x9 points does not fit 16x8"):
        probe_points((8, 16), 9)
    values = torch.arange(2 * 3 * 4.0).view(2, 1, 3, 4)
    assert at_points(values, torch.tensor([[3, 1]])).tolist() == [[[7.0], [19.0]]]


def test_scores_of_two_points_by_hand():
    asked = torch.tensor([[[3.0, 4], [6, 8]], [[0, 0], [0, 0]]])
    scores = motion_scores(tracks([[[3, 0], [6, 8]], [[0, 1], [0, 2]]]), asked)
    assert scores.epe == pytest.approx((4 + 0 + 1 + 2) / 4)
    assert scores.still_epe == pytest.approx((5 + 10) / 4)
    assert scores.ratio == pytest.approx(7 / 15)
    assert scores.drift_median == scores.drift_p90 == 2
    assert scores.lost == 0


def test_a_lost_point_counts_as_a_still_one_and_as_drifting_infinitely():
    asked = torch.tensor([[[3.0, 4]], [[0, 0]]])
    scores = motion_scores(tracks([[[3, 4]], [[0, 0]]], [[True], [True]]), asked)
    assert scores.epe == scores.still_epe == 2.5
    assert scores.ratio == 1 and scores.lost == 1 and scores.correlation == 0
    assert scores.drift_p90 == math.inf


def test_points_hidden_in_the_true_clip_do_not_count():
    asked = torch.tensor([[[2.0, 0]], [[2.0, 0]]])
    seen = torch.tensor([[True], [False]])
    assert motion_scores(tracks([[[2, 0]], [[50, 0]]]), asked, seen).ratio == 0
    with pytest.raises(InputError, match="no point is visible"):
        motion_scores(tracks([[[2, 0]], [[2, 0]]]), asked, seen & False)


def test_nothing_asked_gives_no_ratio_and_no_moving_point_gives_no_drift():
    still = motion_scores(tracks([[[1, 0]]]), torch.zeros(1, 1, 2))
    assert math.isnan(still.ratio) and still.drift_median == 1
    assert math.isnan(motion_scores(tracks([[[1, 0]]]), torch.ones(1, 1, 2)).drift_median)


def test_correlation_knows_direction_but_not_amount():
    asked = torch.tensor([[[4.0, 0]], [[0, 2]]])
    for moved, expected in ((asked / 2, 1), (-asked, -1), (asked.flip(-1), 0), (0 * asked, 0)):
        scores = motion_scores(tracks(moved.tolist()), asked)
        assert scores.correlation == pytest.approx(expected)


def test_psnr_and_dense_error_by_hand_whole_and_masked():
    truth = torch.zeros(2, 3, 4, 4)
    frames = truth.clone()
    frames[:, :, :2] = 0.1
    where = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    where[:, :, :2] = True
    assert psnr(frames, truth, where) == pytest.approx(20)
    assert psnr(frames, truth) == pytest.approx(20 + 10 * math.log10(2))
    assert psnr(frames, truth, ~where) == math.inf
    assert math.isnan(psnr(frames, truth, where & False))
    truth = torch.tensor([3.0, 4])[None, :, None, None].repeat(1, 1, 2, 2)
    truth[..., 0] = 0
    assert epe(0 * truth, truth) == 2.5 and epe(0 * truth, truth, truth[:, :1] > 0) == 5


def test_blur_loses_the_energy_of_a_step_edge():
    frame = torch.zeros(3, 4, 4)
    frame[:, :, 2:] = 1
    assert sharpness(frame / 2, frame) == 1 / 4
    ramp = torch.tensor([0, 0.25, 0.75, 1]).expand(3, 4, 4)
    assert sharpness(ramp, frame) == pytest.approx(2 * 0.0625 + 0.25)
    assert math.isnan(sharpness(frame, torch.zeros(3, 4, 4)))


def test_behind_a_sliding_square_lies_what_was_never_seen(rng):
    _, flow, seen = patch_over(rng)
    hidden = disoccluded(flow, seen)
    expected = torch.zeros_like(hidden)
    for t in range(4):
        expected[t, 0, 12:52, 16 : 16 + 4 * (t + 1)] = True
    assert torch.equal(hidden, expected)


def test_the_tracker_follows_a_true_clip_far_better_than_the_floor_to_reach(rng):
    clip, flow, seen = patch_over(rng)
    points = probe_points((64, 96))
    asked, shown = at_points(flow, points), at_points(seen, points)[..., 0]
    scores = motion_scores(track_points(clip, points), asked, shown)
    assert scores.ratio < 0.1 and scores.correlation > 0.95
    assert scores.drift_median < 0.05 and scores.drift_p90 < 1
    pan = torch.tensor([2.0, -1]) * torch.arange(1, 4)[:, None]
    points = probe_points((48, 64))
    ends = points[:, None] + pan
    inside = ((ends >= 0) & (ends < torch.tensor([64, 48]))).all(-1)
    asked = pan.expand(len(points), 3, 2)
    scores = motion_scores(track_points(panned(rng), points), asked, inside)
    assert scores.ratio < 0.05 and scores.lost < 0.05


def test_for_every_point_the_estimator_counts_that_finds_its_way_back(monkeypatch):
    clip = torch.zeros(2, 3, 16, 16)

    def shift(right_half):  # its way leads back in one half of the picture, not in the other
        def estimate(sources, targets):
            forward = sources is not targets and bool((sources[:, 0, 0, 0] == 0).all())
            flow = torch.zeros(len(sources), 2, 16, 16)
            flow[:, 1] = 2.0 if forward else -2.0
            lost = slice(None, 8) if right_half else slice(8, None)
            flow[..., lost] = 5.0
            return flow

        return estimate

    clip[1] = 1
    points = torch.tensor([[3, 8], [12, 8]])
    monkeypatch.setattr(metrics, "TRACKER", (shift(True), shift(False)))
    both = track_points(clip, points)
    assert both.moved[:, 0].tolist() == [[0.0, 2.0], [0.0, 2.0]] and not both.lost.any()
    monkeypatch.setattr(metrics, "TRACKER", (shift(True),))
    one = track_points(clip, points)
    assert one.lost[:, 0].tolist() == [True, False]


def test_the_outline_is_where_motion_jumps():
    flow = torch.zeros(2, 2, 8, 8)
    flow[1, 0, :, 4:] = 3  # only the last frame counts
    outline = on_outline(flow)
    assert outline[:, 3:6].all() and outline.sum() == 3 * 8
    assert not on_outline(flow / 3).any()


def test_splatting_carries_the_square_and_inpainting_fills_the_hole(rng):
    clip, flow, seen = patch_over(rng)
    frames = as_frames(clip)
    made = splat_and_inpaint(frames[0], flow)
    assert made.shape == frames.shape and torch.equal(made[0], frames[0])
    open_hole = disoccluded(flow, seen)
    covered = ~open_hole & seen
    assert psnr(made[1:], frames[1:], covered & (flow[:, :1] == 0)) > 40
    assert made[-1, :, 12:52, 16:32].amin() > 0  # no black holes
    assert psnr(made[1:], frames[1:]) > psnr(still_clip(frames[0], 5)[1:], frames[1:])


def test_the_benchmark_of_clips_runs_to_its_end(toy_folder, tmp_path, monkeypatch, capsys):
    options = ["--scenes", "1", "--trajectory-scale", "0.5", "--device", "cpu"]
    file = tmp_path / "scores.json"
    argv = ["evaluate_mini", "--model", str(toy_folder), *options, "--json", str(file)]
    monkeypatch.setattr(sys, "argv", argv)
    evaluate_mini.main()
    written = json.loads(file.read_text())
    assert written["trajectory_scale"] == 0.5 and "Reached?" in capsys.readouterr().out
    assert any("scene 01" in json.dumps(part) for part in written.values())
