"""Forward splatting beyond its recorded numbers: broken flows, holes, plans and gradients."""

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


@pytest.mark.parametrize("mode", MODES)
def test_holes_are_exactly_zero_and_coverage_tells_them_from_covered_pixels(mode):
    flow, ones = rightward(0.5, 9, 9, 9), row(1, 1, 1, 1)
    moved = splat(ones, flow, mode, ones if mode in WEIGHTED else None)
    assert moved.flatten()[2:].tolist() == [0, 0]
    for how, wanted in (("avg", [1.0, 1, 0, 0]), ("sum", [0.5, 0.5, 0, 0])):
        coverage = splat_plan(flow[:, None], how).coverage()
        torch.testing.assert_close(coverage.flatten(), torch.tensor(wanted))


def test_one_plan_serves_all_frames_as_if_splatted_one_by_one(scene):
    features, flow = scene
    wanted = torch.stack([splat(features, flow[:, frame]) for frame in range(4)], 1)
    torch.testing.assert_close(splat_plan(flow).apply(features), wanted, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (("mean",), r"one of .*avg.*, but 'mean' came"),
        (("soft",), "mode 'soft' needs a metric"),
        (("avg", row(1, 0)), "takes no metric"),
        (("linear", row(1, 0), "none"), "epsilon must be one of add, zero, clip"),
    ],
)
def test_wrong_modes_metrics_and_epsilons_are_refused(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        splat(row(2, 5), rightward(0, 0), *how)
