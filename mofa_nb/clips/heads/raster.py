"""A z-buffer in plain torch: triangle meshes to pixels, batched, on any device."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ID_BITS = 20
CANDIDATES = 6_000_000  # pixel-triangle pairs examined at once
EMPTY = torch.iinfo(torch.int64).max


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
    corners = points[:, triangles].flatten(0, 1)  # N*F 3 3
    buffer = points.new_full((len(points), *size), EMPTY, dtype=torch.int64)
    near, far = points[..., 2].amin(), points[..., 2].amax()
    unit = (2**30) / (far - near).clamp(min=1e-6)
    for chosen, side in _buckets(corners, size):
        for part in chosen.split(max(1, CANDIDATES // (side * side))):
            image, index = part // len(triangles), part % len(triangles)
            n, place, z = _covered(corners[part], side, size)
            key = ((z - near) * unit).long().clamp(0, 2**31) << ID_BITS
            place = image[n] * size[0] * size[1] + place
            buffer.view(-1).scatter_reduce_(0, place, key + index[n], "amin")
    triangle = torch.where(buffer == EMPTY, -1, buffer & (2**ID_BITS - 1))
    return Raster(triangle, _weights_at(corners, triangle))


def _buckets(corners: Tensor, size: tuple[int, int]):
    """Yield (indices of N*F triangles, window side), so that small triangles cost little."""
    low = corners[..., :2].amin(1).clamp(min=0)
    high = torch.minimum(corners[..., :2].amax(1), corners.new_tensor(size[::-1]))
    extent, inside = (high - low).amax(-1), (high > low).all(-1)
    smallest, side = -1.0, 2
    while smallest < max(size):
        # a window of `side` pixels, started at a whole pixel, holds an extent of side - 1
        chosen = (inside & (extent > smallest) & (extent <= side - 1)).nonzero().squeeze(1)
        if len(chosen):
            yield chosen, side
        smallest, side = side - 1, max(side + 2, int(side * 1.4))


def _covered(
    corner: Float[Tensor, "n 3 3"], side: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Which triangle covers which pixel (numbered row by row) at which depth, [K] each."""
    start = corner[..., :2].amin(1).clamp(min=0).floor()  # n 2
    planes = _planes(corner, start)
    ramp = torch.arange(side, device=corner.device)
    across = planes[:, :, 0, None] * (ramp + 0.5)
    down = planes[:, :, 1, None] * (ramp + 0.5) + planes[:, :, 2, None]
    x, y = (start[:, k, None].long() + ramp for k in range(2))
    inside = (x < size[1])[:, None, :] & (y < size[0])[:, :, None]
    for k in range(3):
        inside &= (across[:, k, None] + down[:, k, :, None]) >= 0
    n, row, column = inside.nonzero(as_tuple=True)
    return n, y[n, row] * size[1] + x[n, column], across[n, 3, column] + down[n, 3, row]


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


def _weights_at(corners: Tensor, triangle: Int[Tensor, "N H W"]) -> Float[Tensor, "N H W 3"]:
    """Barycentric weights at pixel centres of the triangle that each pixel shows."""
    count, height, width = triangle.shape
    start = corners[..., :2].amin(1).floor()
    first = torch.arange(count, device=triangle.device)[:, None, None] * (len(corners) // count)
    chosen = triangle.clamp(min=0) + first
    x = torch.arange(width, device=triangle.device) + 0.5 - start[chosen, 0]
    y = torch.arange(height, device=triangle.device)[:, None] + 0.5 - start[chosen, 1]
    a, b, c = _planes(corners, start)[:, 1:3].flatten(1)[chosen].unflatten(-1, (2, 3)).unbind(-1)
    second, third = (a * x[..., None] + b * y[..., None] + c).unbind(-1)
    return torch.stack([1 - second - third, second, third], -1)


def interpolate(
    raster: Raster, values: Float[Tensor, "N V C"], triangles: Int[Tensor, "F 3"]
) -> Float[Tensor, "N H W C"]:
    """A value per vertex, spread over the pixels; meaningless where nothing is covered."""
    first = torch.arange(len(values), device=values.device) * values.shape[1]
    corner = triangles[raster.triangle.clamp(min=0)] + first[:, None, None, None]  # N H W 3
    rows = values.flatten(0, 1)
    return sum(rows[corner[..., k]] * raster.weights[..., k, None] for k in range(3))
