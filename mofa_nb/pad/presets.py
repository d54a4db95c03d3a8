"""Camera moves as tracks that fill the frame."""

import math
from collections.abc import Callable, Sequence

from mofa_nb.checks import InputError, number_between
from mofa_nb.motion.motion import Track
from mofa_nb.pad.strokes import Bounds, Number, Point, distance, inside, whole

_ROWS = 4  # tracks along the shorter side
_TURN = math.radians(90)  # a rotation of full strength


def _pan(right: int, down: int) -> Callable:
    return lambda x, y, size, t: (x - right * t * size[0], y - down * t * size[1])


def _zoom(rate: Callable[[float], float]) -> Callable:
    def move(x: Number, y: Number, size: tuple[int, int], t: Number) -> Point:
        cx, cy = size[0] / 2, size[1] / 2
        return cx + (x - cx) * rate(t), cy + (y - cy) * rate(t)

    return move


def _turn(direction: int) -> Callable:
    def move(x: Number, y: Number, size: tuple[int, int], t: Number) -> Point:
        dx, dy, angle = x - size[0] / 2, y - size[1] / 2, direction * t * _TURN
        cos, sin = math.cos(angle), math.sin(angle)
        return size[0] / 2 + cos * dx - sin * dy, size[1] / 2 + sin * dx + cos * dy

    return move


# Named for the camera: when it pans left, the picture moves right.
CAMERAS: dict[str, Callable] = {
    "Pan left": _pan(-1, 0),
    "Pan right": _pan(1, 0),
    "Pan up": _pan(0, -1),
    "Pan down": _pan(0, 1),
    "Zoom in": _zoom(lambda t: 1 + t),
    "Zoom out": _zoom(lambda t: 1 / (1 + t)),
    "Rotate left": _turn(1),
    "Rotate right": _turn(-1),
}


def camera_tracks(
    name: str,
    strength: Number,
    size: tuple[int, int],
    avoid: Sequence[Point] = (),
    box: Bounds | None = None,
) -> tuple[Track, ...]:
    """Tracks on a regular grid that together move the picture as a camera would.

    Args:
        name: one of `CAMERAS`.
        strength: in (0, 1]; 1 pans by the whole picture, doubles or halves its size, or turns
            it by 90 degrees.
        size: (width, height) of the image, pixels.
        avoid: pixels (x, y); no track starts within half a grid cell of them, so that what is
            already drawn there keeps its say.
        box: where tracks may start; by default anywhere in the image.
    """
    if name not in CAMERAS:
        raise InputError(f"the camera move must be one of {', '.join(CAMERAS)}, but {name!r} came")
    strength = number_between(strength, 0.01, 1, "strength")
    left, top, right, bottom = box = box or whole(size)
    width, height = right - left, bottom - top
    cell = min(width, height) / _ROWS
    columns, rows = max(1, round(width / cell)), max(1, round(height / cell))
    starts = [
        inside(left + (column + 0.5) * width / columns, top + (row + 0.5) * height / rows, box)
        for row in range(rows)
        for column in range(columns)
    ]
    free = [start for start in starts if all(distance(start, p) > cell / 2 for p in avoid)]
    return tuple(_track(CAMERAS[name], start, strength, size) for start in free)


def _track(move: Callable, start: Point, strength: float, size: tuple[int, int]) -> Track:
    times = (1 / 3, 2 / 3, 1) if move in (CAMERAS["Rotate left"], CAMERAS["Rotate right"]) else (1,)
    later = [move(*start, size, strength * t) for t in times]
    return Track((start, *(_near(x, y, size) for x, y in later)))


def _near(x: Number, y: Number, size: tuple[int, int]) -> Point:
    """No farther outside than a motion may run."""
    width, height = size
    return min(max(round(x, 2), -width), 2 * width), min(max(round(y, 2), -height), 2 * height)
