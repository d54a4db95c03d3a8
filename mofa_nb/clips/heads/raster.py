"""A z-buffer in plain torch: triangle meshes to pixels, batched, on any device."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ID_BITS = 20
CANDIDATES = 2_000_000  # pixel-triangle pairs examined at once
EMPTY = torch.iinfo(torch.int64).max
GROWTH = 1.4  # from one size of windows around triangles to the next: small ones cost little


@dataclass(frozen=True)
class Raster:
    """What each pixel shows."""

    triangle: Int[Tensor, "N H W"]  # index, or -1 where there is no mesh
    weights: Float[Tensor, "N H W 3"]  # barycentric, of its vertices at the pixel's centre

    @property
    def covered(self) -> Bool[Tensor, "N H W"]:
        """True where a mesh is seen."""
        return self.triangle >= 0


@torch.no_grad()
def rasterise(
    points: Float[Tensor, "N V 3"], triangles: Int[Tensor, "F 3"], size: tuple[int, int]
) -> Raster:
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
    place = pixel_centres(size, device) - start[which]
    slopes = planes[:, 1:3][which]  # N H W 2 3: of the second and the third weight
    second, third = ((slopes[..., :2] * place[..., None, :]).sum(-1) + slopes[..., 2]).unbind(-1)
    return Raster(triangle, torch.stack([1 - second - third, second, third], -1))


def pixel_centres(size: tuple[int, int], device: torch.device) -> Float[Tensor, "H W 2"]:
    """(x, y) of each pixel's middle."""
    y, x = (torch.arange(side, device=device) + 0.5 for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _covered(
    start: Float[Tensor, "n 2"], planes: Float[Tensor, "n 4 3"], side: int, size: tuple[int, int]
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
    place = corner[..., :2] - start[:, None]
    (ax, ay), (bx, by), (cx, cy) = (place[:, k].unbind(-1) for k in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    flat = area.abs() < 1e-6
    area = torch.where(flat, torch.ones_like(area), area)[:, None]
    second = torch.stack([cy - ay, ax - cx, ay * cx - ax * cy], -1) / area
    third = torch.stack([ay - by, bx - ax, ax * by - ay * bx], -1) / area
    first = second.new_tensor((0.0, 0.0, 1.0)) - second - third
    weights = torch.stack([first, second, third], 1)
    weights = torch.where(flat[:, None, None], weights.new_tensor((0.0, 0.0, -1.0)), weights)
    return torch.cat([weights, (weights * corner[..., 2:]).sum(1, keepdim=True)], 1)


def interpolate(
    raster: Raster, values: Float[Tensor, "N V C"], triangles: Int[Tensor, "F 3"]
) -> Float[Tensor, "N H W C"]:
    """A value per vertex, spread over the pixels; meaningless where nothing is covered."""
    first = torch.arange(len(values), device=values.device) * values.shape[1]
    corner = triangles[raster.triangle.clamp(min=0)] + first[:, None, None, None]  # N H W 3
    rows = values.flatten(0, 1)
    return sum(rows[corner[..., k]] * raster.weights[..., k, None] for k in range(3))
