"""Tracks are taken from a film: of its points, past what hides them, or of its camera."""

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mofa_nb.checks import InputError
from mofa_nb.flow import film as film_module
from mofa_nb.flow.film import film_motion as film_motion_of
from mofa_nb.flow.optical_flow import DIS
from mofa_nb.media.images import read_image
from mofa_nb.media.video import write_clip
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file

SIZE, FRAMES = (160, 120), 6
QUICK = DIS(short_side=120)
PHOTO = cv2.resize(read_image(data_file("coffee.jpg")), (240, 180), interpolation=cv2.INTER_AREA)
TURNED = np.array([[0.998, -0.02, 1.5], [0.02, 0.998, -1.0], [2e-5, 1e-5, 1.0]])
# The photograph passes to the left.
FILM = np.stack([PHOTO[20:140, 20 + 2 * t : 180 + 2 * t] for t in range(FRAMES)])
BLACK, SQUARE = np.zeros((2, 3, 64, 64, 3), np.uint8)
SQUARE[:, 20:40, 20:40] = 255


def film_motion(film, points=64, *, method=QUICK, **given):
    return film_motion_of(film, points, method=method, **given)


@pytest.mark.parametrize("at", ["grid", "corners"])
def test_points_move_as_the_film_does(at):
    motion, _ = film_motion(FILM, 12, at=at)
    assert motion.size == SIZE and 10 <= len(motion.tracks) <= 14
    paths = motion.paths(FRAMES).numpy()
    shift = (paths - paths[:, :1])[paths[:, 0, 0] > 30]
    assert_allclose(shift, np.outer(-2 * np.arange(FRAMES), (1, 0))[None] + 0 * shift, atol=0.8)


def test_given_points_are_followed_and_still_ones_become_pins():
    where = np.array([[100.0, 60.0], [80.0, 80.0]])
    moving, _ = film_motion(FILM, where)
    assert [track.points[0] for track in moving.tracks] == [(100, 60), (80, 80)]
    still, _ = film_motion(np.repeat(FILM[:1], 3, axis=0), where)
    assert still.pins == ((100, 60), (80, 80))


def test_what_something_passes_over_is_bridged():
    film = np.repeat(FILM[:1], 12, axis=0)
    for t in range(12):  # a striped bar from the right edge beyond the left one
        left = 170 - 20 * t
        stripes = 255 * (np.arange(120)[:, None, None] // 6 % 2)
        film[t, :, max(left, 0) : max(left + 30, 0)] = stripes
    motion, notes = film_motion(film, np.array([[90.0, 60.0]]))
    assert np.ptp(motion.paths(12).numpy(), axis=1).max() < 4, "the bar does not take it along"
    assert any("hidden in between" in note for note in notes)


def test_the_cameras_motion_fills_the_picture_though_something_moves_by_itself():
    powers = [np.linalg.matrix_power(TURNED, t) for t in range(FRAMES)]
    film = np.stack([cv2.warpPerspective(PHOTO, p, SIZE, borderMode=4) for p in powers])
    for t in range(FRAMES):
        film[t, 40:70, 20 + 6 * t : 50 + 6 * t] = PHOTO[100:130, 100:130]
    motion, _ = film_motion(film, 30, camera=True, method="dis")
    starts = np.array([track.points[0] for track in motion.tracks])
    wanted = np.stack([cv2.perspectiveTransform(starts[None], p)[0] for p in powers], axis=1)
    assert len(starts) >= 28
    assert_allclose(motion.paths(FRAMES)[: len(starts)], wanted, atol=1.5)


def test_a_large_film_is_followed_small_but_answers_in_its_own_pixels(monkeypatch):
    monkeypatch.setattr(film_module, "LONG_SIDE", 80)
    motion, _ = film_motion(FILM, np.array([[100.0, 60.0]]))
    path = motion.paths(FRAMES)[0]
    assert motion.size == SIZE and path[0].tolist() == [100, 60]
    assert_allclose(path[-1], [100 - 2 * (FRAMES - 1), 60], atol=2)


def test_another_tracker_plugs_in(monkeypatch):
    def tracker(frames, points):
        assert frames.shape == (FRAMES, 3, 120, 160)
        return points[:, None] + np.arange(FRAMES)[None, :, None], np.ones((1, FRAMES), bool)

    monkeypatch.setitem(film_module.TRACKERS, "mine", tracker)
    motion, _ = film_motion(FILM, np.array([[50.0, 60.0]]), method="mine")
    assert motion.tracks[0].points == ((50, 60), (55, 65))


def test_a_files_frames_and_seconds_are_read_and_so_many_of_them_followed(tmp_path):
    write_clip(tmp_path / "film.mp4", FILM, 8)
    motion, notes = film_motion_of(tmp_path / "film.mp4", 4, num_frames=3)
    assert isinstance(motion, Motion)
    assert "3 frames at 8 per second" in notes[-1]


REFUSED = [
    ({"film": np.concatenate([FILM[:4], 255 - FILM[:4]])}, "has a cut at frame 4"),
    ({"film": FILM[:1]}, "two or more frames, but 1 came"),
    ({"points": 0}, "points must be a whole number from 1"),
    ({"points": np.array([[500.0, 3.0]])}, "must lie inside the film's first frame"),
    ({"at": "edges"}, "must be one of grid, corners, but 'edges' came"),
    ({"method": "sift"}, "flow method must be one of dis"),
    ({"film": SQUARE, "camera": True}, "the camera's motion cannot be made out from"),
    ({"film": BLACK, "at": "corners"}, "shows no corner to follow"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED)
def test_what_cannot_be_followed_gets_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        film_motion(**{"film": FILM, **given})


def test_a_flash_is_no_cut():
    film = FILM.copy()
    film[3:5] = 255 - (255 - film[3:5]) // 4
    film_motion(film, 4)
