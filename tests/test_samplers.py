"""Hint samplers: what each chooses on flows whose answer is known."""

import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.flow.samplers import (
    STRATEGIES,
    full_points,
    gradient_nms_points,
    grid_points,
    sample_points,
    single_point,
    spread_watershed_points,
    uniform_points,
    watershed_points,
)


def moving_square(height=96, width=96):
    """A 32 px square at (24..55, 40..71) moves right by 8; the rest stands."""
    flow = torch.zeros(2, height, width)
    flow[0, 40:72, 24:56] = 8
    return flow


def as_set(points):
    return {tuple(point) for point in points.tolist()}


def test_watershed_puts_a_point_in_the_middle_of_what_moves_and_single_one_on_it():
    points = watershed_points(moving_square(), np.random.default_rng(0))
    inside = [(x, y) for x, y in points.tolist() if 24 <= x < 56 and 40 <= y < 72]
    assert len(inside) == 1
    assert abs(inside[0][0] - 40) <= 1 and abs(inside[0][1] - 56) <= 1
    for seed in range(5):
        ((x, y),) = single_point(moving_square(), np.random.default_rng(seed)).tolist()
        assert 24 <= x < 56 and 40 <= y < 72


def test_gradient_points_stand_on_the_outline():
    points = gradient_nms_points(moving_square(), np.random.default_rng(0), window=9)
    assert len(points) >= 4
    for x, y in points.tolist():
        beside = min(abs(x - 23.5), abs(x - 55.5), abs(y - 39.5), abs(y - 71.5))
        assert beside <= 0.5 and 23 <= x <= 56 and 39 <= y <= 72


def test_uniform_draws_the_asked_number_of_different_pixels_from_everywhere():
    points = uniform_points(torch.zeros(2, 12, 10), np.random.default_rng(0), count=60)
    assert len(as_set(points)) == 60
    assert points[:, 0].max() == 9 and points[:, 1].max() == 11
    assert as_set(uniform_points(torch.zeros(2, 2, 3), np.random.default_rng(0), count=6)) == (
        as_set(full_points(torch.zeros(2, 2, 3)))
    )


def test_exactly_k_points_the_first_in_the_two_parts_that_move():
    flow = moving_square()
    flow[1, 5:30, 5:30] = -6
    points = spread_watershed_points(flow, np.random.default_rng(0), count=8)
    assert len(as_set(points)) == 8
    fewer = spread_watershed_points(flow, np.random.default_rng(0), count=3)
    assert torch.equal(points[:3], fewer)
    parts = {tuple(flow[:, y, x].tolist()) for x, y in points.tolist()}
    assert parts == {(0.0, 0.0), (8.0, 0.0), (0.0, -6.0)}
    gaps = torch.cdist(points.float(), points.float()) + 1e3 * torch.eye(8)
    assert gaps.min() >= 96 / 8


def test_more_points_stand_where_motion_varies():
    flow = torch.zeros(2, 96, 96)
    ys, xs = torch.meshgrid(torch.arange(30.0), torch.arange(30.0), indexing="ij")
    flow[0, 33:63, 33:63] = 6
    shifted = spread_watershed_points(flow, np.random.default_rng(0), count=10)
    flow[:, 33:63, 33:63] = 2 * torch.stack([15 - ys, 15 - xs])  # folds over
    folded = spread_watershed_points(flow, np.random.default_rng(0), count=10)
    inside = [((p > 32) & (p < 63)).all(1).sum().item() for p in (shifted, folded)]
    assert 0 < inside[0] < inside[1]


def test_points_may_be_restricted_and_too_many_are_refused():
    allowed = torch.zeros(96, 96, dtype=torch.bool)
    allowed[60:64, 30:40] = True
    rng = np.random.default_rng(0)
    points = spread_watershed_points(moving_square(), rng, count=6, allowed=allowed)
    assert allowed[points[:, 1], points[:, 0]].all() and len(as_set(points)) == 6
    with pytest.raises(InputError, match="from 1 to 40, but 41 came"):
        spread_watershed_points(moving_square(), rng, count=41, allowed=allowed)


def test_a_still_or_shifted_clip_keeps_the_grid_and_has_no_watershed_points():
    still = torch.zeros(3, 2, 96, 96)
    rng = np.random.default_rng(0)
    assert len(watershed_points(still, rng)) == len(gradient_nms_points(still, rng)) == 0
    assert len(watershed_points(torch.full((2, 64, 64), 5.0), rng)) == 0
    assert torch.equal(sample_points(still, rng, stride=40), grid_points(still, stride=40))
    assert len(spread_watershed_points(still, rng, count=8)) == 8
    assert len(single_point(still, rng)) == 1


def test_the_last_frame_of_a_clip_decides_and_a_seed_repeats_whatever_its_kind():
    flow = moving_square()
    clip = torch.stack([torch.zeros(2, 96, 96), flow])
    one, other = (sample_points(f, np.random.default_rng(3)) for f in (clip, flow))
    assert torch.equal(one, other)
    for make in (np.random.default_rng, np.random.RandomState):
        draws = [sample_points(flow, make(7), strategy=STRATEGIES[:5]) for _ in range(2)]
        assert torch.equal(*draws)


def test_a_union_has_every_point_once_and_can_be_thinned():
    flow, rng = moving_square(), np.random.default_rng(0)
    points = sample_points(flow, rng, strategy=("full", "grid", "watershed"))
    assert len(points) == 96 * 96
    thinned = sample_points(flow, rng, strategy="full", max_points=10)
    assert len(as_set(thinned)) == 10


STILL = torch.zeros(2, 9, 9)
REFUSED = [
    (lambda r: sample_points(torch.full((2, 9, 9), torch.nan), r), "NaN or infinite"),
    (lambda r: sample_points(torch.zeros(3, 9, 9), r), r"\[3, 9, 9\] came"),
    (lambda r: sample_points(torch.zeros(0, 2, 9, 9), r), "must be .*0, 2, 9, 9. came"),
    (lambda r: sample_points("flow", r), "must be .*, but 'flow' came"),
    (lambda r: sample_points(STILL, r, strategy="random"), "a sampler must be one of grid"),
    (lambda r: sample_points(STILL, r, strategy=()), "one of .*, but 'none' came"),
    (lambda r: sample_points(STILL, 42), "default_rng"),
    (lambda r: watershed_points(STILL, r, window=4), "odd number"),
    (lambda r: grid_points(STILL, stride=0), "stride must be a whole number from 1"),
    (lambda r: uniform_points(torch.zeros(2, 3, 3), r, count=10), "from 1 to 9, but 10"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_what_cannot_be_sampled_is_refused_in_one_sentence(call, words):
    with pytest.raises(InputError, match=words):
        call(np.random.default_rng(0))
