"""Forward splatting in plain torch: a plan is built once per flow and applied many times.

Every mode is a linear map of the features once flow and metric are known: the plan is one sparse
matrix in row form, for each target pixel the source pixels that land on it and their weights. It
gives gradients to features, flow and metric."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mofa_nb.checks import choice

MODES = ("sum", "avg", "linear", "soft")
EPSILON = 1e-7


@dataclass(frozen=True)
class SplatPlan:
    """Where every source pixel goes, for B videos of T frames that share one source image each."""

    source: Int[Tensor, " entries"]  # pixel of the flattened [B, H, W] features; by target
    weight: Float[Tensor, " entries"]  # of `avg`, `linear` and `soft` already normalised
    offsets: Int[Tensor, " targets_and_nowhere"]  # first entry of each target, then of no target
    shape: tuple[int, int, int, int]  # B, T, H, W

    def apply(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T C H W"]:
        """Warp each video's features into its T frames, computed in float32; holes are 0."""
        batch, frames, height, width = self.shape
        table = features.float().permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        where = self.source, table, self.offsets
        warped = F.embedding_bag(*where, mode="sum", per_sample_weights=self.weight)[:-1]
        warped = warped.view(batch, frames, height, width, -1).permute(0, 1, 4, 2, 3)
        return warped.to(features.dtype)

    def coverage(self) -> Float[Tensor, "B T 1 H W"]:
        """Sum of the weights that reach each target: 0 in a hole; about 1 elsewhere for `avg`."""
        return self.apply(self.weight.new_ones(self.shape[0], 1, *self.shape[2:]))


def splat_plan(
    flow: Float[Tensor, "B T 2 H W"], mode: str = "avg",
    metric: Float[Tensor, "B T 1 H W"] | None = None, epsilon: str = "add",
) -> SplatPlan:  # fmt: skip
    """Plan the forward warp of frame 0 along `flow` (paper: warping of the reference features).

    Each source pixel adds to the four integer neighbours of its target with bilinear weights;
    neighbours outside the image are dropped one by one, non-finite targets altogether.

    Args:
        flow: pixels (dx, dy) of the feature grid, frame 0 -> frame t.
        mode: `sum`; `avg` divides by the summed weights; `linear` and `soft` weigh each source
            by `metric` and by exp(metric) before that division (softmax splatting).
        metric: importance of each source pixel, for `linear` and `soft` only.
        epsilon: how a division by zero is avoided: `add` 1e-7, `zero` (a zero denominator
            becomes 1) or `clip` (a denominator is at least 1e-7)."""
    choice(mode, MODES, "the splatting mode")
    if (metric is not None) != (mode in ("linear", "soft")):
        raise ValueError(f"mode {mode!r} {'needs a' if metric is None else 'takes no'} metric")
    # Softmax splatting (arXiv 2003.05534): with b the bilinear weights and u the targets,
    # avg: sum(b f) / sum(b); soft: sum(b exp(z) f) / sum(b exp(z)), each over the sources of u.
    target, weight = _corners(flow.float())
    if metric is not None:
        importance = metric.float().exp() if mode == "soft" else metric.float()
        weight = weight * importance.reshape(1, -1)
    batch, frames, _, height, width = flow.shape
    cells = height * width
    pixel = torch.arange(cells, device=flow.device)
    video = torch.arange(batch, device=flow.device) * cells
    source = (video[:, None, None] + pixel).expand(batch, frames, cells).reshape(1, -1)
    order = target.flatten().argsort(stable=True)
    target, weight = target.flatten()[order], weight.flatten()[order]
    source = source.expand(4, -1).reshape(-1)[order]
    targets = batch * frames * cells
    offsets = torch.searchsorted(target, torch.arange(targets + 1, device=flow.device))
    if mode != "sum":
        total = weight.new_zeros(targets + 1).index_add(0, target, weight)
        match choice(epsilon, ("add", "zero", "clip"), "epsilon"):
            case "add":
                total = total + EPSILON
            case "zero":
                total = torch.where(total == 0, torch.ones_like(total), total)
            case "clip":
                total = total.clamp(min=EPSILON)
        weight = weight / total[target]
    return SplatPlan(source, weight, offsets, (batch, frames, height, width))


def splat(
    features: Float[Tensor, "N C H W"], flow: Float[Tensor, "N 2 H W"], mode: str = "avg",
    metric: Float[Tensor, "N 1 H W"] | None = None, epsilon: str = "add",
) -> Float[Tensor, "N C H W"]:  # fmt: skip
    """Forward-splat each image along its own flow, in pixels (dx, dy) of the image. What lands on a
    pixel is averaged, as `avg` divides it by the sum of its bilinear weights, so that the range of
    the features is kept; holes are 0. `mode`, `metric` and `epsilon`: see `splat_plan`."""
    metric = None if metric is None else metric[:, None]
    return splat_plan(flow[:, None], mode, metric, epsilon).apply(features)[:, 0]


def _corners(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Target index (of a dropped one: after the last) and bilinear weight of the four neighbours,
    each [4, B * T * H * W]."""
    batch, frames, _, height, width = flow.shape
    x = torch.arange(width, device=flow.device) + flow[:, :, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, :, 1]
    finite = x.isfinite() & y.isfinite()
    x, y = x.where(finite, x.new_tensor(-9.0)), y.where(finite, y.new_tensor(-9.0))
    left, top = x.detach().floor(), y.detach().floor()
    image = torch.arange(batch * frames, device=flow.device).view(batch, frames, 1, 1)
    targets, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = (image * height + row.where(inside, row.new_zeros(()))) * width
            index = index.long() + column.where(inside, column.new_zeros(())).long()
            targets.append(index.where(inside, index.new_tensor(flow[:, :, 0].numel())))
            weights.append((1 - (x - column).abs()) * (1 - (y - row).abs()))
    return torch.stack(targets).flatten(1), torch.stack(weights).flatten(1)
