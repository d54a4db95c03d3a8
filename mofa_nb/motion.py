"""What the user wants to move: tracks, pins and a brush on an image of known size; and its file."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.brush import brush_to_text, checked_brush, read_brush, resize_nearest
from mofa_nb.checks import InputError, image_size, refuse_unknown, shown
from mofa_nb.tracks import Point, Track, read_points, tidy

FILE_VERSION = 1
_FILE_KEYS = ("version", "size", "tracks", "pins", "brush")


@dataclass(frozen=True, eq=False)
class Motion:
    """Everything drawn on one image. Immutable: every edit gives a new Motion.

    Attributes:
        size: (width, height) of the image that the coordinates belong to, pixels.
        tracks: paths; a path starts inside the image and may leave it by at most its size. A bare
            list of points counts as a track.
        pins: pixels (x, y) that stay where they are.
        brush: uint8 {0, 255}; tracks that start on it move only what it covers. None: no brush.
    Raises:
        InputError: on creation, when anything is out of range.
    """

    size: Any  # taken: any pair of whole numbers; kept: tuple[int, int]
    tracks: Any = ()  # kept: tuple[Track, ...]
    pins: Any = ()  # kept: tuple[Point, ...]
    brush: Any = None  # kept: UInt8[np.ndarray, "H W"] | None

    def __post_init__(self):
        object.__setattr__(self, "size", image_size(self.size, "size"))
        object.__setattr__(self, "tracks", _tracks(self.tracks))
        object.__setattr__(self, "pins", read_points(self.pins, "pin"))
        for number, track in enumerate(self.tracks, start=1):
            self._check_inside(track.points[0], f"track {number} starts")
            for point in track.points[1:]:
                self._check_near(point, f"track {number}")
        for number, pin in enumerate(self.pins, start=1):
            self._check_inside(pin, f"pin {number} lies")
        if self.brush is not None:
            object.__setattr__(self, "brush", checked_brush(self.brush, self.size))

    def _check_inside(self, point: Point, what: str) -> None:
        (x, y), (width, height) = point, self.size
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"{what} at ({x:g}, {y:g}), outside the {width}x{height} image: move it inside"
            )

    def _check_near(self, point: Point, what: str) -> None:
        (x, y), (width, height) = point, self.size
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
            raise InputError(
                f"{what} runs to ({x:g}, {y:g}), further outside the {width}x{height} image than"
                " the image is large: shorten it"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Motion):
            return NotImplemented
        same = (self.size, self.tracks, self.pins) == (other.size, other.tracks, other.pins)
        if self.brush is None or other.brush is None:
            return same and self.brush is other.brush
        return same and np.array_equal(self.brush, other.brush)

    def __hash__(self) -> int:
        return hash((self.size, self.tracks, self.pins))

    @property
    def is_empty(self) -> bool:
        """Nothing drawn: the clip runs free."""
        return not self.tracks and not self.pins

    def paths(self, num_frames: int) -> Float[Tensor, "N T 2"]:
        """Pixel (x, y) per frame of every track, then of every pin (which stays), float64."""
        moving = [track.path(num_frames) for track in self.tracks]
        still = [np.tile(np.array(pin), (num_frames, 1)) for pin in self.pins]
        rows = moving + still
        return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, num_frames, 2)))

    def with_track(self, points: Any, **timing) -> "Motion":
        """One more track, from its points (and `times=`, `speed=`, ...) or as a `Track`."""
        track = points if isinstance(points, Track) else Track(points, **timing)
        return replace(self, tracks=(*self.tracks, track))

    def with_pin(self, x: float | int, y: float | int) -> "Motion":
        """One more pin."""
        return replace(self, pins=(*self.pins, (x, y)))

    def with_brush(self, brush: np.ndarray | None) -> "Motion":
        """The same motion with another brush, or without one."""
        return replace(self, brush=brush)

    def mapped(self, move: Callable[[float, float], Point], size: Any) -> "Motion":
        """Every point moved to `move(x, y)` on an image of `size`; the brush is dropped."""
        return Motion(
            size=size,
            tracks=tuple(track.mapped(move) for track in self.tracks),
            pins=tuple(move(x, y) for x, y in self.pins),
        )

    def resized(self, size: Any) -> "Motion":
        """The same motion on the same image scaled to `size` (width, height).

        The brush is resized by nearest pixel, so it stays {0, 255}.
        """
        (width, height), (new_width, new_height) = self.size, image_size(size, "size")
        if (new_width, new_height) == self.size:
            return self
        moved = self.mapped(
            lambda x, y: (
                _below(x * new_width / width, x < width, new_width),
                _below(y * new_height / height, y < height, new_height),
            ),
            (new_width, new_height),
        )
        if self.brush is None:
            return moved
        return moved.with_brush(resize_nearest(self.brush, (new_width, new_height)))

    def to_json(self) -> dict:
        """The motion file as plain lists and numbers; the brush becomes a PNG in base64."""
        data: dict = {
            "version": FILE_VERSION,
            "size": list(self.size),
            "tracks": [track.to_json() for track in self.tracks],
            "pins": [[tidy(x), tidy(y)] for x, y in self.pins],
        }
        if self.brush is not None:
            data["brush"] = brush_to_text(self.brush)
        return data

    @staticmethod
    def from_json(data: object, folder: str | os.PathLike | None = None) -> "Motion":
        """The inverse of `to_json`.

        Args:
            data: `{"version": 1, "size": [w, h], "tracks": [...], "pins": [...], "brush": ...}`;
                a missing version means 1; tracks, pins and brush may be missing.
            folder: where a brush given as a file name lies.
        Raises:
            InputError: a newer version, an unknown key, or anything out of range.
        """
        if not isinstance(data, dict):
            raise InputError(f"a motion file holds one JSON object, but {shown(data)} came")
        version = data.get("version", FILE_VERSION)
        if version != FILE_VERSION or isinstance(version, bool):
            raise InputError(
                f"motion file version must be {FILE_VERSION}, but {shown(version)} came:"
                " a newer mofa_nb may read it"
            )
        refuse_unknown(data, _FILE_KEYS, "a motion file")
        if "size" not in data:
            raise InputError('a motion file needs "size": [width, height] of the image')
        size = image_size(data["size"], "size")
        brush = data.get("brush")
        return Motion(
            size=size,
            tracks=_list(data.get("tracks", []), "tracks"),
            pins=_list(data.get("pins", []), "pins"),
            brush=None if brush is None else read_brush(brush, folder),
        )

    @staticmethod
    def load(path: str | os.PathLike) -> "Motion":
        """Read a motion file; InputError says what is wrong with it, and where."""
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"motion file {path} does not exist: check the path") from error
        except json.JSONDecodeError as error:
            raise InputError(
                f"motion file {path} is not valid JSON (line {error.lineno}, column {error.colno}:"
                f" {error.msg}): correct it there"
            ) from error
        except (OSError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"motion file {path} cannot be read: {error}") from error
        try:
            return Motion.from_json(data, folder=path.parent)
        except InputError as error:
            raise InputError(f"motion file {path}: {error}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write a motion file (complete or not at all)."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)


def _tracks(entries: Any) -> tuple[Track, ...]:
    tracks = []
    for number, entry in enumerate(entries, start=1):
        try:
            tracks.append(entry if isinstance(entry, Track) else Track.from_json(entry))
        except InputError as error:
            raise InputError(f"track {number}: {error}") from error
    return tuple(tracks)


def _list(value: object, what: str) -> list:
    if not isinstance(value, list):
        raise InputError(f"{what} must be a list, but {shown(value)} came")
    return value


def _below(value: float, was_inside: bool, limit: int) -> float:
    """Undo a rounding that would push an inside coordinate onto the far edge."""
    return min(value, float(np.nextafter(limit, 0))) if was_inside else value


# Where files of other tools plug in: a name -> a function from a path to a Motion.
MOTION_READERS: dict[str, Callable[[Path], Motion]] = {"mofa_nb": Motion.load}


def load_motion(path: str | os.PathLike, reader: str = "mofa_nb") -> Motion:
    """Read a motion file by one of `MOTION_READERS`; InputError if there is no such reader."""
    if reader not in MOTION_READERS:
        known = ", ".join(MOTION_READERS)
        raise InputError(f"no motion reader is called {shown(reader)}: choose one of {known}")
    return MOTION_READERS[reader](Path(path))
