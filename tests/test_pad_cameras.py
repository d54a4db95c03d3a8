"""Camera moves of the pad: tracks over the whole picture."""

import math

import numpy as np
import pytest
from state_hands import SIZE, drag, pad

from mofa_nb.motion.motion import Motion
from mofa_nb.pad.presets import CAMERAS, camera_tracks


def test_panning_left_moves_the_picture_right_by_the_strength():
    for track in camera_tracks("Pan left", 0.25, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (x1 - x0, y1 - y0) == pytest.approx((100, 0), abs=0.02)


def test_zooming_moves_every_point_away_from_the_middle():
    for track in camera_tracks("Zoom in", 0.5, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (x1 - 200, y1 - 150) == pytest.approx((1.5 * (x0 - 200), 1.5 * (y0 - 150)), abs=0.02)


def test_zooming_out_undoes_zooming_in():
    for track in camera_tracks("Zoom out", 0.5, SIZE):
        (x0, y0), (x1, y1) = track.points
        assert (1.5 * (x1 - 200), 1.5 * (y1 - 150)) == pytest.approx((x0 - 200, y0 - 150), abs=0.05)


def test_rotating_keeps_the_distance_to_the_middle_and_turns_clockwise_for_left():
    for track in camera_tracks("Rotate left", 0.5, SIZE):
        away = np.hypot(*(np.array(track.points) - (200, 150)).T)
        assert np.ptp(away) < 0.05
        (x0, y0), (x1, y1) = track.points[0], track.points[-1]
        turn = math.atan2(y1 - 150, x1 - 200) - math.atan2(y0 - 150, x0 - 200)
        assert math.degrees(turn) % 360 == pytest.approx(45, abs=0.2)


@pytest.mark.parametrize("size", [(400, 300), (1024, 200), (60, 900)])
@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_move_at_full_strength_is_a_valid_motion(name, size):
    tracks = camera_tracks(name, 1.0, size)
    assert 16 <= len(Motion(size, tracks).tracks) <= 240


def test_a_camera_move_spares_what_is_drawn_and_replaces_the_last_one():
    state = pad()
    drag(state, (50, 37), (80, 37))
    state.add_camera("Pan left", 0.2)
    around = camera_tracks("Pan left", 0.2, SIZE)
    assert len(state.motion.tracks) == 1 + len(around) - 1  # the cell at (36, 37) is taken
    state.add_camera("Zoom in", 0.2)
    assert state.motion.tracks[0].points[0] == (50, 37)
    assert len(state.motion.tracks) == len(around)
    state.undo()
    state.undo()
    assert len(state.motion.tracks) == 1
