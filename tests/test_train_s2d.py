"""Training S2D: its discrete loss, what it is scored on, what it is told and shown."""

import copy
import dataclasses

import tiny
import torch
from tiny import seeded
from torch import nn

from mofa_nb.faces.draw import landmark_hints
from mofa_nb.train.s2d import (
    ClipHints,
    discrete_loss,
    mirrored,
    picked,
    random_frames,
    recoloured,
    s2d_loss,
    scored_pixels,
)
from mofa_nb.train.sources import landmark_clip_hints

# The discrete loss of S2D


def scores_for(net, flow):
    """Log scores whose shares are the flow's place between two bin centres."""
    bins, reach = net.config.bins, net.config.flow_range
    position = (flow + reach) * bins / (2 * reach) - 0.5
    distance = (torch.arange(bins).view(1, 1, -1, 1, 1) - position.unsqueeze(2)).abs()
    return (1 - distance).clamp(min=1e-6).log().flatten(1, 2)


def test_the_discrete_loss_is_least_at_the_true_flow():
    net, flow = tiny.small_s2d(), 12 * torch.rand(1, 2, 4, 4, generator=seeded()) - 6
    known = torch.ones(1, 1, 4, 4, dtype=bool)
    least = discrete_loss(net, scores_for(net, flow), flow, known)
    for off in (-3.0, -0.3, 0.3, 3.0):
        assert discrete_loss(net, scores_for(net, flow + off), flow, known) > least
    truth = scores_for(net, flow).requires_grad_()
    discrete_loss(net, truth, flow, known).backward()
    assert truth.grad.abs().max() < 1e-4  # a stationary point


def test_a_flow_on_a_bin_centre_costs_nothing_when_sure_and_unknown_pixels_never():
    net, flow = tiny.small_s2d(), torch.full((1, 2, 1, 2), 0.0)
    scores = torch.full((1, 2, 21, 1, 2), -200.0)
    scores[:, :, 10, :, 0] = 200  # the middle bin is no motion; pixel 1 is wrong everywhere
    known = torch.tensor([True, False]).view(1, 1, 1, 2)
    assert discrete_loss(net, scores.flatten(1, 2), flow, known) < 1e-4
    assert discrete_loss(net, scores.flatten(1, 2), flow, ~known) > 2
    scores[:, :, 20] = 300  # beyond the range: taken as its end
    assert discrete_loss(net, scores.flatten(1, 2), flow + 99, known | True) < 1e-4


def test_moving_pixels_weigh_three_times():
    net, scores = tiny.small_s2d(), torch.zeros(1, 42, 1, 2)
    scores[0, 10, 0, 0] = 3.0
    flow = torch.zeros(1, 2, 1, 2)
    flow[0, 0, 0, 1] = 8.0
    each = [
        discrete_loss(net, scores, flow, torch.tensor(k).view(1, 1, 1, 2))
        for k in ([True, False], [False, True], [True, True])
    ]
    torch.testing.assert_close(each[2], (each[0] + 3 * each[1]) / 4)


def test_random_frames_are_different_and_include_the_last():
    for seed in range(5):
        frames = random_frames(4, 9, seeded(seed))
        assert len(set(frames)) == 4 and max(frames) == 8 and frames == sorted(frames)


def test_pixels_to_score_are_different_and_anywhere_more_often_where_they_weigh_more():
    torch.manual_seed(0)
    places = scored_pixels(torch.ones(3, 4096))
    assert places.shape == (3, 1024) and all(len(set(field)) == 1024 for field in places.tolist())
    quarters = torch.stack([(places // 1024 == k).float().mean() for k in range(4)])
    assert (quarters - 0.25).abs().max() < 0.05
    assert sorted(scored_pixels(torch.ones(1, 16))[0].tolist()) == list(range(16))
    weight = torch.ones(4, 16384)
    weight[:, :1024] = 4
    share = (scored_pixels(weight) < 1024).float().mean()
    assert abs(share - 4 * 1024 / weight[0].sum()) < 0.03
    values = torch.arange(2 * 3 * 64.0).view(2, 3, 8, 8)
    chosen = picked(values, torch.tensor([[0, 63], [9, 1]]))
    assert chosen[0, ..., 0].tolist() == [[0, 63], [64, 127], [128, 191]]
    assert chosen[1, ..., 0].tolist() == [[201, 193], [265, 257], [329, 321]]


def test_what_is_near_a_hint_may_count_more(scenes, monkeypatch):
    monkeypatch.setattr("mofa_nb.train.s2d.PIXELS", 64)
    flow = torch.zeros_like(scenes.flow)
    flow[..., 28:37, 28:37] = 3.0  # only the surroundings of the hint move
    moved = dataclasses.replace(scenes, flow=flow, visible=torch.ones_like(scenes.visible))
    hints = ClipHints(torch.zeros(4, 1, 64, 64, dtype=torch.bool), flow)
    hints.mask[:, :, 32, 32] = True

    def mean_motion(near):
        torch.manual_seed(0)
        _, extras = s2d_loss(tiny.small_s2d(), moved, hints, [0, 2], near_weight=near)
        return float(extras["still"])

    assert mean_motion(1.0) < 0.4 < mean_motion(1e6) / 2


def test_the_loss_of_s2d_falls_when_its_head_says_the_truth(scenes):
    net = copy.deepcopy(tiny.small_s2d()).eval()  # the other tests share it
    nn.init.zeros_(net.flow_decoder.head.weight)
    still = dataclasses.replace(scenes, flow=torch.zeros_like(scenes.flow))
    hints = ClipHints(torch.zeros(4, 1, 64, 64, dtype=bool), still.flow)
    bias = net.flow_decoder.head.bias.data.zero_().view(2, -1)
    with torch.no_grad():
        unsure, _ = s2d_loss(net, still, hints, [0, 2])
        bias[:, bias.shape[1] // 2] = 30.0
        sure, figures = s2d_loss(net, still, hints, [0, 2])
    assert unsure > 2 and sure < 0.01 and figures["epe"] < 0.01


def test_landmarks_tell_in_training_what_they_tell_in_use():
    landmarks = 64 * torch.rand(2, 4, 68, 2, generator=seeded())
    told = landmark_clip_hints(landmarks, (64, 64))
    flow, mask = told.on_grid((64, 64), [0, 2])
    used = [landmark_hints(points, (64, 64), (64, 64)) for points in landmarks]
    torch.testing.assert_close(mask, torch.cat([each.mask[[0, 2]] for each in used]))
    torch.testing.assert_close(flow, torch.cat([each.flow[[0, 2]] for each in used]))


def test_hints_are_told_in_pixels_of_the_grid_and_none_is_lost_on_a_coarser_one():
    mask, flow = torch.ones(1, 1, 16, 32, dtype=torch.bool), torch.full((1, 1, 2, 16, 32), 3.0)
    on_grid, known = ClipHints(mask, flow).on_grid((32, 32), [0])
    assert known[0, 0, ::2].all() and on_grid[0, :, 6, 5].tolist() == [3.0, 6.0]
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    mask[0, 0, 4::5, 4::5] = True  # 64 hints; a nearest resize to 32 would drop some
    flow = torch.randn(1, 3, 2, 40, 40, generator=seeded())
    told, known = ClipHints(mask, flow).on_grid((32, 32), [0, 2])
    assert known.shape == (2, 1, 32, 32) and known[0].sum() == known[1].sum() == 64
    torch.testing.assert_close(told[1, :, 11, 3], flow[0, 2, :, 14, 4] * 0.8)
    assert (told * (1 - known) == 0).all()


def test_a_mirrored_clip_moves_the_other_way(scenes, monkeypatch):
    hints = ClipHints(scenes.layers[:, None] > 0, scenes.flow)
    for drawn, dims in (
        ([0.1, 0.9], [-1]),
        ([0.9, 0.1], [-2]),
        ([0.1, 0.1], [-1, -2]),
        ([1, 1], []),
    ):
        numbers = iter(drawn)
        monkeypatch.setattr(torch, "rand", lambda *_, n=numbers: torch.tensor(next(n)))
        batch, told = mirrored(scenes, hints)
        sign = torch.tensor([-1.0 if d in dims else 1.0 for d in (-1, -2)])[:, None, None]
        assert torch.equal(batch.frames, scenes.frames.flip(dims))
        assert torch.equal(batch.flow, scenes.flow.flip(dims) * sign)
        assert torch.equal(told.flow, batch.flow) and torch.equal(told.mask[:, 0], batch.layers > 0)


def test_recoloured_clips_keep_their_outlines_and_their_frames_agree(scenes):
    torch.manual_seed(3)
    many = scenes.frames.repeat(8, 1, 1, 1, 1)
    made = recoloured(many)
    assert made.shape == many.shape and 0 <= made.min() and made.max() <= 1
    same = (made == many).flatten(1).all(dim=1)
    assert 0 < same.sum() < len(many) / 2
    still = many[:, :1].expand_as(many)
    made = recoloured(still)
    assert torch.equal(made, made[:, :1].expand_as(made))
    flat = torch.full((1, 1, 3, 8, 8), 0.5)
    assert recoloured(flat).flatten(3).std(dim=-1).max() < 1e-6
