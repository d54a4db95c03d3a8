"""Control points become one position a frame, at the speed and in the span asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofa_nb.motion.motion import Track
from mofa_nb.motion.tracks import EASINGS


def x_of(track, num_frames):
    return track.path(num_frames)[:, 0]


def test_a_path_passes_through_its_control_points_at_their_times():
    track = Track([(0, 0), (10, 5), (12, 1)], times=(0, 0.75, 1))
    path = track.path(9)
    np.testing.assert_allclose(path[[0, 6, 8]], [(0, 0), (10, 5), (12, 1)])


def test_a_coordinate_never_overshoots_its_control_points():
    x = x_of(Track([(0, 0), (1, 0), (100, 0), (100, 0)]), 301)
    assert (np.diff(x) >= 0).all() and x.max() == 100


STANDS = {  # x of the control points, timing -> x in each frame
    "at rest before its first time and after its last":
        ((0, 10), {"times": (0.25, 0.75)}, (0, 0, 0, 2.5, 5, 7.5, 10, 10, 10)),
    "between its start and its end":
        ((0, 10), {"start": 0.5, "end": 0.75}, (0, 0, 0, 0, 0, 5, 10, 10, 10)),
    "at every control point for a while":
        ((0, 10, 20), {"speed": "hold"}, (0, 5, 10, 10, 10, 15, 20, 20, 20)),
    "at an even pace": ((0, 10), {"speed": "linear"}, (0, 2.5, 5, 7.5, 10)),
    "slow at first": ((0, 10), {"speed": "ease_in"}, (0, 0.625, 2.5, 5.625, 10)),
    "slow at last": ((0, 10), {"speed": "ease_out"}, (0, 4.375, 7.5, 9.375, 10)),
    "slow at both ends": ((0, 10), {"speed": "ease"}, (0, 1.5625, 5, 8.4375, 10)),
}  # fmt: skip


@pytest.mark.parametrize("where", STANDS)
def test_a_track_stands_where_its_timing_says(where):
    places, timing, wanted = STANDS[where]
    track = Track([(x, 0) for x in places], **timing)
    np.testing.assert_allclose(x_of(track, len(wanted)), wanted)


def test_points_that_all_but_coincide_rest():
    path = Track([(0, 0), (0, 0), (0, 5e-324)]).path(4)
    np.testing.assert_allclose(path, np.zeros((4, 2)), atol=1e-300)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    points=st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), min_size=2, max_size=6),
    speed=st.sampled_from(EASINGS),
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
