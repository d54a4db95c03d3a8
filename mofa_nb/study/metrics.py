"""How well a clip follows the motion it was asked for: points of the first frame are re-tracked by
two of `optical_flow`'s estimators (which every number should name), forwards and backwards."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.flow.optical_flow import Frames, as_frames, clip_flows, return_gap

TRACKER = ("dis_fine", "dis_smooth")  # one is precise, the other steady on noisy frames
STAYS = 0.25  # px: a point that never leaves its place by more than this should stay
SLACK, SHARE = 1.5, 0.05  # a lost point returns farther from its start: px, and part of its way
JUMP = 1.5  # px: neighbours whose motion differs more lie on both sides of an outline

Flow = Float[Tensor, "*T 2 H W"]  # pixels
Pixels = Float[Tensor, "*T 3 H W"]  # [0, 1]
Where = Bool[Tensor, "*T 1 H W"] | None  # the pixels that count; None: all of them


@dataclass(frozen=True)
class Tracks:
    """Points of the first frame, followed through a clip."""

    moved: Float[Tensor, "N steps 2"]  # displacement from frame 0 to frame t, pixels (dx, dy)
    lost: Bool[Tensor, "N steps"]  # the tracker could not find the point again in frame t


@dataclass(frozen=True)
class MotionScores:
    """How far tracked points are from where they should be.

    Drift is by how much points that should stay are off in the last frame, a lost one counting as
    infinitely far; NaN if there is no such point. Correlation is the cosine between all
    displacements put side by side, in [-1, 1]; not centred, as a common shift of all points is
    itself motion to be followed; lost points do not move, a clip without motion has 0."""

    epe: float  # mean end-point error in pixels; a lost point counts as if it had not moved
    still_epe: float  # the error of a clip that does not move at all
    ratio: float  # epe / still_epe; NaN where nothing was to move
    lost: float  # share of lost points
    drift_median: float  # pixels
    drift_p90: float
    correlation: float


def probe_points(size: tuple[int, int], count: int = 16) -> Int[Tensor, "N 2"]:
    """Pixels (x, y) of a regular grid of `count` x `count` points over (height, width)."""
    if not 1 <= count <= min(size):
        raise InputError(f"a grid of {count}x{count} points does not fit {size[1]}x{size[0]} px")
    ys, xs = (((torch.arange(count) + 0.5) * side / count).long() for side in size)
    return torch.cartesian_prod(ys, xs).flip(-1)


def on_outline(flow: Float[Tensor, "steps 2 H W"]) -> Bool[Tensor, "H W"]:
    """Pixels of frame 0 beside which the last frame's motion jumps: they show two things at once,
    and no tracker can be right there."""
    last = flow[-1:]
    across = functional.pad(last.diff(dim=-1).abs().amax(1), (1, 0))
    down = functional.pad(last.diff(dim=-2).abs().amax(1), (0, 0, 1, 0))
    jumps = (torch.maximum(across, down) > JUMP).float()
    return functional.max_pool2d(jumps, 3, stride=1, padding=1)[0] > 0


def at_points(values: Shaped[Tensor, "steps C H W"], points: Int[Tensor, "N 2"]) -> Tensor:
    """What stands at the points in each frame, [N, steps, C]."""
    return values[:, :, points[:, 1], points[:, 0]].permute(2, 0, 1)


def track_points(frames: Frames, points: Int[Tensor, "N 2"]) -> Tracks:
    """Follow points (x, y) of the first frame through a clip, see `optical_flow.Frames`; for every
    point and frame that estimator counts whose way back ends nearest to the start."""
    clip = as_frames(frames)
    paths, gaps = [], []
    for method in TRACKER:
        forward, backward = clip_flows(clip, method)
        paths.append(at_points(forward, points).cpu())
        gaps.append(at_points(return_gap(forward, backward), points)[..., 0].cpu())
    gap, best = torch.stack(gaps).min(0)
    moved = torch.stack(paths).gather(0, best[None, ..., None].expand(1, *paths[0].shape))[0]
    return Tracks(moved, gap > SLACK + SHARE * torch.linalg.vector_norm(moved, dim=-1))


def motion_scores(
    tracks: Tracks, asked: Float[Tensor, "N steps 2"], seen: Bool[Tensor, "N steps"] | None = None
) -> MotionScores:
    """Compare tracked points with the motion asked for (displacement from frame 0, pixels), where
    they are `seen` in the true clip (default: everywhere); InputError if none is."""
    seen = torch.ones_like(tracks.lost) if seen is None else seen
    if not seen.any():
        raise InputError("no point is visible in any frame: choose other points")
    still = torch.linalg.vector_norm(asked, dim=-1)
    error = torch.linalg.vector_norm(tracks.moved - asked, dim=-1)
    counted = torch.where(tracks.lost, still, error)[seen].mean().item()
    still_epe = still[seen].mean().item()
    stays = (still.amax(1) < STAYS) & seen[:, -1]
    off = torch.where(tracks.lost, torch.inf, error)[stays, -1].numpy()
    drift = [np.percentile(off, p, method="higher") if len(off) else np.nan for p in (50, 90)]
    moved = torch.where(tracks.lost[..., None], 0, tracks.moved)
    ours, theirs = (motion[seen].flatten().double() for motion in (moved, asked))
    length = ours.norm() * theirs.norm()
    ratio = counted / still_epe if still_epe > 0 else float("nan")
    lost, cosine = tracks.lost[seen].float().mean().item(), ours @ theirs / length
    correlation = cosine.item() if length > 0 else 0.0
    return MotionScores(counted, still_epe, ratio, lost, *map(float, drift), correlation)


def epe(flow: Flow, truth: Flow, where: Where = None) -> float:
    """Mean end-point error of a dense flow in pixels."""
    return _mean(torch.linalg.vector_norm(flow - truth, dim=-3, keepdim=True), where).item()


def psnr(frames: Pixels, truth: Pixels, where: Where = None) -> float:
    """Peak signal to noise ratio in dB of pictures, all pixels together; infinite for
    equal pictures, NaN where no pixel counts."""
    square = (frames.double() - truth.double()).square().mean(-3, keepdim=True)
    return (-10 * _mean(square, where).log10()).item()


def _mean(values: Float[Tensor, "*T 1 H W"], where: Where) -> Tensor:
    return (values if where is None else values[where]).mean()
