"""Pictures say what they should: colours keep their meaning, drawings lie where they belong."""

import numpy as np
import pytest
import torch

from mofa_nb.flow.sparse import motion_hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show import (
    TRACK_COLOURS,
    default_scale,
    draw_hints,
    draw_tracks,
    filmstrip,
    flow_legend,
    flow_to_rgb,
    grid,
    heat_map,
    longest_vector,
    side_by_side,
    wheel_picture,
)
from mofa_nb.show.colours import colour_wheel
from mofa_nb.show.drawing import direction_colour
from mofa_nb.show.layout import with_caption


def plain_flow(dx, dy, height=8, width=12):
    flow = np.zeros((2, height, width), np.float32)
    flow[0], flow[1] = dx, dy
    return flow


def grey(height=64, width=96, value=128):
    return np.full((height, width, 3), value, np.uint8)


def has_colour(picture, colour, tolerance=2):
    return (np.abs(picture.astype(int) - colour).max(-1) <= tolerance).any()


COLOURS = {  # what a flow says at scale 4 -> its colour
    "no motion is white": (0, 0, (255, 255, 255)),
    "right is red": (4, 0, (255, 0, 0)),
    "left is cyan": (-4, 0, (0, 209, 255)),
    "shorter vectors are paler": (1, 0, (255, 191, 191)),
    "longer ones than the scale are darker": (8, 0, (191, 0, 0)),
}


@pytest.mark.parametrize("what", COLOURS)
def test_colours_tell_direction_and_length(what):
    dx, dy, colour = COLOURS[what]
    assert (flow_to_rgb(plain_flow(dx, dy), scale=4) == colour).all()


def test_frames_of_one_clip_compare_with_one_another():
    clip = np.stack([plain_flow(0.5, 0), plain_flow(1, 0)])
    together = flow_to_rgb(clip)
    assert together.shape == (2, 8, 12, 3)
    assert np.array_equal(together[0], flow_to_rgb(clip[0]))
    assert together[0, 0, 0, 1] > together[1, 0, 0, 1]
    alone = flow_to_rgb(clip, as_released=True)
    assert np.array_equal(alone[0], alone[1])


def test_unknown_flow_is_black_and_leaves_its_neighbours_alone():
    flow = plain_flow(1, -3)
    plain = flow_to_rgb(flow)
    assert np.array_equal(flow_to_rgb(torch.from_numpy(flow)), plain)
    flow[0, 0, 0], flow[1, 0, 1], flow[0, 0, 2] = np.nan, np.inf, 2e7
    before = flow.copy()
    picture = flow_to_rgb(flow)
    assert (picture[0, :3] == 0).all() and np.array_equal(picture[1], plain[1])
    np.testing.assert_array_equal(flow, before)


def test_the_wheel_has_no_jump():
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    steps = np.abs(np.diff(np.concatenate([wheel, wheel[:1]]), axis=0)).max(1)
    assert steps.max() <= 0.26


def test_the_legend_shows_each_direction_where_it_points_and_grows_with_nothing_but_its_side():
    wheel = wheel_picture(96)
    red, green, blue = wheel[48, 92].astype(int)
    assert red > 240 and green < 40 and blue < 40
    assert wheel[48, 48].min() > 230 and (wheel[0, 0] == 255).all()
    assert flow_legend(32).shape == flow_legend(0.5).shape == (132, 112, 3)
    assert direction_colour(5, 0)[0] == 255 and direction_colour(5, 0)[1] < 80


def test_scales_follow_the_picture_or_the_longest_vector():
    assert default_scale(128, 192) == 32
    flow = plain_flow(3, 4)
    flow[0, 0, 0] = np.nan
    assert longest_vector(flow) == 5
    assert longest_vector(plain_flow(0, 0)) == 1


@pytest.fixture
def motion():
    return Motion((96, 64), [[(20, 20), (60, 20)], [(20, 50), (40, 40), (60, 50)]], [(80, 30)])


def test_drawn_tracks_have_their_colours_where_they_run(motion):
    image = grey()
    picture = draw_tracks(image, motion, min_side=384)
    assert picture.shape == (384, 576, 3) and (image == 128).all()
    assert has_colour(picture[20 * 6 - 3 : 20 * 6 + 3, 40 * 6 - 3 : 40 * 6 + 3], TRACK_COLOURS[0])
    assert has_colour(picture[225:300, 150:330], TRACK_COLOURS[1])
    assert has_colour(picture[30 * 6 - 3 : 30 * 6 + 3, 477:483], (255, 255, 255))
    assert (picture[:60] == 128).all()
    resting = draw_tracks(grey(), Motion((96, 64), [Track([(48, 32), (48, 32)])]))
    assert has_colour(resting, TRACK_COLOURS[0])  # its number


def test_a_motion_of_another_size_is_drawn_to_scale(motion):
    small, large = grey(64, 96), grey(128, 192)
    ours = draw_tracks(large, motion, min_side=384).astype(int)
    difference = np.abs(draw_tracks(small, motion, min_side=384) - ours)
    assert difference.mean() < 0.01 < np.abs(ours - 128).mean()


def test_the_brush_tints_what_it_covers():
    brush = np.zeros((64, 96), np.uint8)
    brush[:, :40] = 255
    picture = draw_tracks(grey(), Motion((96, 64), brush=brush), min_side=64)
    assert picture[32, 10, 2] > picture[32, 10, 0] + 20
    assert (picture[32, 60] == 128).all()


def test_a_path_that_leaves_the_picture_still_shows_its_arrow():
    gone = draw_tracks(grey(), Motion((96, 64), [[(60, 32), (150, 32)]]), min_side=384)
    edge = gone[150:234, -30:]
    assert has_colour(edge, TRACK_COLOURS[0])
    rows = (np.abs(edge.astype(int) - TRACK_COLOURS[0]).max(-1) <= 2).any(1).sum()
    assert rows > 8  # higher than the line alone: the head


def test_hints_point_where_their_flow_goes(motion):
    hints = motion_hints(motion, (64, 64), 5).outside
    picture = draw_hints(grey(), hints, min_side=384)
    assert has_colour(picture[115:130, 200:300], direction_colour(1, 0), 3)
    first = draw_hints(grey(), hints, frame=0, min_side=384)
    assert not has_colour(first[115:130, 280:300], direction_colour(1, 0), 3)


def test_a_caption_goes_beneath_and_wraps():
    short, long = with_caption(grey(), "one"), with_caption(grey(), "one two three four five six")
    assert short.shape[1] == 96 and short.shape[0] < long.shape[0]
    assert (short[:64] == 128).all() and short[64:].min() < 100


def test_a_filmstrip_shows_first_and_last_frame_and_few_frames_all():
    frames = np.stack([grey(value=v) for v in range(10, 150, 10)])
    strip = filmstrip(frames, count=4, title="mini model")
    assert has_colour(strip, (10, 10, 10), 0) and has_colour(strip, (140, 140, 140), 0)
    assert (strip[-1] == 255).all() and (strip[:, 0] == 255).all()
    strip = filmstrip(frames[::5], count=7)
    assert all(has_colour(strip, (v, v, v), 0) for v in (10, 60, 110))


def test_a_grid_takes_rows_of_different_lengths_and_sizes_and_a_row_scales_to_one_height():
    pictures = [[grey(40, 40, 10), grey(60, 30, 20)], [grey(20, 80, 30)]]
    sheet = grid(pictures, [["a", ""], ["c"]], row_labels=["first", "second"], title="Everything")
    assert all(has_colour(sheet, (v, v, v), 0) for v in (10, 20, 30))
    row = side_by_side([grey(40, 40, 10), grey(80, 80, 20)])
    assert (row == 10).all(-1).any(0).sum() == 80


def test_a_heat_map_shows_low_high_and_nothing_for_nan_and_given_ends_compare():
    values = np.linspace(0, 1, 64).reshape(8, 8)
    values[0, 0] = np.nan
    picture = heat_map(values)
    assert has_colour(picture, (170, 170, 170), 0)
    assert has_colour(picture[:128, :128], (253, 231, 37), 2)  # viridis' upper end
    assert heat_map(np.full((8, 8), np.nan)).shape[0] == 128
    low, high = (heat_map(np.full((8, 8), v), low=0, high=1)[64, 64] for v in (0.2, 0.8))
    assert low.tolist() != high.tolist()
