"""Camera moves of the pad: tracks over the whole picture."""

import math

import numpy as np
import pytest
from state_hands import SIZE, drag, pad

from mofa_nb.motion.camera import CAMERAS, camera_tracks
from mofa_nb.motion.motion import Motion


@pytest.mark.parametrize(
    ("name", "strength", "zoom", "shift"),
    [
        ("Pan left", 0.25, 1, (100, 0)),
        ("Zoom in", 0.5, 1.5, (0, 0)),
        ("Zoom out", 0.5, 1 / 1.5, (0, 0)),
    ],
)
def test_a_camera_pans_by_its_strength_and_zooms_about_the_middle(name, strength, zoom, shift):
    for track in camera_tracks(name, strength, SIZE):
        start, end = np.array(track.points[0]), np.array(track.points[-1])
        wanted = (200, 150) + zoom * (start - (200, 150)) + shift
        assert end == pytest.approx(wanted, abs=0.02)


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
