"""Which of two things is in front where they land on one pixel, as tracks say by their depth."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.splat import SplatPlan, splat_plan
from mofa_nb.motion.motion import Motion

LOOKED_AT = 4  # frames in which motions are compared
NEARBY = 0.25  # of the longest motion: what a place across the picture counts against a track
STRONGEST = 80.0  # e-folds that float32 holds
AHEAD = 6.0  # e-folds of weight between two things, the far one then shows to a quarter percent


def depth_order(
    motion: Motion, flow: Float[Tensor, "steps 2 H W"], native: int | None = None
) -> Float[Tensor, "1 H W"] | None:
    """How far in front each pixel of frame 0 is: 0 for what follows no track, then 1, 2, ...; None
    where no track says its depth (one that says none is at 0).

    A pixel belongs to the track whose motion its own is most like, of two the nearer one, and to
    none where it moves less than half as far. Tracks on a brush have all that it covers and nothing
    else. The motion is in pixels of the flow; `native`: see `Motion.paths`."""
    if all(track.depth is None for track in motion.tracks):
        return None
    depths = [track.depth or 0.0 for track in motion.tracks]
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths), reverse=True), start=1)}
    steps = torch.linspace(1, len(flow), LOOKED_AT).round().long().unique()
    paths = motion.paths(len(flow) + 1, native)[: len(depths)].to(flow)
    moved, flow = paths[:, steps] - paths[:, :1], flow[steps - 1]  # N t 2
    height, width = flow.shape[-2:]
    brush = np.zeros((height, width)) if motion.brush is None else motion.brush
    brushed = torch.from_numpy(brush > 0)
    y, x = torch.meshgrid(torch.arange(1.0 * height), torch.arange(1.0 * width), indexing="ij")
    near = NEARBY * float(moved.norm(dim=-1).mean(1).max()) / max(height, width)
    order = torch.zeros(1, height, width)
    least = flow.norm(dim=1).mean(0)  # to follow no track
    starts = paths[:, 0].int().tolist()
    if any(brushed[row, column] for column, row in starts):
        least = least.where(~brushed, torch.inf)
    for (column, row), track_flow, depth in zip(starts, moved, depths, strict=True):
        unlike = (flow - track_flow[..., None, None]).norm(dim=1).mean(0)
        unlike = unlike + near * torch.hypot(x - column, y - row)
        own = (unlike < least) & (brushed == brushed[row, column])
        order[0, own], least = float(ranks[depth]), torch.where(own, unlike, least)
    return order


def front_weights(order: Float[Tensor, "*B 1 H W"], ahead: float = AHEAD) -> Tensor:
    """The metric for softmax splatting (`splat_plan`, "soft"): e-folds of weight, at most 80."""
    return order * min(ahead, STRONGEST / max(float(order.max()), 1.0))


def ordered_splat(
    flow: Float[Tensor, "B T 2 h w"], order: Float[Tensor, "B 1 H W"] | None, stride: int = 1
) -> SplatPlan:
    """The plan that averages what lands on a pixel, or with an order softly picks the front; the
    flow lies on a grid of every `stride`-th pixel of the order's."""
    if order is None:
        return splat_plan(flow)
    metric = front_weights(order.to(flow)[..., ::stride, ::stride])[:, None]
    return splat_plan(flow, "soft", metric.expand(-1, flow.shape[1], -1, -1, -1))
