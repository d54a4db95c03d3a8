"""Moving meshes over a picture: frames, exact flow, and what stays visible; and the z-buffer that
draws them, in plain torch, on any device."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mofa_nb.checks import Size
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.faces.points import VERTEX_OF_68

PIXELS_AT_ONCE = 224 * 128 * 128  # of the frames
SAME_PART_CM, OTHER_PART_CM = 0.6, 0.03  # how much nearer a surface must be to hide another
ID_BITS = 20
CANDIDATES = 2_000_000  # pixel-triangle pairs examined at once
EMPTY = torch.iinfo(torch.int64).max
GROWTH = 1.4  # from one size of windows around triangles to the next: small ones cost little
FACE_PARTS = 6  # the first parts of every mesh: skin, eyes, mouth, teeth


@dataclass(frozen=True)
class FaceBatch(SceneBatch):
    """Clips of a head; layer 1 is the face (skin, eyes, mouth)."""

    landmarks: Float[Tensor, "B T 68 2"]  # pixels (x, y), pixel i covers [i, i + 1)


class Mesh(NamedTuple):
    """Surfaces that move; the first 468 vertices are the face's."""

    part: Int[Tensor, " V"]  # number of the surface that a vertex belongs to
    triangles: Int[Tensor, "F 3"]
    look: Float[Tensor, "V 2"]  # where a vertex reads the texture, in [-1, 1] (x, y)
    points: Float[Tensor, "B T V 3"]  # in the picture: pixels (x, y), and depth in cm


def joined(pieces: Sequence[tuple[int, Tensor, Tensor, Tensor]]) -> Mesh:
    """One mesh of several, each with a part's number for all of its vertices."""
    parts, triangles, looks, points = zip(*pieces, strict=True)
    counts, device = [len(look) for look in looks], points[0].device
    starts = itertools.accumulate(counts[:-1], initial=0)
    index = torch.cat([each + start for each, start in zip(triangles, starts, strict=True)])
    part = torch.tensor(parts).repeat_interleave(torch.tensor(counts))
    look = torch.cat([look.to(device) for look in looks])
    return Mesh(part.to(device), index.to(device), look, torch.cat(points, 2))


def film(
    mesh: Mesh, texture: Float[Tensor, "B 3 S A"], light: Float[Tensor, "B T V 1"],
    behind: Float[Tensor, "B 3 H W"], samples: int,
) -> FaceBatch:  # fmt: skip
    """Draw a mesh, its texture times its light, before still pictures, and say where each pixel of
    frame 0 goes. samples: of the picture, per pixel and side."""
    some = max(1, PIXELS_AT_ONCE // (mesh.points.shape[1] * behind.shape[-2] * behind.shape[-1]))
    rows = zip(*(each.split(some) for each in (mesh.points, texture, light, behind)), strict=True)
    fields = zip(*(_clips(mesh, *row, samples) for row in rows), strict=True)
    return FaceBatch(*map(torch.cat, fields), mesh.points[:, :, list(VERTEX_OF_68), :2])


def _clips(
    mesh: Mesh, points: Tensor, texture: Tensor, light: Tensor, behind: Tensor, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    size, part = tuple(behind.shape[-2:]), mesh.part[mesh.triangles[:, 0]]
    shape, fine = points.shape[:2], tuple(side * samples for side in size)
    scaled = points.flatten(0, 1) * points.new_tensor((samples, samples, 1))
    seen = rasterise(scaled, mesh.triangles, fine)
    vertices = torch.cat([mesh.look.expand(*shape, -1, -1), light, points[..., 2:]], -1)
    values = interpolate(seen, vertices.flatten(0, 1), mesh.triangles).unflatten(0, shape)
    covered = seen.covered.unflatten(0, shape)  # B T H*s W*s
    place = values[..., :2].flatten(1, 2)
    colour = F.grid_sample(texture, place, align_corners=False, padding_mode="border")
    colour = colour.unflatten(2, (-1, fine[0])).transpose(1, 2) * values[:, :, None, ..., 2]
    shown = covered[:, :, None]
    ahead, coverage = (
        F.avg_pool2d(each.flatten(0, 1), samples).unflatten(0, shape)
        for each in (colour.where(shown, 0), shown.float())
    )
    frames = (ahead + (1 - coverage) * behind[:, None]).clamp(0, 1)
    depth = values[..., 3].where(covered, torch.inf)
    parts = part[seen.triangle.clamp(min=0)].where(seen.covered, -1).unflatten(0, shape)

    first, here = rasterise(points[:, 0], mesh.triangles, size), pixel_centres(size, points.device)
    later = points[:, 1:].transpose(1, 2).flatten(2)  # B V (T-1)*3
    target = interpolate(first, later, mesh.triangles).unflatten(-1, (-1, 3)).movedim(3, 1)
    covered = first.covered[:, None]
    place = target[..., :2].where(covered[..., None], here)  # B T-1 H W 2
    number = part[first.triangle.clamp(min=0)].where(first.covered, -1)[:, None]
    z = target[..., 2].where(covered, torch.inf)
    visible = _still_seen(place * samples, z, number, depth[:, 1:], parts[:, 1:])
    face = ((number >= 0) & (number < FACE_PARTS))[:, 0].long()
    return frames, (place - here).movedim(-1, 2), visible[:, :, None], face


def _still_seen(
    place: Tensor, z: Tensor, number: Tensor, depth: Tensor, part: Tensor
) -> Bool[Tensor, "B T-1 H W"]:
    """True where one of the four samples around `place` shows the surface at depth `z`."""
    height, width = depth.shape[-2:]
    x, y = place.unbind(-1)
    seen = torch.zeros_like(x, dtype=torch.bool)
    for below, right in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
        row = (y + below).floor().long().clamp(0, height - 1)
        column = (x + right).floor().long().clamp(0, width - 1)
        index = (row * width + column).flatten(2)
        there, what = (values.flatten(2).gather(2, index).view_as(z) for values in (depth, part))
        nearer = torch.where(what == number, SAME_PART_CM, OTHER_PART_CM)
        seen |= torch.where(number < 0, what < 0, z <= there + nearer)
    return seen & (x >= 0) & (x < width) & (y >= 0) & (y < height)


class Raster(NamedTuple):
    triangle: Int[Tensor, "N H W"]  # index, or -1 where there is no mesh
    weights: Float[Tensor, "N H W 3"]  # barycentric, of its vertices at the pixel's centre

    @property
    def covered(self) -> Bool[Tensor, "N H W"]:
        return self.triangle >= 0


@torch.no_grad()
def rasterise(points: Float[Tensor, "N V 3"], triangles: Int[Tensor, "F 3"], size: Size) -> Raster:
    """Nearest triangle per pixel of (H, W) `size`; at most 2**20 triangles of either winding.
    points: (x, y) in pixels, where pixel i covers [i, i+1), and depth, smaller is nearer."""
    corners, device = points[:, triangles].flatten(0, 1), points.device  # N*F 3 3
    low = corners[..., :2].amin(1).clamp(min=0)
    start, extent = low.floor(), torch.minimum(corners[..., :2].amax(1), low.new_tensor(size[::-1]))
    extent = extent - low
    planes = _planes(corners, start)
    # a window of `side` pixels, started at a whole pixel, holds an extent of side - 1
    level = ((extent.amax(-1) + 1).log() / math.log(GROWTH)).ceil().clamp(min=2)
    level = torch.where((extent > 0).all(-1), level, 0).long()
    buffer = torch.full((len(points) * size[0] * size[1],), EMPTY, device=device)
    near, far = points[..., 2].amin(), points[..., 2].amax()
    unit = (2**30) / (far - near).clamp(min=1e-6)
    for number in filter(None, level.unique().tolist()):
        side = math.ceil(GROWTH**number)
        for part in (level == number).nonzero()[:, 0].split(max(1, CANDIDATES // side**2)):
            n, place, z = _covered(start[part], planes[part], side, size)
            image, index = part[n] // len(triangles), part[n] % len(triangles)
            key = ((z - near) * unit).long().clamp(0, 2**31) << ID_BITS
            buffer.scatter_reduce_(0, image * size[0] * size[1] + place, key + index, "amin")
    buffer = buffer.view(len(points), *size)
    triangle = torch.where(buffer == EMPTY, -1, buffer & (2**ID_BITS - 1))
    first = torch.arange(len(points), device=device)[:, None, None] * len(triangles)
    which = triangle.clamp(min=0) + first
    place = F.pad(pixel_centres(size, device) - start[which], (0, 1), value=1.0)
    return Raster(triangle, (planes[which][..., :3, :] * place[..., None, :]).sum(-1))


def pixel_centres(size: Size, device: torch.device) -> Float[Tensor, "H W 2"]:
    y, x = (torch.arange(side, device=device) + 0.5 for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _covered(
    start: Float[Tensor, "n 2"], planes: Float[Tensor, "n 4 3"], side: int, size: Size
) -> tuple[Tensor, Tensor, Tensor]:
    """Which triangle covers which pixel (numbered row by row) at which depth, [K] each."""
    ramp = torch.arange(side, device=start.device)
    x, y = (start[:, k, None].long() + ramp for k in range(2))
    across, down, level = planes[..., None, None].unbind(2)  # n 4 1 1
    values = across * (ramp + 0.5) + (down * (ramp + 0.5)[:, None] + level)  # n 4 side side
    inside = (values[:, :3] >= 0).all(1) & (x < size[1])[:, None] & (y < size[0])[:, :, None]
    n, row, column = inside.nonzero(as_tuple=True)
    return n, y[n, row] * size[1] + x[n, column], values[n, 3, row, column]


def _planes(corner: Float[Tensor, "n 3 3"], start: Float[Tensor, "n 2"]) -> Float[Tensor, "n 4 3"]:
    """Coefficients (of x, of y, constant) of the three weights, negative where there is no area,
    and of depth; coordinates count from `start`, which keeps float32 exact enough."""
    place = F.pad(corner[..., :2] - start[:, None], (0, 1), value=1.0)
    edges = torch.linalg.cross(place.roll(-1, 1), place.roll(-2, 1))  # each opposite its corner
    area = (edges[:, :1] * place[:, :1]).sum(-1, keepdim=True)
    weights = torch.where(area.abs() < 1e-6, edges.new_tensor((0.0, 0.0, -1.0)), edges / area)
    return torch.cat([weights, (weights * corner[..., 2:]).sum(1, keepdim=True)], 1)


def interpolate(
    raster: Raster, values: Float[Tensor, "N V C"], triangles: Int[Tensor, "F 3"]
) -> Float[Tensor, "N H W C"]:
    """A value per vertex, spread over the pixels; meaningless where nothing is covered."""
    first = torch.arange(len(values), device=values.device) * values.shape[1]
    corner = triangles[raster.triangle.clamp(min=0)] + first[:, None, None, None]  # N H W 3
    rows = values.flatten(0, 1)
    return sum(rows[corner[..., k]] * raster.weights[..., k, None] for k in range(3))
