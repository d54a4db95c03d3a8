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


DECODED = {  # scores of bins along x and y, all others `rest`; estimate -> displacement
    "a sure score is its bin's, x first": ({4: 200}, {17: 200}, 0, "mean", (4, 17)),
    "a shared score is the mean": ({2: 0, 4: 0}, {2: 0, 4: 0}, -200, "mean", (3, 3)),
    "flow saturates at the outermost bins": ({0: 1e4}, {20: 1e4}, 0, "mean", (0, 20)),
    "and so does its median": ({0: 1e4}, {20: 1e4}, 0, "median", (0, 20)),
    "no score at all is no motion": ({}, {}, 0, "mean", (10, 10)),
    "nor is its median": ({}, {}, 0, "median", (10, 10)),
}


@pytest.mark.parametrize("what", DECODED)
def test_scores_become_displacements(what):
    x, y, rest, estimate, bins = DECODED[what]
    net = S2D(replace(tiny.small_s2d().config, estimate=estimate))
    scores = torch.full((2, 21), float(rest))
    for axis, told in enumerate((x, y)):
        for k, value in told.items():
            scores[axis, k] = value
    flow = net.decode(scores.flatten().view(1, 42, 1, 1)).flatten()
    torch.testing.assert_close(flow, torch.tensor([centre(k) for k in bins]), atol=1e-5, rtol=1e-5)


def test_the_median_is_the_place_that_half_of_the_probability_lies_below():
    net, width = S2D(replace(tiny.SMALL_S2D, estimate="median")), 32 / 21
    shares = torch.full((1, 2, 21, 1, 1), 1e-9)
    shares[0, 0, [4, 5, 6, 15]] = torch.tensor([0.1, 0.3, 0.2, 0.4]).view(4, 1, 1)
    shares[0, 1, [3, 9]] = torch.tensor([0.49, 0.51]).view(2, 1, 1)
    flow = net.decode(shares.log().flatten(1, 2)).flatten()
    x, y = -16 + width * 6.5, -16 + width * (9 + 0.01 / 0.51)  # in the middle of bin 6; early in 9
    torch.testing.assert_close(flow, torch.tensor([x, y]), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="must be one of mean, median, but 'mode' came"):
        replace(tiny.SMALL_S2D, estimate="mode")


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
def test_a_hint_moves_otherwise_on_another_image_and_a_still_one_is_not_none():
    net, hints = tiny.small_s2d(), hints_at((30, 30, 6, 6), frames=1)
    features = [grid_features(net, picture(seed)) for seed in (0, 1)]
    flows = [grid_flow(net, known, hints) for known in features]
    assert (flows[0] - flows[1]).abs().max() > 1e-3
    none, pin = hints_at(frames=1), hints_at((30, 30, 0, 0), frames=1)
    without, held = (net(features[0], each.flow, each.mask) for each in (none, pin))
    assert (without - held).abs().max() > 1e-4


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


def test_tracks_on_the_brush_move_only_what_it_covers_and_tracks_off_it_the_rest(sure):
    features, moved = grid_features(sure, picture()), torch.tensor([[centre(3)], [centre(15)]])
    track = [(5, 5, 1, 1)], [(50, 5, 1, 1)]
    for hints, whole, none in (
        (brushed(inside=track[0]), slice(32), slice(33, None)),
        (brushed(inside=[], outside=track[1]), slice(33, None), slice(32)),
    ):
        flow = dense_flow(sure, features, hints, (GRID, GRID))
        torch.testing.assert_close(flow[0, :, 7, whole], moved.expand_as(flow[0, :, 7, whole]))
        torch.testing.assert_close(flow[0, :, 7, 32:33], moved / 2)
        assert not flow[..., none].any()


def test_as_released_a_motion_along_one_axis_is_lost_on_the_brush(sure):
    bias = sure.flow_decoder.head.bias.data.view(2, -1)
    bias[1] = -1e4
    bias[1, 10] = 0  # exactly no motion down
    features, hints = grid_features(sure, picture()), brushed(inside=[(5, 5, 1, 0)])
    right = dense_flow(sure, features, hints, (GRID, GRID))
    assert (right[0, 0, 7, :32] + 10.66).abs().max() < 0.01
    released = dense_flow(sure, features, hints, (GRID, GRID), as_released=True)
    assert not released.any()
