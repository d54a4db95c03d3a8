"""Depth: what a track says of it, and what is in front where things meet."""

import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.flow.splat import splat_plan
from mofa_nb.flow.warp import carried, depth_order, ordered_splat
from mofa_nb.motion.motion import Motion, Track

RED, BLUE, GREY = 0.9, 0.1, 0.5


def crossing(left: float | None, right: float | None, *, frames: int = 5):
    """Two squares that change into the middle of 96 x 48 pixels: picture, flow, motion."""
    image = torch.full((1, 3, 48, 96), GREY)
    flow = torch.zeros(frames - 1, 2, 48, 96)
    steps = torch.linspace(0, 1, frames)[1:, None, None]
    for x, colour, way in ((20, RED, 20.0), (60, BLUE, -20.0)):
        image[..., 16:32, x : x + 16] = colour
        flow[:, 0, 16:32, x : x + 16] = steps * way
    tracks = [Track(((28, 24), (48, 24)), depth=left), Track(((68, 24), (48, 24)), depth=right)]
    return image, flow, Motion((96, 48), tracks)


def met(image, flow, motion):
    """What lies in the middle at the end, as the adapter's features are warped."""
    order = depth_order(motion, flow)
    order = None if order is None else order[None]
    return float(ordered_splat(flow[None], order).apply(image)[0, -1, 0, 24, 48])


def test_what_is_nearer_is_in_front_where_things_meet():
    assert met(*crossing(0, 1)) == pytest.approx(RED, abs=0.01)
    assert met(*crossing(1, 0)) == pytest.approx(BLUE, abs=0.01)
    assert met(*crossing(None, -2)) == pytest.approx(BLUE, abs=0.01)  # no depth is depth 0


def test_without_depths_what_meets_is_averaged_as_in_the_release():
    image, flow, motion = crossing(None, None)
    assert depth_order(motion, flow) is None
    plain = splat_plan(flow[None]).apply(image)
    assert torch.equal(ordered_splat(flow[None], None).apply(image), plain)
    assert float(plain[0, -1, 0, 24, 48]) == pytest.approx((RED + BLUE + GREY) / 3, abs=0.01)


def test_a_pixel_follows_the_track_that_moves_like_it_and_the_rest_lies_behind():
    _, flow, motion = crossing(0, 1)
    order = depth_order(motion, flow)[0]
    assert order[24, 28] == 2 and order[24, 68] == 1
    assert order[4, 4] == order[44, 90] == 0


def test_a_brushed_thing_that_stays_is_in_front_of_what_moves():
    _, flow, motion = crossing(1, None)
    flow[:, :, :, 48:] = 0
    brush = torch.zeros(48, 96, dtype=torch.bool)
    brush[16:32, 60:76] = True
    still = Track(((68, 24), (68, 24)))
    motion = Motion((96, 48), [motion.tracks[0], still], brush=brush.numpy())
    order = depth_order(motion, flow)[0]
    assert order[20, 62] == 2 and order[24, 28] == 1 and order[20, 80] == 0


def test_the_photograph_itself_is_carried_in_that_order_too():
    for depths, expected in (((0, 1), RED), ((1, 0), BLUE)):
        image, flow, motion = crossing(*depths)
        moved = carried(2 * image - 1, flow[None], depth_order(motion, flow))
        assert float(moved[-1, 0, 24, 48]) == pytest.approx(2 * expected - 1, abs=0.05)


def test_hundreds_of_depths_are_kept_apart_in_float32():
    tracks = [Track(((x, 2.0), (x, 8.0)), depth=x) for x in range(200)]
    flow = torch.zeros(3, 2, 16, 200)
    flow[:, 1] = torch.tensor([2.0, 4, 6])[:, None, None]
    order = depth_order(Motion((200, 16), tracks), flow)
    plan = ordered_splat(flow[None], order[None])
    assert plan.weight.isfinite().all() and order[0, 2, 0] == 200


def test_depth_is_kept_in_the_motion_file_and_a_wrong_one_is_refused():
    motion = Motion((96, 48)).with_track([(1, 1), (5, 5)], depth=-1)
    assert Motion.from_json(motion.to_json()) == motion
    assert motion.to_json()["tracks"] == [{"points": [[1, 1], [5, 5]], "depth": -1}]
    with pytest.raises(InputError, match="depth must be a number, but 'near' came"):
        Track([(1, 1), (5, 5)], depth="near")
