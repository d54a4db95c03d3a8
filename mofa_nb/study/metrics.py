"""How well a clip follows the motion it was asked for, and how good it looks.

Motion is measured by re-tracking: points of the first frame are followed through the clip and
compared with where they should be. The tracker is two of `optical_flow`'s estimators with a
forward-backward check; others can be passed, and every number should name its tracker. Rivals and
the tracker's own floor (the true clip, re-tracked) go through the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.flow.optical_flow import Estimator, Frames, as_frames, clip_flows, return_gap

TRACKER = ("dis_fine", "dis_smooth")  # one is precise, the other steady on noisy frames
STAYS = 0.25  # px: a point that never leaves its place by more than this should stay


@dataclass(frozen=True)
class Tracks:
    """Points of the first frame, followed through a clip.

    Attributes:
        moved: displacement from frame 0 to frame t, pixels (dx, dy).
        lost: the tracker could not find the point again in frame t.
    """

    moved: Float[Tensor, "N steps 2"]
    lost: Bool[Tensor, "N steps"]


@dataclass(frozen=True)
class MotionScores:
    """How far tracked points are from where they should be.

    Attributes:
        epe: mean end-point error in pixels; a lost point counts as if it had not moved.
        still_epe: the error of a clip that does not move at all.
        ratio: epe / still_epe; NaN where nothing was to move.
        lost: share of lost points.
        drift_median, drift_p90: pixels by which points that should stay are off in the last
            frame, a lost one counting as infinitely far; NaN if there is no such point.
        correlation: see `motion_correlation`.
    """

    epe: float
    still_epe: float
    ratio: float
    lost: float
    drift_median: float
    drift_p90: float
    correlation: float


def probe_points(size: tuple[int, int], count: int = 16) -> Int[Tensor, "N 2"]:
    """Pixels (x, y) of a regular grid of `count` x `count` points over (height, width)."""
    if not 1 <= count <= min(size):
        raise InputError(f"a grid of {count}x{count} points does not fit {size[1]}x{size[0]} px")
    ys, xs = (((torch.arange(count) + 0.5) * side / count).long() for side in size)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)


def on_outline(
    flow: Float[Tensor, "steps 2 H W"], *, step: float = 1.5, reach: int = 1
) -> Bool[Tensor, "H W"]:
    """Pixels of frame 0 beside which the motion jumps: they show two things at once.

    No tracker can be right there, so such points are better left out of a score.

    Args:
        step: a jump between neighbours, in pixels of motion in the last frame.
        reach: how many pixels around the jump count as the outline.
    """
    last = flow[-1:]
    across = functional.pad(last.diff(dim=-1).abs().amax(1), (1, 0))
    down = functional.pad(last.diff(dim=-2).abs().amax(1), (0, 0, 1, 0))
    jumps = (torch.maximum(across, down) > step).float()
    return functional.max_pool2d(jumps, 2 * reach + 1, stride=1, padding=reach)[0] > 0


def at_points(
    values: Float[Tensor, "steps C H W"] | Bool[Tensor, "steps C H W"], points: Int[Tensor, "N 2"]
) -> Tensor:
    """What stands at the points in each frame, [N, steps, C]."""
    return values[:, :, points[:, 1], points[:, 0]].permute(2, 0, 1)


def track_points(
    frames: Frames,
    points: Int[Tensor, "N 2"],
    *,
    methods: Sequence[str | Estimator] = TRACKER,
    slack: float = 1.5,
    share: float = 0.05,
) -> Tracks:
    """Follow points of the first frame through a clip.

    Args:
        frames: uint8 [T, H, W, 3] or float [T, 3, H, W] in [0, 1].
        points: pixels (x, y) of the first frame.
        methods: flow estimators (see `optical_flow.clip_flow`); for every point and frame the one
            counts whose way back ends nearest to the start.
        slack, share: a point is lost if even that is farther from the start than this many
            pixels plus this share of its way.
    """
    clip = as_frames(frames)
    ways, gaps = [], []
    for method in methods:
        forward, backward = clip_flows(clip, method)
        ways.append(at_points(forward, points).cpu())
        gaps.append(at_points(return_gap(forward, backward), points)[..., 0].cpu())
    gap, best = torch.stack(gaps).min(0)
    moved = torch.stack(ways).gather(0, best[None, ..., None].expand(1, *ways[0].shape))[0]
    found = gap <= slack + share * torch.linalg.vector_norm(moved, dim=-1)
    return Tracks(moved, ~found)


def motion_scores(
    tracks: Tracks,
    asked: Float[Tensor, "N steps 2"],
    seen: Bool[Tensor, "N steps"] | None = None,
) -> MotionScores:
    """Compare tracked points with the motion asked for.

    Args:
        asked: true displacement from frame 0, pixels.
        seen: where the point is visible in the true clip; only those count (default: all).
    Raises:
        InputError: no point is visible.
    """
    seen = torch.ones_like(tracks.lost) if seen is None else seen
    if not seen.any():
        raise InputError("no point is visible in any frame: choose other points")
    still = torch.linalg.vector_norm(asked, dim=-1)
    error = torch.linalg.vector_norm(tracks.moved - asked, dim=-1)
    counted = torch.where(tracks.lost, still, error)[seen].mean().item()
    still_epe = still[seen].mean().item()
    stays = (still.amax(1) < STAYS) & seen[:, -1]
    off = torch.where(tracks.lost, torch.inf, error)[stays, -1].numpy()
    return MotionScores(
        epe=counted,
        still_epe=still_epe,
        ratio=counted / still_epe if still_epe > 0 else float("nan"),
        lost=tracks.lost[seen].float().mean().item(),
        drift_median=_percentile(off, 50.0),
        drift_p90=_percentile(off, 90.0),
        correlation=motion_correlation(tracks, asked, seen),
    )


def motion_correlation(
    tracks: Tracks,
    asked: Float[Tensor, "N steps 2"],
    seen: Bool[Tensor, "N steps"] | None = None,
) -> float:
    """Correlation of the motion in a clip with the motion asked for, in [-1, 1].

    Not centred, since a common shift of all points is itself motion to be followed: the cosine
    between all displacements put side by side. Lost points count as not moving; a clip without
    motion has correlation 0.
    """
    moved = torch.where(tracks.lost[..., None], 0, tracks.moved)
    counted = torch.ones_like(tracks.lost) if seen is None else seen
    moved, asked = moved[counted].flatten().double(), asked[counted].flatten().double()
    length = moved.norm() * asked.norm()
    return (moved @ asked / length).item() if length > 0 else 0.0


def epe(
    flow: Float[Tensor, "*T 2 H W"],
    truth: Float[Tensor, "*T 2 H W"],
    where: Bool[Tensor, "*T 1 H W"] | None = None,
) -> float:
    """Mean end-point error of a dense flow in pixels, over the pixels of `where`."""
    error = torch.linalg.vector_norm(flow - truth, dim=-3, keepdim=True)
    return (error if where is None else error[where]).mean().item()


def psnr(
    frames: Float[Tensor, "*T 3 H W"],
    truth: Float[Tensor, "*T 3 H W"],
    where: Bool[Tensor, "*T 1 H W"] | None = None,
) -> float:
    """Peak signal to noise ratio in dB of pictures in [0, 1], all pixels of `where` together.

    Infinite for equal pictures, NaN where no pixel counts.
    """
    square = (frames.double() - truth.double()).square().mean(-3, keepdim=True)
    error = (square if where is None else square[where]).mean()
    return (-10 * error.log10()).item()


def gradient_energy(
    frame: Float[Tensor, "*T 3 H W"], where: Bool[Tensor, "*T 1 H W"] | None = None
) -> float:
    """Mean squared step of brightness between neighbouring pixels (per pixel, both directions)."""
    grey = frame.mean(-3, keepdim=True)
    across = functional.pad(grey.diff(dim=-1), (0, 1))
    down = functional.pad(grey.diff(dim=-2), (0, 0, 0, 1))
    energy = across.square() + down.square()
    return (energy if where is None else energy[where]).mean().item()


def sharpness(
    frame: Float[Tensor, "*T 3 H W"],
    truth: Float[Tensor, "*T 3 H W"],
    where: Bool[Tensor, "*T 1 H W"] | None = None,
) -> float:
    """Gradient energy as a share of the true picture's; NaN where that has none."""
    whole = gradient_energy(truth, where)
    return gradient_energy(frame, where) / whole if whole > 0 else float("nan")


def _percentile(values: np.ndarray, share: float) -> float:
    if not len(values):
        return float("nan")
    return float(np.percentile(values, share, method="higher"))
