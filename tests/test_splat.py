"""Forward splatting moves features where the flow says, and says nothing where nothing lands."""

import itertools

import pytest
import torch

from mofa_nb.flow.splat import MODES, splat, splat_plan

WEIGHTED = ("linear", "soft")


def row(*values):
    """A [1, 1, 1, W] image of one row."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def rightward(*amounts):
    """The flow of a row: pixels to the right."""
    return torch.tensor([amounts, [0] * len(amounts)], dtype=torch.float32).view(1, 2, 1, -1)


@pytest.fixture
def scene():
    """Features [2, 3, 5, 7] and flow [2, 4, 2, 5, 7] that scatters them, also out of sight."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 3, 5, 7, generator=generator)
    return features, 2.5 * torch.randn(2, 4, 2, 5, 7, generator=generator)


def by_loops(features, flow):
    """The `avg` splat of one image along one flow, pixel by pixel as in the definition."""
    channels, height, width = features.shape
    total, weights = torch.zeros(channels, height, width), torch.zeros(height, width)
    for y, x in itertools.product(range(height), range(width)):
        tx, ty = x + flow[0, y, x], y + flow[1, y, x]
        left, top = int(tx.floor()), int(ty.floor())
        for column, line in itertools.product((left, left + 1), (top, top + 1)):
            if 0 <= column < width and 0 <= line < height:
                weight = (1 - abs(tx - column)) * (1 - abs(ty - line))
                total[:, line, column] += weight * features[:, y, x]
                weights[line, column] += weight
    return total / (weights + 1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_zero_flow_leaves_the_image_unchanged(mode, scene):
    features, flow = scene
    metric = torch.ones(2, 1, 5, 7) if mode in WEIGHTED else None
    moved = splat(features, torch.zeros_like(flow[:, 0]), mode, metric)
    torch.testing.assert_close(moved, features, rtol=1e-6, atol=0)


def test_a_whole_pixel_translation_moves_every_pixel_and_leaves_exact_zeros(scene):
    features, flow = scene
    flow = torch.zeros_like(flow[:, 0])
    flow[:, 0], flow[:, 1] = 2, -1
    moved = splat(features, flow, "sum")
    assert torch.equal(moved[:, :, :-1, 2:], features[:, :, 1:, :-2])
    assert not moved[:, :, -1].any() and not moved[:, :, :, :2].any()


def test_half_a_pixel_shares_between_two_neighbours():
    moved = splat(row(8, 0, 0), rightward(0.5, 9, 9), "sum")
    assert moved.flatten().tolist() == [4, 4, 0]


def test_down_is_positive_y():
    image = torch.zeros(1, 1, 3, 1)
    image[0, 0, 0] = 5
    flow = torch.zeros(1, 2, 3, 1)
    flow[0, 1] = 2
    assert splat(image, flow, "sum").flatten().tolist() == [0, 0, 5]


def test_what_lands_half_outside_still_feeds_the_edge():
    moved = splat(row(8, 0), rightward(-0.25, 9), "sum")
    assert moved.flatten().tolist() == [6, 0]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_flow_that_is_not_finite_or_leaves_the_picture_contributes_nothing(bad, axis):
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, axis, 0, 0] = bad
    features = row(1, 2, 3).requires_grad_()
    moved = splat(features, flow.requires_grad_(), "avg")
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.0, 2.0, 3.0]))
    moved.sum().backward()
    torch.testing.assert_close(features.grad.flatten(), torch.tensor([0.0, 1.0, 1.0]))
    assert flow.grad[..., 1:].isfinite().all()


def test_two_pixels_on_one_target_are_averaged_or_summed():
    together = rightward(1, 0, 9)
    assert splat(row(2, 6, 0), together, "sum").flatten().tolist() == [0, 8, 0]
    averaged = splat(row(2, 6, 0), together, "avg")
    torch.testing.assert_close(averaged.flatten(), torch.tensor([0.0, 4.0, 0.0]))


def test_the_metric_decides_who_wins_a_pixel():
    together, metric = rightward(1, 0, 9), row(3, 1, 1)
    linear = splat(row(2, 6, 0), together, "linear", metric)
    torch.testing.assert_close(linear.flatten(), torch.tensor([0.0, 3.0, 0.0]))
    soft = splat(row(2, 6, 0), together, "soft", 10 * metric)
    torch.testing.assert_close(soft.flatten(), torch.tensor([0.0, 2.0, 0.0]))


@pytest.mark.parametrize(
    "epsilon, wanted", [("add", 2e-7 / 2e-7), ("zero", 2.0), ("clip", 2.0), (None, None)]
)
def test_small_denominators_are_kept_from_zero_in_three_ways(epsilon, wanted):
    metric = row(1e-7, 0)
    if epsilon is None:
        with pytest.raises(ValueError, match="epsilon must be one of add, zero, clip"):
            splat(row(2, 5), rightward(0, 0), "linear", metric, "none")
        return
    moved = splat(row(2, 5), rightward(0, 0), "linear", metric, epsilon)
    torch.testing.assert_close(moved.flatten(), torch.tensor([wanted, 0.0]))


@pytest.mark.parametrize("mode", MODES)
def test_holes_are_exactly_zero(mode):
    metric = row(1, 1, 1, 1) if mode in WEIGHTED else None
    moved = splat(row(1, 1, 1, 1), rightward(0.5, 9, 9, 9), mode, metric)
    assert moved.flatten()[2:].tolist() == [0, 0]


def test_coverage_tells_holes_from_covered_pixels():
    plan = splat_plan(rightward(0.5, 9, 9, 9)[:, None])
    torch.testing.assert_close(plan.coverage().flatten(), torch.tensor([1.0, 1, 0, 0]))
    shares = splat_plan(rightward(0.5, 9, 9, 9)[:, None], "sum").coverage()
    assert shares.flatten().tolist() == [0.5, 0.5, 0, 0]


def test_one_plan_for_all_frames_equals_loops_over_pixels(scene):
    features, flow = scene
    warped = splat_plan(flow).apply(features)
    assert warped.shape == (2, 4, 3, 5, 7)
    for video, frame in itertools.product(range(2), range(4)):
        wanted = by_loops(features[video], flow[video, frame])
        torch.testing.assert_close(warped[video, frame], wanted, rtol=1e-5, atol=1e-6)


def test_a_plan_serves_any_number_of_channels_and_repeats_bit_for_bit(scene):
    features, flow = scene
    plan, again = splat_plan(flow), splat_plan(flow)
    assert torch.equal(plan.apply(features), again.apply(features))
    alone = plan.apply(features[:, 1:2])
    torch.testing.assert_close(plan.apply(features)[:, :, 1:2], alone)


def test_half_precision_features_are_warped_in_full_and_come_back_half(scene):
    features, flow = scene
    half = splat_plan(flow).apply(features.half())
    full = splat_plan(flow).apply(features.half().float())
    assert half.dtype == torch.float16 and torch.equal(half, full.half())


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_features_flow_and_metric(mode):
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64)
    # Targets stay between pixels and inside, where the splat is smooth.
    flow = 0.25 + 0.5 * torch.rand(1, 2, 2, 3, 4, generator=generator, dtype=torch.float64)
    metric = 0.5 + torch.rand(1, 2, 1, 3, 4, generator=generator, dtype=torch.float64)
    inputs = [features, flow, *([metric] if mode in WEIGHTED else [])]

    def warp(features, flow, metric=None):
        return splat_plan(flow, mode, metric).apply(features).double()

    leaves = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(warp, leaves, eps=1e-3, atol=5e-3)


def test_wrong_modes_and_metrics_are_refused(scene):
    features, flow = scene
    with pytest.raises(ValueError, match=r"one of .*avg.*, but 'mean' came"):
        splat_plan(flow, "mean")
    with pytest.raises(ValueError, match="mode 'soft' needs a metric"):
        splat_plan(flow, "soft")
    with pytest.raises(ValueError, match="mode 'avg' takes no metric"):
        splat(features, flow[:, 0], "avg", torch.ones(2, 1, 5, 7))
