"""Sparse motion hints: what S2D is told, at a few pixels of its grid, about where they go."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError, Size
from mofa_nb.motion.motion import Motion

Flow = Float[Tensor, "steps 2 H W"]  # of a clip: pixels (dx, dy), frame 0 -> each later one
Paths = Float[Tensor, "N T 2"]  # pixels (x, y) in each frame


@dataclass(frozen=True)
class Hints:
    """Sparse motion hints on the S2D grid (paper section 3.2: sparse motion vectors)."""

    flow: Flow  # pixels (dx, dy), frame 0 -> t; zero where the mask is
    mask: Float[Tensor, "steps 1 H W"]  # 1 where there is a hint (of a pin: zero flow)

    def to(self, device: torch.device | str) -> "Hints":
        return Hints(self.flow.to(device), self.mask.to(device))

    @property
    def grid(self) -> Size:
        """(height, width)."""
        return tuple(self.mask.shape[-2:])

    @property
    def is_empty(self) -> bool:
        return not bool(self.mask.any())


@dataclass(frozen=True)
class BrushedHints:
    """A motion's hints, split by its brush: S2D runs once per part, then `combine_brush` joins."""

    outside: Hints  # of the tracks and pins that start off the brush; all of them without one
    inside: Hints | None = None  # of those that start on it
    alpha: Float[Tensor, "1 H W"] | None = None  # how much the brush covers each pixel, [0, 1]


def hints_from_paths(paths: Paths, grid: Size, *, as_released: bool = False) -> Hints:
    """Write each path's displacement at the pixel of the grid (height, width) that it starts in
    (paper: sparse motion hint); those of one pixel are averaged. InputError: one starts outside, or
    too many.

    The release (`as_released`) cuts displacements to whole pixels, and adds up flows *and mask*."""
    (height, width), (count, frames) = grid, paths.shape[:2]
    check_count(count, grid)
    x, y = _starts(paths, grid)
    moved = (paths[:, 1:] - paths[:, :1]).permute(1, 2, 0)  # T-1 2 N
    if as_released:
        moved = moved.trunc()
    cell = y * width + x
    hits = paths.new_zeros(height * width).index_add(0, cell, paths.new_ones(count))
    flow = paths.new_zeros(frames - 1, 2, height * width).index_add(2, cell, moved)
    if not as_released:
        flow, hits = flow / hits.clamp(min=1), hits.clamp(max=1)
    mask = hits.float().view(1, 1, height, width).repeat(frames - 1, 1, 1, 1)
    return Hints(flow.float().view(-1, 2, height, width), mask)


def check_count(count: int, grid: Size) -> None:
    """Refuse (InputError) more tracks and pins than the hint grid (height, width) has pixels."""
    height, width = grid
    if count > height * width:
        most = f"the {width}x{height} hint grid has pixels ({height * width})"
        raise InputError(f"{count} tracks and pins are more than {most}: draw fewer")


def _starts(paths: Tensor, grid: Size) -> tuple[Tensor, Tensor]:
    """Column and row of the grid pixel in which each path starts."""
    (height, width), (x, y) = grid, paths[:, 0].floor().long().unbind(-1)
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if outside.any():
        n = int(outside.nonzero()[0])
        where = f"({int(x[n])}, {int(y[n])}), outside the {width}x{height} hint grid"
        raise InputError(f"track {n + 1} starts at {where}: move it inside")
    return x, y


def hints_from_flow(flow: Flow, points: Int[Tensor, "N 2"]) -> Hints:
    """Keep a dense flow, frame 0 -> frame t, at a few pixels (x, y) only, as `samplers` find them
    (paper: sampling hints from real motion)."""
    mask = torch.zeros_like(flow[:, :1])
    mask[:, :, points[:, 1], points[:, 0]] = 1
    return Hints(torch.where(mask > 0, flow, torch.zeros_like(flow)), mask)


def grid_paths(
    motion: Motion, grid: Size, num_frames: int,
    *, native: int | None = None, as_released: bool = False,
) -> Paths:  # fmt: skip
    """A motion's paths (`Motion.paths`) in pixels of the grid (height, width), float64; the release
    (`as_released`) cuts control points to whole grid pixels before it interpolates."""
    (height, width), motion = grid, motion.filmed()
    if not as_released:
        return motion.resized((width, height)).paths(num_frames, native)
    columns, rows = motion.size

    def cut(x: float, y: float) -> tuple[float, float]:
        return float(int(x * width / columns)), float(int(y * height / rows))

    return motion.mapped(cut, (width, height)).paths(num_frames, native)


def motion_hints(
    motion: Motion, grid: Size, num_frames: int,
    *, native: int | None = None, frames: Sequence[int] | None = None, as_released: bool = False,
) -> BrushedHints:  # fmt: skip
    """A motion's hints on the S2D grid (height, width), split by its brush if it has one; of all
    frames of a clip, or of some `frames`, 0 first. `native`: see `Motion.paths`."""
    paths = grid_paths(motion, grid, num_frames, native=native, as_released=as_released)
    if frames is not None:
        paths = paths[:, frames]
    if motion.brush is None:
        return BrushedHints(hints_from_paths(paths, grid, as_released=as_released))
    alpha = brush_alpha(motion.brush, grid)
    inside = starts_on_brush(paths, alpha, as_released=as_released)
    parts = (hints_from_paths(paths[on], grid, as_released=as_released) for on in (~inside, inside))
    return BrushedHints(*parts, alpha[None])


def brush_alpha(brush: UInt8[np.ndarray, "h w"], grid: Size) -> Float[Tensor, "H W"]:
    """How much the brush covers each pixel of the grid (height, width), in [0, 1]: bilinear, as the
    release's published results were made, though it means to ask for nearest."""
    pixels = torch.from_numpy(np.array(brush, np.float64))[None, None]
    return functional.interpolate(pixels, grid, mode="bilinear")[0, 0].float() / 255


def starts_on_brush(
    paths: Paths, alpha: Float[Tensor, "H W"], *, as_released: bool = False
) -> Bool[Tensor, " N"]:
    """Which paths start where the brush covers at least half a pixel; differs from the release,
    where (`as_released`) it must cover the pixel fully."""
    x, y = _starts(paths, tuple(alpha.shape))
    full = 1 - 1e-6  # a fully painted pixel, but for rounding
    return alpha[y, x] >= (full if as_released else 0.5)


def combine_brush(
    inside_flow: Flow, outside_flow: Flow, alpha: Float[Tensor, "1 H W"] | None = None
) -> Flow:
    """Join the dense flows of the tracks on the brush and of all others, blended by its cover.

    As released, without `alpha` but with an inside flow multiplied by it: the inside flow where
    *both* its components are non-zero, else the outside flow. Motion along one axis is lost, and
    the brush's soft edge shortens vectors."""
    if alpha is not None:
        return alpha * inside_flow + (1 - alpha) * outside_flow
    moving = (inside_flow != 0).all(dim=1, keepdim=True)
    return torch.where(moving, inside_flow, outside_flow)
