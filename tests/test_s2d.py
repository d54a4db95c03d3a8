"""Sparse to dense: displacement bins, image features made once, brush and grid around them."""

from dataclasses import replace

import pytest
import tiny
import torch

from mofa_nb.checks import InputError
from mofa_nb.config import S2DConfig
from mofa_nb.flow.dense import dense_flow, grid_features, grid_flow
from mofa_nb.flow.s2d import S2D
from mofa_nb.flow.sparse import BrushedHints, Hints

GRID = tiny.SMALL_S2D.grid


def hints_at(*moves, frames=2):
    """Hints on the grid: (x, y, dx, dy) moves by (dx, dy) in every frame."""
    flow, mask = torch.zeros(frames, 2, GRID, GRID), torch.zeros(frames, 1, GRID, GRID)
    for x, y, dx, dy in moves:
        flow[:, 0, y, x], flow[:, 1, y, x], mask[:, 0, y, x] = dx, dy, 1
    return Hints(flow, mask)


def picture(seed=0, size=(GRID, GRID)):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def sure():
    """A network whose every answer is (dx, dy) = the centres of bins 3 and 15."""
    net = S2D(tiny.SMALL_S2D).eval()
    torch.nn.init.zeros_(net.flow_decoder.head.weight)
    torch.nn.init.zeros_(net.flow_decoder.head.bias)
    bias = net.flow_decoder.head.bias.data.view(2, -1)
    bias[0, 3] = bias[1, 15] = 100
    return net


def centre(k, config=tiny.SMALL_S2D):
    """Displacement that bin k stands for."""
    return -config.flow_range + (k + 0.5) * 2 * config.flow_range / config.bins


@pytest.fixture
def calls(monkeypatch):
    """How many hint fields each run of the shared network was given."""
    counted, forward = [], S2D.forward

    def counting(self, features, flow, mask):
        counted.append(len(flow))
        return forward(self, features, flow, mask)

    monkeypatch.setattr(S2D, "forward", counting)
    return counted


# Bins


def test_bins_lie_evenly_around_zero_up_to_the_range():
    centres = tiny.released_s2d().bin_centres(torch.zeros(()))
    assert len(centres) == 99 and abs(centres[49]) < 1e-5
    torch.testing.assert_close(centres[[0, -1]], torch.tensor([-49.495, 49.495]), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres, -centres.flip(0), atol=2e-5, rtol=0)
    torch.testing.assert_close(centres.diff(), torch.full((98,), 100 / 99))


def test_a_sure_score_becomes_its_bins_displacement_x_first():
    net = tiny.small_s2d()
    scores = torch.zeros(1, 2, 21, 1, 1)
    scores[0, 0, 4] = scores[0, 1, 17] = 200
    flow = net.decode(scores.flatten(1, 2)).flatten()
    torch.testing.assert_close(flow, torch.tensor([centre(4), centre(17)]))


def test_a_shared_score_becomes_the_mean():
    scores = torch.full((1, 2, 21, 1, 1), -200.0)
    scores[0, :, [2, 4]] = 0
    flow = tiny.small_s2d().decode(scores.flatten(1, 2))
    torch.testing.assert_close(flow.flatten(), torch.full((2,), centre(3)))


def test_the_median_is_the_place_that_half_of_the_probability_lies_below():
    net, width = median_s2d(), 32 / 21
    shares = torch.full((1, 2, 21, 1, 1), 1e-9)
    shares[0, 0, [4, 5, 6, 15]] = torch.tensor([0.1, 0.3, 0.2, 0.4]).view(4, 1, 1)
    shares[0, 1, [3, 9]] = torch.tensor([0.49, 0.51]).view(2, 1, 1)
    flow = net.decode(shares.log().flatten(1, 2)).flatten()
    x, y = -16 + width * 6.5, -16 + width * (9 + 0.01 / 0.51)  # in the middle of bin 6; early in 9
    torch.testing.assert_close(flow, torch.tensor([x, y]), atol=1e-4, rtol=0)


def test_the_median_of_a_sure_score_is_its_bin_and_of_none_no_motion():
    net, scores = median_s2d(), torch.zeros(1, 2, 21, 1, 1)
    assert net.decode(scores.flatten(1, 2)).abs().max() < 1e-5
    scores[0, 0, 0] = scores[0, 1, 20] = 1e4
    end = 16 - 16 / 21
    torch.testing.assert_close(
        net.decode(scores.flatten(1, 2)).flatten(), torch.tensor([-end, end])
    )


def test_there_is_no_other_estimate():
    with pytest.raises(InputError, match="must be one of mean, median, but 'mode' came"):
        replace(tiny.SMALL_S2D, estimate="mode")


def median_s2d() -> S2D:
    """The small network, with the mini model's estimate."""
    return S2D(replace(tiny.small_s2d().config, estimate="median"))


def test_no_score_at_all_becomes_no_motion():
    flow = tiny.small_s2d().decode(torch.zeros(2, 42, 3, 3))
    assert flow.shape == (2, 2, 3, 3) and flow.abs().max() < 1e-5


def test_flow_saturates_at_the_outermost_bins():
    scores = torch.zeros(1, 2, 21, 1, 1)
    scores[0, 0, 0] = scores[0, 1, 20] = 1e4
    flow = tiny.small_s2d().decode(scores.flatten(1, 2)).flatten()
    end = 16 - 16 / 21
    torch.testing.assert_close(flow, torch.tensor([-end, end]))


def test_probabilities_of_each_axis_sum_to_one():
    scores = torch.randn(2, 42, 4, 5, generator=torch.Generator().manual_seed(1))
    shares = tiny.small_s2d().probabilities(scores)
    assert shares.shape == (2, 2, 21, 4, 5)
    torch.testing.assert_close(shares.sum(2), torch.ones(2, 2, 4, 5))


# Image features


@torch.no_grad()
def test_features_of_one_image_serve_all_hints_as_if_made_for_each():
    net, image = tiny.small_s2d(), picture()[None]
    hints = torch.cat([hints_at((9, 9, 5, -3), frames=1).flow, hints_at((40, 20, -4, 2)).flow])
    mask = (hints != 0).any(1, keepdim=True).float()
    shared = net(net.image_features(image), hints, mask)
    alone = net(net.image_features(image.expand(3, -1, -1, -1)), hints, mask)
    torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-5)
    assert (shared[0] - shared[1]).abs().max() > 1e-3


@torch.no_grad()
def test_features_do_not_depend_on_the_hints_and_stand_at_an_eighth_a_quarter_a_half():
    features = tiny.small_s2d().image_features(picture()[None])
    assert features.deep.shape == (1, 16, 8, 8)
    assert features.quarter.shape == (1, 32, 16, 16)
    assert features.half.shape == (1, 8, 32, 32)


@torch.no_grad()
def test_the_same_hint_on_another_image_moves_otherwise():
    net, hints = tiny.small_s2d(), hints_at((30, 30, 6, 6), frames=1)
    flows = [grid_flow(net, grid_features(net, picture(seed)), hints) for seed in (0, 1)]
    assert (flows[0] - flows[1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_hint_without_motion_is_not_the_same_as_no_hint():
    net, none = tiny.small_s2d(), hints_at(frames=1)
    pin = hints_at((30, 30, 0, 0), frames=1)
    features = grid_features(net, picture())
    difference = net(features, none.flow, none.mask) - net(features, pin.flow, pin.mask)
    assert difference.abs().max() > 1e-4


def test_networks_of_other_sizes_come_from_their_config_alone():
    config = S2DConfig.from_dict(tiny.SMALL_S2D.to_dict() | {"bins": 7, "width": 16})
    net = S2D(config).eval()
    flow, mask = torch.zeros(1, 2, 64, 96), torch.zeros(1, 1, 64, 96)
    features = net.image_features(torch.rand(1, 3, 64, 96))
    assert net.logits(features, flow, mask).shape == (1, 14, 32, 48)
    assert net(features, flow, mask).shape == (1, 2, 64, 96)


# Around the network


def test_nothing_hinted_is_no_motion_and_the_network_does_not_run(calls):
    net = tiny.small_s2d()
    flow = dense_flow(net, grid_features(net, picture()), hints_at(), (50, 70))
    assert flow.shape == (2, 2, 50, 70) and not flow.any() and calls == []


def test_frames_with_the_same_hints_are_computed_once(calls):
    net, still = tiny.small_s2d(), hints_at((9, 9, 4, 0), frames=5)
    later = hints_at((9, 9, 8, 0), frames=1)
    hints = Hints(torch.cat([still.flow, later.flow]), torch.cat([still.mask, later.mask]))
    features = grid_features(net, picture())
    flow = grid_flow(net, features, hints)
    assert calls == [2]
    one_by_one = [grid_flow(net, features, Hints(f[None], m[None])) for f, m in
                  zip(hints.flow, hints.mask, strict=True)]  # fmt: skip
    torch.testing.assert_close(flow, torch.cat(one_by_one), rtol=1e-5, atol=1e-5)


def test_flow_is_in_pixels_of_the_image_not_of_the_grid(sure):
    features = grid_features(sure, picture(size=(96, 160)))
    flow = dense_flow(sure, features, hints_at((9, 9, 1, 1)), (96, 160))
    assert flow.shape == (2, 2, 96, 160) and flow.dtype == torch.float32
    wanted = torch.tensor([centre(3) * 160 / GRID, centre(15) * 96 / GRID])
    torch.testing.assert_close(flow, wanted.view(1, 2, 1, 1).expand_as(flow))


def brushed(inside, outside=()):
    """Hints on and off a brush that covers the left half fully, one column halfway."""
    alpha = torch.zeros(1, GRID, GRID)
    alpha[..., :32], alpha[..., 32] = 1, 0.5
    return BrushedHints(hints_at(*outside), hints_at(*inside), alpha)


def test_tracks_on_the_brush_move_only_what_it_covers(sure):
    features = grid_features(sure, picture())
    flow = dense_flow(sure, features, brushed(inside=[(5, 5, 1, 1)]), (GRID, GRID))
    moved = torch.tensor([centre(3), centre(15)]).view(2, 1)
    torch.testing.assert_close(flow[0, :, 7, :32], moved.expand(2, 32))
    torch.testing.assert_close(flow[0, :, 7, 32:33], moved / 2)
    assert not flow[..., 33:].any()


def test_tracks_off_the_brush_move_only_the_rest(sure):
    features = grid_features(sure, picture())
    flow = dense_flow(sure, features, brushed(inside=[], outside=[(50, 5, 1, 1)]), (GRID, GRID))
    assert not flow[..., :32].any()
    torch.testing.assert_close(flow[0, 0, 7, 33:], torch.full((31,), centre(3)))
    torch.testing.assert_close(flow[0, 0, 7, 32], torch.tensor(centre(3) / 2))


def test_as_released_a_motion_along_one_axis_is_lost_on_the_brush(sure):
    bias = sure.flow_decoder.head.bias.data.view(2, -1)
    bias[1] = -1e4
    bias[1, 10] = 0  # exactly no motion down
    features, hints = grid_features(sure, picture()), brushed(inside=[(5, 5, 1, 0)])
    right = dense_flow(sure, features, hints, (GRID, GRID))
    assert (right[0, 0, 7, :32] + 10.66).abs().max() < 0.01
    released = dense_flow(sure, features, hints, (GRID, GRID), as_released=True)
    assert not released.any()
