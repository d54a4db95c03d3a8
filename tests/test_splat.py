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


ROWS = {  # values, flow to the right, mode, metric -> where they land
    "half a pixel shares between two neighbours": ((8, 0, 0), (0.5, 9, 9), "sum", (), (4, 4, 0)),
    "half outside still feeds the edge": ((8, 0), (-0.25, 9), "sum", (), (6, 0)),
    "two pixels on one target are summed": ((2, 6, 0), (1, 0, 9), "sum", (), (0, 8, 0)),
    "or averaged": ((2, 6, 0), (1, 0, 9), "avg", (), (0, 4, 0)),
    "the metric decides who wins": ((2, 6, 0), (1, 0, 9), "linear", (3, 1, 1), (0, 3, 0)),
    "a soft one wins all": ((2, 6, 0), (1, 0, 9), "soft", (30, 10, 10), (0, 2, 0)),
}


@pytest.mark.parametrize("what", ROWS)
def test_pixels_of_a_row_or_column_land_where_the_flow_says(what):
    values, amounts, mode, metric, wanted = ROWS[what]
    image, flow = row(*values), rightward(*amounts)
    metric, wanted = row(*metric) if metric else None, torch.tensor(wanted).float()
    torch.testing.assert_close(splat(image, flow, mode, metric).flatten(), wanted)
    metric = None if metric is None else metric.mT
    moved = splat(image.mT, flow.flip(1).mT, mode, metric)  # down is positive y
    torch.testing.assert_close(moved.flatten(), wanted)


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


@pytest.mark.parametrize("epsilon, wanted", [("add", 1.0), ("zero", 2.0), ("clip", 2.0)])
def test_small_denominators_are_kept_from_zero_in_three_ways(epsilon, wanted):
    moved = splat(row(2, 5), rightward(0, 0), "linear", row(1e-7, 0), epsilon)
    torch.testing.assert_close(moved.flatten(), torch.tensor([wanted, 0.0]))


@pytest.mark.parametrize("mode", MODES)
def test_holes_are_exactly_zero_and_coverage_tells_them_from_covered_pixels(mode):
    flow, ones = rightward(0.5, 9, 9, 9), row(1, 1, 1, 1)
    moved = splat(ones, flow, mode, ones if mode in WEIGHTED else None)
    assert moved.flatten()[2:].tolist() == [0, 0]
    for how, wanted in (("avg", [1.0, 1, 0, 0]), ("sum", [0.5, 0.5, 0, 0])):
        coverage = splat_plan(flow[:, None], how).coverage()
        torch.testing.assert_close(coverage.flatten(), torch.tensor(wanted))


def test_one_plan_for_all_frames_equals_loops_over_pixels(scene):
    features, flow = scene
    warped = splat_plan(flow).apply(features)
    assert warped.shape == (2, 4, 3, 5, 7)
    for video, frame in itertools.product(range(2), range(4)):
        wanted = by_loops(features[video], flow[video, frame])
        torch.testing.assert_close(warped[video, frame], wanted, rtol=1e-5, atol=1e-6)


def test_a_plan_serves_any_channels_and_formats_and_repeats_bit_for_bit(scene):
    features, flow = scene
    plan, again = splat_plan(flow), splat_plan(flow)
    assert torch.equal(plan.apply(features), again.apply(features))
    torch.testing.assert_close(plan.apply(features)[:, :, 1:2], plan.apply(features[:, 1:2]))
    half, full = plan.apply(features.half()), plan.apply(features.half().float())
    assert half.dtype == torch.float16 and torch.equal(half, full.half())  # warped in full


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


def test_wrong_modes_metrics_and_epsilons_are_refused(scene):
    features, flow = scene
    for act, sentence in (
        (lambda: splat_plan(flow, "mean"), r"one of .*avg.*, but 'mean' came"),
        (lambda: splat_plan(flow, "soft"), "mode 'soft' needs a metric"),
        (
            lambda: splat(features, flow[:, 0], "avg", torch.ones(2, 1, 5, 7)),
            "takes no metric",
        ),
        (
            lambda: splat(row(2, 5), rightward(0, 0), "linear", row(1, 0), "none"),
            "epsilon must be one of add, zero, clip",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            act()
