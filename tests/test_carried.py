"""The photograph where its flow takes it, and what is in front where things meet."""

import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.flow.splat import splat, splat_plan
from mofa_nb.flow.warp import (
    depth_order,
    forward_warped,
    motion_boundaries,
    ordered_splat,
    own_motion,
    with_soft_rims,
)
from mofa_nb.motion.motion import Motion, Track

SIZE, FRAMES = (64, 64), 4


@pytest.fixture(scope="module")
def image():
    """Noise in [-1, 1]."""
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def moving_right(pixels: float) -> torch.Tensor:
    """Flow [1, steps, 2, H, W]: the left half moves right, farther in every frame."""
    flow = torch.zeros(1, FRAMES - 1, 2, *SIZE)
    flow[0, :, 0, :, :32] = pixels * torch.arange(1, FRAMES).view(-1, 1, 1) / (FRAMES - 1)
    return flow


def bright_square(rows, columns, right=0.0, down=0.0):
    """A bright square on a dark picture, and a flow that moves the square alone."""
    scene, flow = torch.full((1, 3, *SIZE), -0.5), torch.zeros(1, 1, 2, *SIZE)
    scene[..., rows, columns] = 0.8
    flow[0, 0, :, rows, columns] = torch.tensor([right, down])[:, None, None]
    return scene, flow


def test_the_photograph_goes_where_the_flow_takes_it(image):
    moved = forward_warped(image, moving_right(16))
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(moved[-1, :, :, 17:32], image[0, :, :, 1:16], **close)
    torch.testing.assert_close(moved[-1, :, :, 49:], image[0, :, :, 49:], **close)
    front = moved[-1, :, :, 32:47]  # what moved farther
    torch.testing.assert_close(front, image[0, :, :, 16:31], atol=0.01, rtol=0)
    filled = forward_warped(torch.full_like(image, 0.5), moving_right(16))  # holes from around them
    torch.testing.assert_close(filled, torch.full_like(filled, 0.5), atol=0.05, rtol=0)


def test_the_photograph_tears_between_two_motions(image):
    steps = torch.tensor([0.0] * 20 + [4, 4, 9, 9, 12, 12] + [16.0] * 38)
    for turned in (False, True):
        flow = torch.zeros(1, 1, 2, *SIZE)
        flow[0, 0, 1 if turned else 0] = steps[:, None] if turned else steps
        lines = motion_boundaries(flow, flow.norm(dim=2, keepdim=True))[0, 0, 0].all(
            0 if not turned else 1
        )
        assert lines.nonzero().flatten().tolist() == [18, 19, 20, 21, 22, 23, 24, 25]
    assert not motion_boundaries(moving_right(16), moving_right(16).norm(dim=2, keepdim=True)).any()


def test_what_moves_by_half_a_pixel_stays_sharp():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    wave = lambda x, y: (1.5 * x).sin() * (1.1 * y).cos()  # noqa: E731
    flow = torch.full((1, 1, 2, *SIZE), 2.5)
    moved = forward_warped(wave(x, y).expand(1, 3, -1, -1), flow)[0, 0, 8:-8, 8:-8]
    wanted = wave(x - 2.5, y - 2.5)[8:-8, 8:-8]
    landed = splat(wave(x, y)[None, None], flow[0])[0, 0, 8:-8, 8:-8]
    error, blurred = ((each - wanted).std() / wanted.std() for each in (moved, landed))
    assert error < 0.15 < 0.35 < blurred


def test_a_hole_is_filled_with_what_lies_behind():
    scene, flow = bright_square(slice(20, 40), slice(20, 40), right=8)
    moved = forward_warped(scene, flow)
    torch.testing.assert_close(moved[0, :, 20:40, 20:27], scene[0, :, :20, :7], atol=0.06, rtol=0)
    torch.testing.assert_close(moved[0, :, 21:39, 29:47], scene[0, :, 21:39, 21:39])


@pytest.mark.parametrize(("top", "fill"), [(20, -0.5), (0, 0.8)])
def test_what_the_picture_cut_off_goes_on_beyond_its_end(top, fill):
    square = bright_square(slice(top, top + 20), slice(20, 40), down=12)
    moved = forward_warped(*square)[0, :, top : top + 12, 27:33]
    torch.testing.assert_close(moved[:, 7:11], torch.full((3, 4, 6), fill), atol=0.06, rtol=0)
    assert (moved[:, 0] + 0.5).abs().max() < 0.02  # it tapers


def test_only_the_rims_of_moved_things_are_soft(image):
    landed = torch.zeros(1, 1, *SIZE)
    landed[..., 20:40, 32:] = 10
    changed = (with_soft_rims(image, landed) != image).any(1)[0]
    assert changed[20:40, [31, 32]].all() and changed[[19, 20, 39, 40], 33:].all()
    assert not changed[:18].any() and not changed[22:38, :31].any()
    assert not changed[22:38, 33:].any()


def test_a_hole_that_a_moving_camera_leaves_is_filled_from_beside_it():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[:, :, 0] = 12
    moved = forward_warped(ramp, flow)
    assert (moved[0, 0, :, :12] + 1).abs().max() < 0.3


def test_what_stretches_is_filled_evenly():
    flow = torch.zeros(1, 1, 2, *SIZE)
    flow[0, 0, 1] = torch.linspace(0, 12, 64)[:, None]
    picture = torch.linspace(-1, 1, 64)[:, None].expand(1, 3, 64, 64)
    moved = forward_warped(picture, flow)
    rows = torch.arange(52)
    expected = picture[0, 0, :, 0][(rows * 63 / 75).round().long()]
    assert (moved[0, 0, :52, 5] - expected).abs().max() < 0.05


@pytest.mark.parametrize("camera", [0.0, 6.0])
def test_what_moves_unlike_the_picture_is_in_front(camera):
    # Dragged over what rests, or at rest over what pans.
    scene, flow = bright_square(slice(24, 40), slice(24, 40), right=6 - 2 * camera)
    flow[:, :, 0] += camera
    moved = forward_warped(scene, flow)
    begin = 24 + round(6 - camera)
    assert (moved[0, :, 25:39, begin + 1 : begin + 15] - 0.8).abs().max() < 0.01
    own = own_motion(flow[0]).norm(dim=1)[0]
    assert (own[24:40, 24:40] - 6).abs().max() < 0.05 and own[:24].max() < 0.05


def test_a_camera_that_zooms_has_no_motion_of_its_own():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    zoom = 0.2 * (torch.stack([x, y]) - 31.5)[None]
    assert own_motion(zoom).abs().max() < 1e-3


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
        moved = forward_warped(2 * image - 1, flow[None], depth_order(motion, flow))
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
