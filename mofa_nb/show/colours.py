"""Flow as colours: direction is hue, length is saturation (the Middlebury wheel); and features,
whose three directions in which they vary most become red, green and blue."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# The wheel runs red, yellow, green, cyan, blue, magenta, red, with so many steps in between.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))
_UNKNOWN = 1e7  # longer components mean "not known"
HOLE = (24, 24, 28)  # a cell of features where nothing landed
_BEYOND = 0.75  # brightness of vectors longer than the scale

Flow = Float[Tensor, "*T 2 H W"] | Float[np.ndarray, "*T 2 H W"]


def default_scale(height: int, width: int) -> float:
    """The length in pixels that gets full colour unless told otherwise: a quarter short side."""
    return min(height, width) / 4


def flow_to_rgb(
    flow: Flow, scale: float | int | None = None, *, as_released: bool = False
) -> UInt8[np.ndarray, "*T H W 3"]:
    """Colour a flow; still is white, right is red, down is yellow-green, unknown is black.

    flow: pixels (dx, dy); NaN, infinite or beyond 1e7 means unknown. scale: length in pixels that
    gets full colour, longer vectors are darkened; by default `default_scale`, so that pictures of
    one size compare. as_released: each frame is divided by its own longest vector instead; a NaN
    anywhere in it flips all its directions and skips that division."""
    array = _array(flow)
    *frames, _, height, width = array.shape
    if scale is None and not as_released:
        scale = default_scale(height, width)
    fields = array.astype(np.float64).reshape(-1, 2, height, width)
    pictures = [_colour(field, None if as_released else scale) for field in fields]
    return np.array(pictures, np.uint8).reshape(*frames, height, width, 3)


def longest_vector(flow: Flow) -> float:
    """The length of the longest known vector in pixels, at least 1: a scale that fits a clip."""
    lengths = np.hypot(*np.moveaxis(_array(flow), -3, 0))
    return float(lengths[lengths < _UNKNOWN].max(initial=1.0))


def _array(flow: Flow) -> np.ndarray:
    return flow.detach().cpu().numpy() if isinstance(flow, Tensor) else np.asarray(flow)


def _colour(field: Float[np.ndarray, "2 H W"], scale: float | int | None) -> np.ndarray:
    """One frame; without a scale as the release has it."""
    missing = np.isnan(field).any(0)
    with np.errstate(invalid="ignore"):
        unknown = missing | (np.abs(field) > _UNKNOWN).any(0)
    dx, dy = np.where(unknown, 0, field)
    if scale is None:
        longest = -1.0 if missing.any() else np.hypot(dx, dy).max()
        scale = longest + np.finfo(np.float64).eps
    radius, angle = np.hypot(dx, dy) / abs(scale), np.arctan2(-dy / scale, -dx / scale)
    wheel = colour_wheel()
    position = (angle / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(position).astype(int)
    part = (position - below)[..., None]
    colour = (1 - part) * wheel[below] + part * wheel[(below + 1) % len(wheel)]
    inside = (radius <= 1)[..., None]
    colour = np.where(inside, 1 - radius[..., None] * (1 - colour), _BEYOND * colour)
    return np.floor(255 * colour * ~unknown[..., None]).astype(np.uint8)


@cache
def colour_wheel() -> Float[np.ndarray, "55 3"]:
    """RGB in [0, 1] around the circle, from pointing left, by up and right, back to left."""
    legs = []
    for steps, start, stop in zip(_STEPS, _CORNERS[:-1], _CORNERS[1:], strict=True):
        climb = np.floor(255 * np.arange(steps)[:, None] / steps) / 255
        rises = np.subtract(stop, start)
        legs.append(np.where(rises < 0, 1 - climb, np.where(rises > 0, climb, start)))
    return np.concatenate(legs)


def wheel_picture(side: int = 96) -> UInt8[np.ndarray, "side side 3"]:
    """The legend: a disc in which each place has the colour of the vector from the centre to it."""
    axis = (np.arange(4 * side) + 0.5) / (4 * side) * 2 - 1
    dx, dy = np.meshgrid(axis, axis)
    disc = flow_to_rgb(np.stack([dx, dy]), scale=1.0).astype(np.float64)
    disc[np.hypot(dx, dy) > 1] = 255
    return np.rint(disc.reshape(side, 4, side, 4, 3).mean((1, 3))).astype(np.uint8)


@dataclass(frozen=True)
class FeatureColours:
    """A fixed way from channels to colours, so that pictures made with it compare."""

    mean: Float[Tensor, " C"]
    axes: Float[Tensor, "3 C"]  # the principal directions
    reach: Float[Tensor, " 3"]  # along each axis, the projection that gets full colour

    @staticmethod
    def of(features: Float[Tensor, "*T C h w"]) -> "FeatureColours":
        """Fitted to feature maps by principal component analysis; needs three channels or more."""
        rows = _rows(features)
        mean = rows.mean(0)
        axes = torch.linalg.svd(rows - mean, full_matrices=False)[2][:3]
        axes = axes * torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)  # svd leaves signs open
        reach = ((rows - mean) @ axes.T).abs().quantile(0.98, dim=0).clamp(min=1e-9)
        return FeatureColours(mean, axes, reach)

    def __call__(self, features: Float[Tensor, "*T C h w"]) -> UInt8[np.ndarray, "*T h w 3"]:
        """Colours of feature maps; where all channels are exactly zero there is a dark hole."""
        rows = _rows(features)
        unit = (rows - self.mean) @ self.axes.T / self.reach
        colours = ((unit.clamp(-1, 1) + 1) * 127.5).round()
        holes = (rows == 0).all(1, keepdim=True)
        colours = torch.where(holes, colours.new_tensor(HOLE), colours)
        *frames, _, height, width = features.shape
        return colours.byte().numpy().reshape(*frames, height, width, 3)


def _rows(features: Float[Tensor, "*T C h w"]) -> Float[Tensor, "N C"]:
    return features.detach().float().cpu().movedim(-3, -1).reshape(-1, features.shape[-3])
