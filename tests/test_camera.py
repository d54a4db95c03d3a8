"""A camera moves all that is drawn, and fills the rest of the picture; in words and in files."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mofa_nb.checks import InputError
from mofa_nb.flow.sparse import grid_paths
from mofa_nb.motion.camera import CAMERAS, CameraMove, camera_tracks
from mofa_nb.motion.fit import fit_motion, plan_fit
from mofa_nb.motion.motion import Motion

SIZE = (100, 80)
DRAWN = Motion(SIZE, [[(20, 20), (60, 20)]], [(5, 6)])


def filmed(camera, **given):
    return Motion(SIZE, **{"tracks": DRAWN.tracks, "pins": DRAWN.pins, **given}, camera=camera)


def test_a_camera_moves_what_is_drawn_and_all_around_it_but_no_pin():
    motion = filmed("pan_left 0.1").filmed()
    assert motion.tracks[0].points == ((20, 20), (70, 20))
    assert motion.pins == DRAWN.pins and motion.camera == ()
    around = [np.array(track.points) for track in motion.tracks[1:]]
    assert len(around) >= 15
    for points in around:
        assert_allclose(points[-1] - points[0], (10, 0))
        assert np.hypot(*(points[0] - (20, 20))) > 10 < np.hypot(*(points[0] - (5, 6)))


def test_moves_add_up_each_at_its_own_speed():
    motion = filmed("zoom_in 0.5, pan_up 0.1 ease_in", tracks=[[(75, 40), (75, 41)]])
    path = motion.filmed().tracks[0].path(3)
    assert_allclose(path[1], [50 + 25 * 1.25, 40 + 0.5 * 1.25 + 80 * 0.1 / 4], atol=0.2)
    assert_allclose(path[2], [50 + 25 * 1.5, 40 + 1.5 + 8], atol=0.02)


MOVES = {  # where (75, 40) of a picture with its middle at (50, 40) is taken
    "pan_left 0.1": (85, 40), "pan_right 0.1": (65, 40),
    "pan_up 0.1": (75, 48), "pan_down 0.1": (75, 32),
    "zoom_in 0.5": (87.5, 40), "zoom_out 0.5": (66.67, 40),
    "rotate_left 0.5": (67.68, 57.68), "rotate_right 0.5": (67.68, 22.32),
}  # fmt: skip


@pytest.mark.parametrize("camera", MOVES)
def test_each_move_takes_a_point_where_its_name_says(camera):
    moved = filmed(camera, tracks=[[(75, 40), (75, 40.01)]]).filmed().tracks[0]
    assert_allclose(moved.points[-1], MOVES[camera], atol=0.02)
    if "rotate" in camera:
        assert_allclose(np.hypot(*np.subtract(moved.points, (50, 40)).T), 25, atol=0.025)


@pytest.mark.parametrize("size", [(400, 300), (1024, 200), (60, 900)])
@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_move_at_full_strength_is_a_valid_motion(name, size):
    assert 16 <= len(Motion(size, camera_tracks(name, 1.0, size)).tracks) <= 240


def test_a_turn_on_a_grid_of_another_shape_is_one_of_the_picture():
    paths = grid_paths(filmed("rotate_left 1", tracks=[[(70, 40), (70, 40.2)]]), (64, 64), 3)
    assert_allclose(paths[0, -1], [50 * 0.64, 60 * 0.8], atol=0.2)


def test_where_a_track_starts_on_the_brush_the_camera_leaves_the_brush_alone():
    brush = np.zeros((80, 100), np.uint8)
    brush[:50, :50] = 255
    on = [start for start in _starts(filmed("zoom_in 0.2", brush=brush)) if max(start) < 50]
    assert on == [(20, 20)]
    bare = filmed("zoom_in 0.2", brush=brush, tracks=())
    assert len([start for start in _starts(bare) if max(start) < 50]) == 3


def _starts(motion):
    return [track.points[0] for track in motion.filmed().tracks]


def test_a_cropped_picture_is_filled_by_tracks_that_all_start_inside():
    fitted, _ = fit_motion(filmed("pan_left 0.1", tracks=()), plan_fit(SIZE, 8, size=(32, 64)))
    assert len(fitted.tracks) > 10 and fitted.size == (32, 64)


def test_a_camera_is_kept_by_files_and_by_another_size():
    motion = filmed("Zoom in 0.2, pan_left 0.1 ease")
    assert motion.to_json()["camera"] == "zoom_in 0.2, pan_left 0.1 ease"
    assert Motion.from_json(motion.to_json()) == motion != DRAWN
    assert motion.resized((50, 40)).camera == motion.camera == (
        CameraMove("zoom_in", 0.2), CameraMove("pan_left", 0.1, "ease"),
    )  # fmt: skip
    assert not Motion(SIZE, camera="zoom_in 0.2").is_empty


REFUSED = [
    ("fly 0.2", "the camera move must be one of pan_left, .*'fly' came"),
    ("zoom_in", "a name, a strength and perhaps a speed"),
    ("zoom_in 0.2 ease 3", "a name, a strength and perhaps a speed"),
    ("zoom_in 0.2 wild", "a camera's speed must be one of linear"),
    ("zoom_in 1.2.3", "a name, a strength and perhaps a speed"),
    ("zoom_in 2", "strength must lie between 0.01 and 1"),
    ("zoom_in nan", "a name, a strength and perhaps a speed"),
    (3, "camera must be text like"),
]


@pytest.mark.parametrize(("camera", "sentence"), REFUSED)
def test_what_is_no_camera_move_gets_one_sentence(camera, sentence):
    with pytest.raises(InputError, match=sentence):
        Motion(SIZE, camera=camera)
