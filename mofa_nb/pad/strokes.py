"""Geometry of drawing: strokes to control points, painted masks, distances, moved tracks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mofa_nb.motion.motion import Track
from mofa_nb.motion.tracks import pchip

EDGE = 0.01  # how far inside the far edge a clamped point stays, pixels
_MOST_POINTS = 12

Number = float | int
Point = tuple[Number, Number]
Bounds = tuple[Number, Number, Number, Number]  # left, top, right, bottom


def whole(size: tuple[int, int]) -> Bounds:
    """The box of an image of `size` (width, height)."""
    return 0.0, 0.0, float(size[0]), float(size[1])


def inside(x: Number, y: Number, box: Bounds) -> Point:
    """The pixel (x, y) moved into a box, to a hundredth of a pixel."""
    left, top, right, bottom = box
    x = min(max(round(float(x), 2), left), round(right - EDGE, 2))
    return x, min(max(round(float(y), 2), top), round(bottom - EDGE, 2))


def distance(a: Point, b: Point) -> float:
    """Pixels between two points."""
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def track_along(stroke: Sequence[Point], tolerance: Number) -> Track:
    """A track through a few of a stroke's points, travelled at an even speed.

    Points are added where the path strays farthest from the stroke, at most 12.

    Args:
        stroke: pixels (x, y) in the order drawn, at least two different ones.
        tolerance: the farthest that the path may stray, pixels.
    """
    line = np.array([p for i, p in enumerate(stroke) if i == 0 or p != stroke[i - 1]])
    arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    times, dense = arc / arc[-1], np.linspace(0, 1, 65)
    chosen = [0, len(line) - 1]
    while len(chosen) < _MOST_POINTS:
        strays = _distances(line, pchip(line[chosen], times[chosen], dense))
        strays[chosen] = 0
        if strays.max() <= tolerance:
            break
        chosen = sorted([*chosen, int(strays.argmax())])
    even = len(chosen) == 2
    return Track(line[chosen].tolist(), None if even else times[chosen].round(6).tolist())


def painted(
    mask: UInt8[np.ndarray, "H W"], stroke: Sequence[Point], radius: Number, value: int
) -> UInt8[np.ndarray, "H W"]:
    """A copy of `mask` with `value` (0 or 255) along the stroke, `radius` pixels to each side."""
    import cv2

    shift = 4  # OpenCV takes sixteenths of a pixel
    points = np.round((np.array(stroke) - 0.5) * 2**shift).astype(np.int32)
    result = np.ascontiguousarray(mask).copy()
    for point in (points[0], points[-1]):
        cv2.circle(result, point.tolist(), round(radius * 2**shift), value, -1, shift=shift)
    thickness = max(1, round(2 * radius))
    cv2.polylines(result, [points], False, value, thickness, shift=shift)
    return result


def outline(mask: UInt8[np.ndarray, "H W"], width: Number) -> Bool[np.ndarray, "H W"]:
    """The painted pixels within `width` of unpainted ones."""
    import cv2

    side = 2 * max(1, round(width)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return (mask > 0) & (cv2.erode(mask, kernel) == 0)


@lru_cache(maxsize=512)
def curve(track: Track) -> Float[np.ndarray, "T 2"]:
    """The track's shape as 33 points (x, y), whatever its speed."""
    knots = np.linspace(0, 1, len(track.points)) if track.times is None else np.array(track.times)
    at = np.linspace(knots[0], knots[-1], 33)
    return pchip(np.array(track.points, np.float64), knots, at)


def length(track: Track) -> float:
    """How far the track travels, pixels."""
    return float(np.hypot(*np.diff(curve(track), axis=0).T).sum())


def distance_to_track(track: Track, point: Point) -> float:
    """Pixels from `point` to the nearest place on the track."""
    return float(_distances(np.array([point]), curve(track))[0])


def _distances(
    points: Float[np.ndarray, "N 2"], line: Float[np.ndarray, "T 2"]
) -> Float[np.ndarray, " N"]:
    """From each point to the nearest place on a polyline."""
    start, leg = line[:-1], np.diff(line, axis=0)  # T-1 2
    gap = points[:, None] - start  # N T-1 2
    part = (gap * leg).sum(-1) / np.maximum((leg**2).sum(-1), 1e-9)
    away = gap - np.clip(part, 0, 1)[..., None] * leg
    return np.hypot(away[..., 0], away[..., 1]).min(1)


def with_point_at(track: Track, index: int, point: Point) -> Track:
    """The track with one control point elsewhere."""
    points = (*track.points[:index], point, *track.points[index + 1 :])
    return replace(track, points=points)


def shifted(track: Track, dx: Number, dy: Number, size: tuple[int, int], box: Bounds) -> Track:
    """The track moved towards (dx, dy): its start stays in the box, the rest near the image."""
    shift = []
    for axis, wanted in enumerate((dx, dy)):
        values, side = [p[axis] for p in track.points], size[axis]
        low = max(min(box[axis] - values[0], 0), *(-side - v for v in values[1:]))
        far = max(box[axis + 2] - EDGE - values[0], 0)
        high = min(far, *(2 * side - v for v in values[1:]))
        shift.append(min(max(wanted, low), high))
    return track.mapped(lambda x, y: (round(x + shift[0], 2), round(y + shift[1], 2)))
