"""What the face notebooks draw and measure is what they say."""

import numpy as np
import pytest
import torch

from mofa_nb.faces.points import eye_distance
from mofa_nb.media.images import read_image
from mofa_nb.media.video import read_video
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.sampling.denoise import periodic_windows
from mofa_nb.study import faces


@pytest.fixture(scope="module")
def acted():
    """Eight frames of a driving sequence."""
    return faces.driving_clip(read_image(data_file("astronaut.jpg")), 8, 12.5, side=160)


def test_the_driving_sequence_is_a_face_that_opens_its_mouth(acted):
    assert acted.shape == (8, 160, 160, 3) and acted.dtype == np.uint8
    found = faces.found_landmarks(acted[[0, 5]])
    opening = faces.mouth_opening(found)
    assert opening[1] > opening[0] + 0.2


def test_eye_opening_is_the_gap_of_the_lids_of_both_eyes():
    points = np.zeros((2, 68, 2))
    points[:, 42:48, 0] = 10  # the distance between the eyes
    points[1, [37, 38], 1], points[1, [41, 40], 1] = -1, 1  # one eye's upper and lower lid
    np.testing.assert_allclose(faces.eye_opening(points), [0, 0.1], atol=1e-6)


def test_a_film_is_saved_where_asked_and_a_portrait_is_cropped(acted, tmp_path):
    path = faces.saved_film(tmp_path / "new", acted, 12.5)
    assert read_video(path).shape == acted.shape
    portrait = faces.portrait(data_file("grace_hopper.jpg"), side=128)
    height = np.ptp(faces.found_landmarks(portrait[None])[0, :, 1])
    assert portrait.shape == (128, 128, 3) and 0.35 < height / 128 < 0.6


def test_a_picture_without_a_face_has_no_landmarks(acted):
    found = faces.found_landmarks(np.stack([acted[0], np.zeros_like(acted[0])]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_a_still_clip_obeys_neither_the_face_nor_the_tracks(acted):
    asked = faces.found_landmarks(acted[:1]).repeat(3, axis=0)
    asked[1:, :, 0] += 0.2 * eye_distance(asked[0])
    drag = torch.zeros(2, 2, 160, 160)
    drag[:, 0] = 8
    clip = Clip(
        acted[[0, 0, 0]], drag, acted[0], Motion((160, 160)), {}, {}, "toy", "", landmarks=asked
    )
    error, share = faces.control_errors(clip, drag, np.zeros((160, 160), np.uint8))
    assert error == pytest.approx(0.2, abs=0.01) and share == pytest.approx(1, abs=0.1)


def test_dots_and_lines_are_drawn_where_the_points_are(acted):
    plain = np.full((40, 60, 3), 128, np.uint8)
    dotted = faces.dots_over(plain, np.array([[10.0, 20.0], [50.0, 30.0]]))
    assert tuple(dotted[20, 10]) == tuple(dotted[30, 50]) == faces.DOT
    assert (dotted == plain)[:10].all()
    assert not np.array_equal(faces.dots_over(plain, np.array([[10.0, 20.0]]), numbers=[0]), dotted)
    lines = faces.with_landmarks(acted[0], faces.found_landmarks(acted[:1])[0], height=320)
    assert lines.shape == (320, 320, 3)


def test_a_window_is_drawn_as_a_row():
    windows = periodic_windows(40, 14)
    drawn = faces.windows_picture(windows, 40)
    fewer = faces.windows_picture(windows[:2], 40)
    assert drawn.shape[1] == 900 and drawn.shape[0] - fewer.shape[0] == 22 * (len(windows) - 2)
    for colour in (faces.OWN_FIRST, faces.SEEN):
        assert (drawn == list(bytes.fromhex(colour[1:]))).all(-1).any()


def test_a_jump_where_a_window_begins_is_seen_in_its_ratio():
    windows = periodic_windows(27, 14)  # begin at frames 1, 8 and 14
    frames = np.cumsum(np.ones(27)).astype(np.uint8)[:, None, None, None].repeat(3, axis=3)
    assert faces.seam_ratios(faces.frame_changes(frames), windows).tolist() == [1, 1]
    frames[8:] += 2
    assert faces.seam_ratios(faces.frame_changes(frames), windows).tolist() == [3, 1]
