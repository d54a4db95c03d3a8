"""Sparse to dense beyond its recorded numbers: estimates of bins, hints that repeat, the brush."""

from dataclasses import replace

import pytest
import tiny
import torch

from mofa_nb.checks import InputError
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


DECODED = {  # scores of bins along x and y, all others `rest`; estimate -> displacement
    "flow saturates at the outermost bins": ({0: 1e4}, {20: 1e4}, 0, "mean", (0, 20)),
    "and so does its median": ({0: 1e4}, {20: 1e4}, 0, "median", (0, 20)),
    "no score at all is no motion": ({}, {}, 0, "median", (10, 10)),
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
