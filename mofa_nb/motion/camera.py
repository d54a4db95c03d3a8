"""Camera moves: said in a few words, and done by tracks that fill the picture."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError, number_between, shown
from mofa_nb.motion.tracks import SPEEDS, Point, Track, eased_time, track_through

_ROWS = 4  # tracks along the shorter side
_TURN = math.radians(90)  # a rotation of full strength
_CLOCK = np.linspace(0, 1, 49)


def _pan(right: int, down: int) -> Callable:
    return lambda xy, strength, u, size: xy - strength * u * size * (right, down)


def _zoom(rate: Callable[[float], float]) -> Callable:
    return lambda xy, strength, u, size: xy * (1 + u * (rate(strength) - 1))


def _turn(direction: int) -> Callable:
    def move(xy: np.ndarray, strength: float, u: np.ndarray, size: np.ndarray) -> np.ndarray:
        turned = (xy[..., 0] + 1j * xy[..., 1]) * np.exp(
            direction * 1j * _TURN * strength * u[:, 0]
        )
        return np.stack([turned.real, turned.imag], axis=-1)

    return move


# Named for the camera: when it pans left, the picture moves right. Places are seen from the middle.
CAMERAS: dict[str, Callable] = {
    "pan_left": _pan(-1, 0),
    "pan_right": _pan(1, 0),
    "pan_up": _pan(0, -1),
    "pan_down": _pan(0, 1),
    "zoom_in": _zoom(lambda strength: 1 + strength),
    "zoom_out": _zoom(lambda strength: 1 / (1 + strength)),
    "rotate_left": _turn(1),
    "rotate_right": _turn(-1),
}


@dataclass(frozen=True)
class CameraMove:
    """One move over the whole clip.

    Attributes:
        name: one of `CAMERAS`, with a space instead of "_" if you like.
        strength: 0.01 to 1, which pans by the whole picture, doubles or halves its size, or turns
            it by 90 degrees.
        speed: one of `tracks.SPEEDS`.
    """

    name: str
    strength: float | int
    speed: str = "linear"

    def __post_init__(self):
        object.__setattr__(self, "name", self.name.strip().lower().replace(" ", "_"))
        if self.name not in CAMERAS:
            known = ", ".join(CAMERAS)
            raise InputError(f"the camera move must be one of {known}, but {self.name!r} came")
        object.__setattr__(self, "strength", number_between(self.strength, 0.01, 1, "strength"))
        if self.speed not in SPEEDS:
            raise InputError(f"a camera's speed is one of {', '.join(SPEEDS)}, not {self.speed!r}")

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
        try:
            moves.append(CameraMove(words[1], float(words[2]), (words[3] or " linear")[1:]))
        except TypeError as error:
            raise InputError(
                "a camera move is a name, a strength and perhaps a speed like"
                f' "zoom_in 0.2 ease", but {shown(part)} came'
            ) from error
    return tuple(moves)


def moved(
    paths: Float[np.ndarray, "N T 2"], moves: Sequence[CameraMove], size: tuple[int, int]
) -> Float[np.ndarray, "N T 2"]:
    """Paths over a whole clip as a camera sees them that makes all `moves` at once."""
    middle, clock = np.array(size) / 2, np.linspace(0, 1, paths.shape[1])
    for move in moves:
        u = eased_time(clock, np.array([0.0, 1.0]), move.speed)[:, None]
        paths = CAMERAS[move.name](paths - middle, move.strength, u, np.array(size)) + middle
    return paths


def moved_tracks(
    paths: Float[np.ndarray, "N T 2"], moves: Sequence[CameraMove], size: tuple[int, int]
) -> tuple[Track, ...]:
    """`moved` as tracks, no farther outside than a motion may run."""
    limit, times = np.array(size), np.linspace(0, 1, paths.shape[1])
    seen = moved(paths, moves, size).clip(-limit, 2 * limit).round(2)
    return tuple(track_through(path, times) for path in seen)


def camera_tracks(
    camera: str | Sequence[CameraMove],
    strength: float | int | None = None,
    size: tuple[int, int] = (0, 0),
    avoid: Sequence[Point] = (),
    box: tuple[float, float, float, float] | None = None,
) -> tuple[Track, ...]:
    """Tracks on a regular grid that together move the picture as a camera would.

    Args:
        camera: the moves, or the name of one.
        strength: of a single move, see `CameraMove`.
        size: (width, height) of the image, pixels.
        avoid: pixels (x, y); no track starts within half a grid cell of them, so that what is
            already drawn there keeps its say.
        box: left, top, right and bottom of where tracks may start; by default the image.
    """
    moves = [CameraMove(camera, strength)] if isinstance(camera, str) else camera
    left, top, right, bottom = box = box or (0.0, 0.0, float(size[0]), float(size[1]))
    cell = min(right - left, bottom - top) / _ROWS
    starts = grid_points(box, cell).round(2)
    for point in avoid:
        starts = starts[np.hypot(*(starts - point).T) > cell / 2]
    return moved_tracks(np.repeat(starts[:, None], len(_CLOCK), 1), moves, size)


def grid_points(box: tuple[float, float, float, float], cell: float) -> Float[np.ndarray, "N 2"]:
    """Centres (x, y) of the cells of a box (left, top, right, bottom), row by row."""
    left, top, right, bottom = box
    columns, rows = (max(1, round(side / cell)) for side in (right - left, bottom - top))
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
