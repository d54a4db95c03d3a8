"""Which of two things is in front where they land on one pixel, as tracks say by their depth."""

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
    """How far in front each pixel of frame 0 is: 0 for what follows no track, then 1, 2, ...

    A pixel belongs to the track whose motion its own is most like, of two the nearer one, and to
    none where it moves less than half as far. Where there is a brush, tracks on it have all that
    it covers and nothing else. None where no track says its depth; one that says none is at 0.

    The motion is in pixels of the flow that was made of it; `native`: see `Motion.paths`.
    """
    if all(track.depth is None for track in motion.tracks):
        return None
    depths = [track.depth or 0.0 for track in motion.tracks]
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths), reverse=True), start=1)}
    steps = torch.linspace(1, len(flow), LOOKED_AT).round().long().unique()
    paths = motion.paths(len(flow) + 1, native)[: len(depths)].to(flow)
    moved, flow = paths[:, steps] - paths[:, :1], flow[steps - 1]  # N t 2
    height, width = flow.shape[-2:]
    brushed = torch.zeros(height, width, dtype=torch.bool)
    if motion.brush is not None:
        brushed = torch.from_numpy(motion.brush > 0)
    y, x = torch.meshgrid(torch.arange(1.0 * height), torch.arange(1.0 * width), indexing="ij")
    near = NEARBY * float(moved.norm(dim=-1).mean(1).max()) / max(height, width)
    order = torch.zeros(1, height, width)
    least = flow.norm(dim=1).mean(0)  # to follow no track
    starts = paths[:, 0].int().tolist()
    if any(brushed[row, column] for column, row in starts):
        least = least.where(~brushed, torch.inf)
    for (column, row), way, depth in zip(starts, moved, depths, strict=True):
        unlike = (flow - way[..., None, None]).norm(dim=1).mean(0)
        unlike = unlike + near * torch.hypot(x - column, y - row)
        found = (unlike < least) & (brushed == brushed[row, column])
        order[0, found], least = float(ranks[depth]), torch.where(found, unlike, least)
    return order


def front_weights(
    order: Float[Tensor, "*B 1 H W"], ahead: float = AHEAD
) -> Float[Tensor, "*B 1 H W"]:
    """The metric for softmax splatting (`splat_plan`, "soft"): e-folds of weight, at most 80."""
    return order * min(ahead, STRONGEST / max(float(order.max()), 1.0))


def ordered_splat(
    flow: Float[Tensor, "B T 2 h w"], order: Float[Tensor, "B 1 H W"] | None, stride: int = 1
) -> SplatPlan:
    """The plan that averages what lands on a pixel, or with an order softly picks the front.

    The flow lies on a grid of every `stride`-th pixel of the order's.
    """
    if order is None:
        return splat_plan(flow)
    metric = front_weights(order.to(flow)[..., ::stride, ::stride])[:, None]
    return splat_plan(flow, "soft", metric.expand(-1, flow.shape[1], -1, -1, -1))
