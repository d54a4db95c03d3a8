"""Camera moves: said in a few words, and done by tracks that fill the picture."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError, Size, choice, number_between, shown
from mofa_nb.motion.tracks import EASINGS, Point, Track, eased_time, track_through

_ROWS = 4  # tracks along the shorter side
_TURN = math.radians(90)  # a rotation of full strength
_FRAMES = 49

Box = tuple[float, float, float, float]  # left, top, right, bottom
Paths = Float[np.ndarray, "N T 2"]


def _zoomed(z: np.ndarray, u: np.ndarray, rate: float) -> np.ndarray:
    return z * (1 + u * (rate - 1))


# Named for the camera: when it pans left, the picture moves right. Places z = x + iy are seen from
# the middle of a picture of some size, s is the strength, u the progress in [0, 1].
CAMERAS: dict[str, Callable] = {
    "pan_left": lambda z, s, u, size: z + s * u * size[0],
    "pan_right": lambda z, s, u, size: z - s * u * size[0],
    "pan_up": lambda z, s, u, size: z + 1j * s * u * size[1],
    "pan_down": lambda z, s, u, size: z - 1j * s * u * size[1],
    "zoom_in": lambda z, s, u, size: _zoomed(z, u, 1 + s),
    "zoom_out": lambda z, s, u, size: _zoomed(z, u, 1 / (1 + s)),
    "rotate_left": lambda z, s, u, size: z * np.exp(1j * _TURN * s * u),
    "rotate_right": lambda z, s, u, size: z * np.exp(-1j * _TURN * s * u),
}


@dataclass(frozen=True)
class CameraMove:
    """One move over a clip; a strength of 1 pans by the whole picture, doubles or halves its
    size, or turns it by 90 degrees."""

    name: str  # one of `CAMERAS`, with a space instead of "_" if you like
    strength: float  # 0.01 to 1
    speed: str = "linear"  # one of `tracks.EASINGS`

    def __post_init__(self):
        name = self.name.strip().lower().replace(" ", "_")
        vars(self).update(
            name=choice(name, CAMERAS, "the camera move"),
            strength=number_between(self.strength, 0.01, 1, "strength"),
            speed=choice(self.speed, EASINGS, "a camera's speed"),
        )

    def __str__(self) -> str:
        speed = "" if self.speed == "linear" else f" {self.speed}"
        return f"{self.name} {self.strength:g}{speed}"


def read_camera(value: object) -> tuple[CameraMove, ...]:
    """Moves from text like "zoom_in 0.2, pan_left 0.1 ease"; InputError if it cannot be read."""
    if not isinstance(value, str):
        if isinstance(value, Sequence) and all(isinstance(move, CameraMove) for move in value):
            return tuple(value)
        raise InputError(f'camera must be text like "zoom_in 0.2", but {shown(value)} came')
    moves = []
    for part in filter(None, map(str.strip, value.split(","))):
        words = re.fullmatch(r"([a-zA-Z_ ]+) (-?\d*\.?\d+)( [a-z_]+)?", " ".join(part.split()))
        if words is None:
            expected = 'a name, a strength and perhaps a speed like "zoom_in 0.2 ease"'
            raise InputError(f"a camera move is {expected}, but {shown(part)} came")
        moves.append(CameraMove(words[1], float(words[2]), (words[3] or " linear")[1:]))
    return tuple(moves)


def moved_tracks(paths: Paths, moves: Sequence[CameraMove], size: Size) -> tuple[Track, ...]:
    """Paths over a clip on a picture of `size` (width, height), seen by a camera that makes all
    `moves` at once."""
    limit, times = np.array(size), np.linspace(0, 1, paths.shape[1])
    seen, middle = paths @ (1, 1j), limit @ (1, 1j) / 2
    for move in moves:
        u = eased_time(times, np.array([0.0, 1.0]), move.speed)
        seen = CAMERAS[move.name](seen - middle, move.strength, u, size) + middle
    paths = np.stack([seen.real, seen.imag], -1)
    paths = paths.clip(-limit, 2 * limit).round(2)
    return tuple(track_through(path, times) for path in paths)


def camera_tracks(
    camera: str | Sequence[CameraMove], strength: float | None = None, size: Size = (0, 0),
    avoid: Sequence[Point] = (), box: Box | None = None,
) -> tuple[Track, ...]:  # fmt: skip
    """Tracks on a regular grid that together move a picture of `size` (width, height) as a camera
    would; `camera`: the moves, or the name of one, which has a `strength`. They start in `box`, by
    default the whole image, but not within half a grid cell of the pixels to `avoid`."""
    moves = [CameraMove(camera, strength)] if isinstance(camera, str) else camera
    left, top, right, bottom = box = box or (0.0, 0.0, float(size[0]), float(size[1]))
    cell = min(right - left, bottom - top) / _ROWS
    starts = grid_centres(box, cell).round(2)
    for point in avoid:
        starts = starts[np.hypot(*(starts - point).T) > cell / 2]
    return moved_tracks(np.repeat(starts[:, None], _FRAMES, 1), moves, size)


def grid_centres(box: Box, cell: float) -> Float[np.ndarray, "N 2"]:
    """Centres (x, y) of the cells of a box, row by row."""
    left, top, right, bottom = box
    columns, rows = (max(1, round(side / cell)) for side in (right - left, bottom - top))
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
