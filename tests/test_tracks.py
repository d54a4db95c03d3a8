"""Control points become one position a frame, at the speed and in the span asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofa_nb.motion.motion import Track
from mofa_nb.motion.tracks import SPEEDS


def x_of(track, num_frames):
    return track.path(num_frames)[:, 0]


def test_a_path_passes_through_its_control_points_at_their_times():
    track = Track([(0, 0), (10, 5), (12, 1)], times=(0, 0.75, 1))
    path = track.path(9)
    np.testing.assert_allclose(path[[0, 6, 8]], [(0, 0), (10, 5), (12, 1)])


def test_a_coordinate_never_overshoots_its_control_points():
    x = x_of(Track([(0, 0), (1, 0), (100, 0), (100, 0)]), 301)
    assert (np.diff(x) >= 0).all() and x.max() == 100


def test_a_track_rests_before_its_first_time_and_after_its_last():
    x = x_of(Track([(0, 0), (10, 0)], times=(0.25, 0.75)), 9)
    np.testing.assert_allclose(x, [0, 0, 0, 2.5, 5, 7.5, 10, 10, 10])


def test_start_and_end_bound_the_movement():
    x = x_of(Track([(0, 0), (10, 0)], start=0.5, end=0.75), 9)
    np.testing.assert_allclose(x, [0, 0, 0, 0, 0, 5, 10, 10, 10])


HALFWAY = {"linear": 5, "ease_in": 2.5, "ease_out": 7.5, "ease": 5, "hold": 10}
QUARTER = {"linear": 2.5, "ease_in": 0.625, "ease_out": 4.375, "ease": 1.5625, "hold": 5}


@pytest.mark.parametrize("speed", SPEEDS)
def test_each_speed_stands_where_it_should_after_a_quarter_and_half_the_clip(speed):
    x = x_of(Track([(0, 0), (10, 0)], speed=speed), 5)
    np.testing.assert_allclose(x[[1, 2]], [QUARTER[speed], HALFWAY[speed]])


def test_hold_pauses_at_every_control_point():
    x = x_of(Track([(0, 0), (10, 0), (20, 0)], speed="hold"), 9)
    np.testing.assert_allclose(x, [0, 5, 10, 10, 10, 15, 20, 20, 20])


def test_points_that_all_but_coincide_rest():
    path = Track([(0, 0), (0, 0), (0, 5e-324)]).path(4)
    np.testing.assert_allclose(path, np.zeros((4, 2)), atol=1e-300)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    points=st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), min_size=2, max_size=6),
    speed=st.sampled_from(SPEEDS),
    num_frames=st.integers(2, 30),
)
def test_every_path_starts_and_ends_at_its_outer_points_and_stays_in_their_box(
    points, speed, num_frames
):
    path = Track(points, speed=speed).path(num_frames)
    np.testing.assert_allclose(path[[0, -1]], [points[0], points[-1]], atol=1e-9)
    low, high = np.min(points, 0), np.max(points, 0)
    assert ((path >= low - 1e-9) & (path <= high + 1e-9)).all()


def test_a_closed_loop_comes_back_or_goes_round_in_clips_of_any_length():
    line, ring = Track([(0, 0), (8, 0)]), Track([(0, 0), (9, 0), (9, 9), (0, 0)])
    for native in (None, 3):
        assert line.path(8, native, "close")[:, 0].tolist() == [0, 2, 4, 6, 8, 6, 4, 2]
        assert np.allclose(ring.path(9, native, "close"), ring.path(10)[:9])
