"""What a layer looks like: photographs, and the shapes that cut them out."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import Dice

HARMONICS = 5
SIDES = 7
Photo, Tile = UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "3 S S"]
Rasters = Float[Tensor, "n 3 S S"]  # [0, 1]
Distances = Float[Tensor, "n S S"]  # to the edge of a shape, canvas pixels, negative inside
Points, Radii = Float[Tensor, "n S S 2"], Float[Tensor, " n"]  # pixels


def tile(photo: Photo, side: int, nearness: float, rng: np.random.Generator) -> Tile:
    """A square crop at a random place; nearness 1 shows the whole short side."""
    return cropped(photo, (side, side), nearness, rng.uniform(size=2)).transpose(2, 0, 1)


def cropped(
    image: Photo, size: tuple[int, int], nearness: float, place: Float[np.ndarray, "2"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to cover `size`, `nearness` times larger, and cut at `place` in [0, 1]."""
    height, width = image.shape[:2]
    scale = nearness * max(size[0] / height, size[1] / width)
    target = max(size[1], round(width * scale)), max(size[0], round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, target, interpolation=how) if scale != 1 else image
    top = round((image.shape[0] - size[0]) * float(place[1]))
    left = round((image.shape[1] - size[1]) * float(place[0]))
    return image[top : top + size[0], left : left + size[1]]


def photo_rasters(dice: Dice, photos: UInt8[Tensor, "P 3 S S"], count: int) -> Rasters:
    """Random photos in [0, 1], mirrored at random, with a mild colour jitter."""
    rasters = photos[dice.integer((count,), len(photos))].float() / 255
    one = (count, 1, 1, 1)
    rasters = torch.where(dice.chance(one, 0.5), rasters.flip(-1), rasters)
    jittered = dice.chance(one, 0.6)
    gain = 1 + dice.normal((count, 3, 1, 1), 0.05) + dice.normal(one, 0.10)
    bias, colour = dice.normal(one, 0.04), 1 + dice.normal(one, 0.15)
    grey = rasters.mean(1, keepdim=True)
    changed = (grey + (rasters - grey) * colour) * gain + bias
    return torch.where(jittered, changed, rasters).clamp(0, 1)


def shape_distances(dice: Dice, points: Points, radius: Radii) -> Distances:
    """Signed distance (pixels, negative inside) to random blobs, ellipses, boxes and polygons.
    points: canvas pixels from each shape's centre; radius: about half its width, pixels."""
    stretch = dice.uniform((len(points), 1, 1), 1.0, 1.6).sqrt()
    slope = dice.angle((len(points), 1, 1))
    x = (slope.cos() * points[..., 0] + slope.sin() * points[..., 1]) / stretch
    y = (slope.cos() * points[..., 1] - slope.sin() * points[..., 0]) * stretch
    size = radius[:, None, None]
    kinds = [
        blob_distance(dice, x, y, size), polygon_distance(dice, x, y, size),
        box_distance(dice, x, y, size), torch.hypot(x, y) - size,
    ]  # fmt: skip
    return dice.one_of(kinds, (0.5, 0.2, 0.15, 0.15)) / stretch


def blob_distance(dice: Dice, x: Tensor, y: Tensor, size: Tensor) -> Distances:
    """A star-convex blob: its radius is a short Fourier series of the direction."""
    one, direction = (len(x), 1, 1), torch.atan2(y, x)
    swell, slope = torch.ones_like(direction), torch.zeros_like(direction)
    for k in range(1, HARMONICS + 1):
        height = dice.normal(one, 0.22 / k).clamp(-0.4 / k, 0.4 / k)
        angle = k * direction + dice.angle(one)
        swell = swell + height * angle.cos()
        slope = slope - k * height * angle.sin()
    swell = swell.clamp(min=0.35)
    return (torch.hypot(x, y) - size * swell) / (1 + (slope / swell).square()).sqrt()


def polygon_distance(dice: Dice, x: Tensor, y: Tensor, size: Tensor) -> Distances:
    """A convex polygon of three to seven sides with rounded corners."""
    one = (len(x), 1, 1)
    sides, turn = 3 + dice.integer(one, SIDES - 2), dice.angle(one)
    rounding = size * dice.uniform(one, 0.03, 0.12)
    total = torch.zeros_like(x)
    for k in range(SIDES):
        heading = turn + (k + dice.uniform(one, -0.2, 0.2)) * 2 * math.pi / sides
        edge = heading.cos() * x + heading.sin() * y - size * dice.uniform(one, 0.7, 1.0)
        total = total + (edge / rounding).where(k < sides, -math.inf).clamp(max=40).exp()
    return rounding * (total + 1e-12).log()


def box_distance(dice: Dice, x: Tensor, y: Tensor, size: Tensor) -> Distances:
    corner = size * dice.uniform((len(x), 1, 1), 0.05, 0.5)
    along, across = x.abs() - 0.9 * size + corner, y.abs() - 0.9 * size + corner
    outside = torch.hypot(along.clamp(min=0), across.clamp(min=0))
    return outside + torch.maximum(along, across).clamp(max=0) - corner


def shaded(
    dice: Dice, rasters: Rasters, points: Points, distance: Distances, radius: Radii
) -> Rasters:
    """Light from one side and a darker rim on half of the objects, so that they look solid."""
    one = (len(rasters), 1, 1)
    strength = dice.uniform(one, 0.1, 0.35) * dice.chance(one, 0.5)
    heading = dice.angle(one)
    size = radius[:, None, None]
    side = (heading.cos() * points[..., 0] + heading.sin() * points[..., 1]) / size
    rim = (1 + distance / (0.35 * size)).clamp(0, 1).square()
    light = 1 + strength * (0.6 * side.clamp(-1.2, 1.2) - 0.8 * rim)
    return (rasters * light[:, None]).clamp(0, 1)


def filled_behind(dice: Dice, rasters: Rasters, distance: Distances, reach: Radii) -> Rasters:
    """The photo with its cut-out region covered by a displaced part of the same photo.
    distance: to the cut-out, canvas pixels. reach: to the replacing part, raster pixels."""
    count, _, side, _ = rasters.shape
    heading = dice.normal((count,), 0.25) + math.pi * dice.integer((count,), 2)
    axis = torch.linspace(-1, 1, side, device=dice.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    step = (2 / (side - 1)) * reach
    offset = (step * torch.stack([heading.cos(), heading.sin()]))[..., None, None]
    grid = torch.stack([x + offset[0], y + offset[1]], -1)
    other = functional.grid_sample(rasters, grid, padding_mode="reflection", align_corners=True)
    cover = ((1 - distance) / 3).clamp(0, 1)[:, None]  # the photo is untouched just outside
    return rasters + (other - rasters) * cover
