"""Geometry of drawing: strokes to control points, painted masks, and what a hand can hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from math import dist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mofa_nb.motion.motion import Motion, Track
from mofa_nb.motion.tracks import pchip

EDGE = 0.01  # how far inside the far edge a clamped point stays, pixels
_MOST_POINTS = 12
_NEAR_HANDLE, _NEAR_TRACK = 11, 9  # screen pixels

Number = float | int
Point = tuple[Number, Number]
Bounds = tuple[Number, Number, Number, Number]  # left, top, right, bottom
Line = Float[np.ndarray, "_ 2"]
Mask = UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class Handle:
    """What can be held: kind "point" (of a track), "track" or "pin", and which."""

    kind: str
    index: int
    point: int = 0

    def is_in(self, motion: Motion) -> bool:
        items = motion.pins if self.kind == "pin" else motion.tracks
        there = self.index < len(items)
        return there and (self.kind != "point" or self.point < len(items[self.index].points))


def whole(size: tuple[int, int]) -> Bounds:
    return 0.0, 0.0, float(size[0]), float(size[1])


def inside(x: Number, y: Number, box: Bounds) -> Point:
    """The pixel (x, y) moved into a box, to a hundredth of a pixel."""
    left, top, right, bottom = box
    x = min(max(round(float(x), 2), left), round(right - EDGE, 2))
    return x, min(max(round(float(y), 2), top), round(bottom - EDGE, 2))


def track_along(stroke: Sequence[Point], tolerance: Number) -> Track:
    """A track through a few of a stroke's points (two of them differ), travelled at an even speed.
    Points are added where the path strays farthest from the stroke, until that is no more than the
    tolerance in pixels."""
    line = np.array([point for point, _ in groupby(stroke)])
    arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    times, dense = arc / arc[-1], np.linspace(0, 1, 65)
    indices = [0, len(line) - 1]
    while len(indices) < _MOST_POINTS:
        strays = distances(line, pchip(line[indices], times[indices], dense))
        strays[indices] = 0
        if strays.max() <= tolerance:
            break
        indices = sorted([*indices, int(strays.argmax())])
    even = len(indices) == 2
    return Track(line[indices].tolist(), None if even else times[indices].round(6).tolist())


def painted(mask: Mask, stroke: Sequence[Point], radius: Number, value: int) -> Mask:
    """A copy of `mask` with `value` (0 or 255) along the stroke, `radius` pixels to each side."""
    import cv2

    shift = 4  # OpenCV takes sixteenths of a pixel
    points = np.round((np.array(stroke) - 0.5) * 2**shift).astype(np.int32)
    result = np.array(mask, order="C")
    for point in points[[0, -1]]:
        cv2.circle(result, point.tolist(), round(radius * 2**shift), value, -1, shift=shift)
    cv2.polylines(result, [points], False, value, max(1, round(2 * radius)), shift=shift)
    return result


def outline(mask: Mask, width: Number) -> Bool[np.ndarray, "H W"]:
    """The painted pixels within `width` of unpainted ones."""
    import cv2

    side = 2 * max(1, round(width)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return (mask > 0) & (cv2.erode(mask, kernel) == 0)


@lru_cache(maxsize=512)
def curve(track: Track) -> Line:
    """The track's shape as 33 points (x, y), whatever its speed."""
    knots = np.linspace(0, 1, len(track.points)) if track.times is None else np.array(track.times)
    at = np.linspace(knots[0], knots[-1], 33)
    return pchip(np.array(track.points, np.float64), knots, at)


def distances(points: Line, line: Line) -> Float[np.ndarray, " N"]:
    """From each point to the nearest place on a polyline."""
    start, leg = line[:-1], np.diff(line, axis=0)  # T-1 2
    gap = points[:, None] - start  # N T-1 2
    part = (gap * leg).sum(-1) / np.maximum((leg**2).sum(-1), 1e-9)
    away = gap - np.clip(part, 0, 1)[..., None] * leg
    return np.hypot(away[..., 0], away[..., 1]).min(1)


def handle_at(motion: Motion, point: Point, unit: Number) -> tuple[Handle | None, str]:
    """What may be moved near a pixel: control points and pins first, then whole tracks. With it, a
    sentence for the user when only a locked track is near, or "". `unit`: image pixels per screen
    pixel."""
    tracks = list(enumerate(motion.tracks))
    free = [(i, track) for i, track in tracks if not track.locked]
    places = {Handle("point", i, k): p for i, track in free for k, p in enumerate(track.points)}
    places |= {Handle("pin", i): pin for i, pin in enumerate(motion.pins)}
    if handle := _nearest({h: dist(p, point) for h, p in places.items()}, _NEAR_HANDLE * unit):
        return handle, ""
    away = {i: float(distances(np.array([point]), curve(track))[0]) for i, track in tracks}
    near = _NEAR_TRACK * unit
    handle = _nearest({Handle("track", i): away[i] for i, _ in free}, near)
    locked = _nearest({f"Track {i + 1} is locked.": away[i] for i in away}, near)
    return handle, "" if handle else locked or ""


def _nearest(away: dict[Any, float], near: Number) -> Any:
    """The key with the least distance, if that is at most `near`; of equal ones the last."""
    best = min(reversed(away), key=away.get, default=None)
    return best if best is not None and away[best] <= near else None


def swapped(items: tuple, index: int, item: Any) -> tuple:
    return (*items[:index], item, *items[index + 1 :])


def with_handle_moved(motion: Motion, handle: Handle, shift: Point, box: Bounds) -> Motion:
    """The motion with what is held moved by `shift` pixels; starts and pins stay in the box."""
    (dx, dy), index = shift, handle.index
    if handle.kind == "pin":
        x, y = motion.pins[index]
        return replace(motion, pins=swapped(motion.pins, index, inside(x + dx, y + dy, box)))
    track = motion.tracks[index]
    if handle.kind == "track":
        track = _shifted(track, shift, motion.size, box)
    else:
        x, y = track.points[handle.point]
        place = inside(x + dx, y + dy, whole(motion.size) if handle.point else box)
        track = replace(track, points=swapped(track.points, handle.point, place))
    return replace(motion, tracks=swapped(motion.tracks, index, track))


def _shifted(track: Track, wanted: Point, size: tuple[int, int], box: Bounds) -> Track:
    """The track moved: its start stays in the box, or where it is, and the rest near the image."""
    start, rest, size = np.array(track.points[0]), np.array(track.points[1:]), np.array(size)
    low = np.maximum(np.minimum(box[:2] - start, 0), (-size - rest).max(0))
    high = np.minimum(np.maximum(np.subtract(box[2:], EDGE) - start, 0), (2 * size - rest).min(0))
    dx, dy = np.clip(wanted, low, high).tolist()
    return track.mapped(lambda x, y: (round(x + dx, 2), round(y + dy, 2)))


def tidied(motion: Motion) -> Motion:
    """The motion in hundredths of a pixel, starts and pins clear of the far edge."""
    box = whole(motion.size)

    def tidy(track: Track) -> Track:
        rest = [(round(x, 2), round(y, 2)) for x, y in track.points[1:]]
        return replace(track, points=(inside(*track.points[0], box), *rest))

    pins = tuple(inside(x, y, box) for x, y in motion.pins)
    return replace(motion, tracks=tuple(map(tidy, motion.tracks)), pins=pins)
