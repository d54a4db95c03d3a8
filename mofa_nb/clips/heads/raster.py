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
    """What each pixel shows.

    triangle: index, or -1 where there is no mesh.
    weights: barycentric weights of the triangle's three vertices at the pixel's centre.
    """

    triangle: Int[Tensor, "N H W"]
    weights: Float[Tensor, "N H W 3"]

    @property
    def covered(self) -> Bool[Tensor, "N H W"]:
        """True where a mesh is seen."""
        return self.triangle >= 0


def rasterise(
    points: Float[Tensor, "N V 3"], triangles: Int[Tensor, "F 3"], size: tuple[int, int]
) -> Raster:
    """Nearest triangle per pixel.

    Args:
        points: (x, y) in pixels, where pixel i covers [i, i+1), and depth, smaller is nearer.
        triangles: at most 2**20 of them; both windings are drawn.
        size: (H, W).
    """
    with torch.no_grad():
        corners = points[:, triangles]  # N F 3 3
        buffer = points.new_full((len(points), *size), EMPTY, dtype=torch.int64)
        near, far = points[..., 2].amin(), points[..., 2].amax()
        unit = (2**30) / (far - near).clamp(min=1e-6)
        for chosen, side in _buckets(corners, size):
            step = max(1, CANDIDATES // (side * side))
            for part in chosen.split(step):
                _draw(buffer, corners, part, side, (near, unit))
        triangle = torch.where(buffer == EMPTY, -1, buffer & (2**ID_BITS - 1))
    return Raster(triangle, _weights_at(points, triangles, triangle))


def _buckets(corners: Tensor, size: tuple[int, int]):
    """Yield (indices of N*F triangles, window side), so that small triangles cost little."""
    low = corners[..., :2].amin(2).clamp(min=0)
    high = torch.minimum(corners[..., :2].amax(2), corners.new_tensor(size[::-1]))
    extent = (high - low).amax(-1).flatten()
    inside = (high > low).all(-1).flatten()
    smallest, side = -1.0, 2
    while smallest < max(size):
        # a window of `side` pixels, started at a whole pixel, holds an extent of side - 1
        chosen = (inside & (extent > smallest) & (extent <= side - 1)).nonzero().squeeze(1)
        if len(chosen):
            yield chosen, side
        smallest, side = side - 1, max(side + 2, int(side * 1.4))


def _draw(buffer: Tensor, corners: Tensor, part: Tensor, side: int, depth: tuple) -> None:
    """Write depth and index of the triangles numbered `part` where they are nearest."""
    _, height, width = buffer.shape
    count = corners.shape[1]
    image, index = part // count, part % count
    corner = corners.flatten(0, 1)[part]  # n 3 3
    start = corner[..., :2].amin(1).clamp(min=0).floor()  # n 2
    planes = _planes(corner, start)  # n 4 3
    ramp = torch.arange(side, device=corner.device)
    across = planes[:, :, 0, None] * (ramp + 0.5)
    down = planes[:, :, 1, None] * (ramp + 0.5) + planes[:, :, 2, None]
    x, y = (start[:, k, None].long() + ramp for k in range(2))
    inside = (x < width)[:, None, :] & (y < height)[:, :, None]
    for k in range(3):
        inside &= (across[:, k, None] + down[:, k, :, None]) >= 0
    n, row, column = inside.nonzero(as_tuple=True)
    z = across[n, 3, column] + down[n, 3, row]
    key = ((z - depth[0]) * depth[1]).long().clamp(0, 2**31) << ID_BITS
    place = (image[n] * height + y[n, row]) * width + x[n, column]
    buffer.view(-1).scatter_reduce_(0, place, key + index[n], "amin")


def _planes(corner: Tensor, start: Tensor) -> Tensor:
    """Coefficients (of x, of y, constant) of the three weights and of depth, [n, 4, 3].

    Coordinates count from `start`, which keeps float32 exact enough; a triangle without area gets
    weights that are negative everywhere.
    """
    place = corner[..., :2] - start[:, None]
    (ax, ay), (bx, by), (cx, cy) = (place[:, k].unbind(-1) for k in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    flat = area.abs() < 1e-6
    area = torch.where(flat, torch.ones_like(area), area)
    second = torch.stack([cy - ay, ax - cx, ay * cx - ax * cy], -1) / area[:, None]
    third = torch.stack([ay - by, bx - ax, ax * by - ay * bx], -1) / area[:, None]
    first = second.new_tensor((0.0, 0.0, 1.0)) - second - third
    weights = torch.stack([first, second, third], 1)
    weights = torch.where(flat[:, None, None], weights.new_tensor((0.0, 0.0, -1.0)), weights)
    z = (weights * corner[..., 2:]).sum(1, keepdim=True)
    return torch.cat([weights, z], 1)


def _weights_at(points: Tensor, triangles: Tensor, triangle: Tensor) -> Tensor:
    """Barycentric weights at pixel centres of the triangle that each pixel shows."""
    height, width = triangle.shape[1:]
    corner = points[:, triangles].flatten(0, 1)  # N*F 3 3
    start = corner[..., :2].amin(1).floor()
    table = torch.cat([_planes(corner, start)[:, 1:3].flatten(1), start], 1)  # N*F 8
    offset = torch.arange(len(points), device=points.device)[:, None, None] * len(triangles)
    plane = table[triangle.clamp(min=0) + offset]  # N H W 8
    x = torch.arange(width, device=points.device) + 0.5 - plane[..., 6]
    y = torch.arange(height, device=points.device)[:, None] + 0.5 - plane[..., 7]
    second = plane[..., 0] * x + plane[..., 1] * y + plane[..., 2]
    third = plane[..., 3] * x + plane[..., 4] * y + plane[..., 5]
    return torch.stack([1 - second - third, second, third], -1)


def interpolate(
    raster: Raster, values: Float[Tensor, "N V C"], triangles: Int[Tensor, "F 3"]
) -> Float[Tensor, "N H W C"]:
    """A value per vertex, spread over the pixels; meaningless where nothing is covered."""
    first = torch.arange(len(values), device=values.device) * values.shape[1]
    corner = triangles[raster.triangle.clamp(min=0)] + first[:, None, None, None]  # N H W 3
    rows = values.flatten(0, 1)
    total = rows[corner[..., 0]] * raster.weights[..., :1]
    for k in (1, 2):
        total += rows[corner[..., k]] * raster.weights[..., k, None]
    return total
