"""What the user wants to move: tracks, pins and a brush on an image of known size; and its file."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb import tracks as track_math
from mofa_nb.brush import brush_to_text, checked_brush, read_brush, resize_nearest
from mofa_nb.checks import InputError, image_size, number_between, point_xy, shown

FILE_VERSION = 1
_FILE_KEYS = ("version", "size", "tracks", "pins", "brush")
_TRACK_KEYS = ("points", "times", "speed", "start", "end", "locked")

Point = tuple[float, float]


@dataclass(frozen=True)
class Track:
    """One drawn path: control points and how they are travelled.

    Attributes:
        points: two or more pixels (x, y); the path passes through all of them (PCHIP).
        times: one per point in [0, 1], strictly increasing; None spreads them evenly.
        speed: "linear", "ease_in", "ease_out", "ease" or "hold" (see `tracks.eased_time`).
        start, end: the fraction of the clip in which it moves; before and after it rests.
        locked: the drawing pad leaves it alone; no effect on the motion.
    Raises:
        InputError: on creation, when a value is out of range.
    """

    points: Any  # taken: any sequence of pairs; kept: tuple[Point, ...]
    times: Any = None  # kept: tuple[float, ...] | None
    speed: Any = "linear"  # kept: str
    start: Any = 0.0  # kept: float
    end: Any = 1.0  # kept: float
    locked: Any = False  # kept: bool

    def __post_init__(self):
        points = _points(self.points, "point")
        if len(points) < 2:
            raise InputError(
                f"a track needs two or more points, but {len(points)} came:"
                " add one, or make it a pin"
            )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "times", _times(self.times, len(points)))
        object.__setattr__(self, "start", number_between(self.start, 0.0, 1.0, "start"))
        object.__setattr__(self, "end", number_between(self.end, 0.0, 1.0, "end"))
        if self.start >= self.end:
            raise InputError(
                f"start must come before end, but start {self.start:g} and end {self.end:g} came"
            )
        if self.speed not in track_math.SPEEDS:
            known = ", ".join(track_math.SPEEDS)
            raise InputError(f"speed must be one of {known}, but {shown(self.speed)} came")
        if not isinstance(self.locked, bool):
            raise InputError(f"locked must be true or false, but {shown(self.locked)} came")

    def path(self, num_frames: int) -> Float[np.ndarray, "T 2"]:
        """Pixel (x, y) per frame."""
        return track_math.resample(
            np.array(self.points),
            num_frames,
            times=None if self.times is None else np.array(self.times),
            speed=self.speed,
            start=self.start,
            end=self.end,
        )

    def mapped(self, move: Callable[[float, float], Point]) -> "Track":
        """The same track with every control point replaced by `move(x, y)`."""
        return replace(self, points=tuple(move(x, y) for x, y in self.points))

    def to_json(self) -> list | dict:
        """A bare list of [x, y] when only the points are set, else a dict of what is set."""
        points = [[_tidy(x), _tidy(y)] for x, y in self.points]
        defaults = Track(self.points)
        keys = [k for k in _TRACK_KEYS[1:] if getattr(self, k) != getattr(defaults, k)]
        extras = {key: getattr(self, key) for key in keys}
        if "times" in extras:
            extras["times"] = list(extras["times"])
        return {"points": points, **extras} if extras else points

    @staticmethod
    def from_json(data: object) -> "Track":
        """The inverse of `to_json`; InputError for unknown keys or values out of range."""
        if not isinstance(data, dict):
            return Track(data)
        _refuse_unknown(data, _TRACK_KEYS, "a track")
        if "points" not in data:
            raise InputError('a track written as an object needs the key "points"')
        return Track(**data)


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
        object.__setattr__(self, "pins", _points(self.pins, "pin"))
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
            "pins": [[_tidy(x), _tidy(y)] for x, y in self.pins],
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
        _refuse_unknown(data, _FILE_KEYS, "a motion file")
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


def _points(values: object, what: str) -> tuple[Point, ...]:
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
        raise InputError(f"points must be a list of [x, y], but {shown(values)} came")
    return tuple(point_xy(value, f"{what} {i}") for i, value in enumerate(values, start=1))


def _times(values: object, count: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise InputError(f"times must be a list of numbers, but {shown(values)} came")
    if len(values) != count:
        raise InputError(f"times must be one per point, but {len(values)} came for {count} points")
    times = tuple(number_between(t, 0.0, 1.0, f"time {i}") for i, t in enumerate(values, start=1))
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise InputError(f"times must increase from point to point, but {shown(list(times))} came")
    return times


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


def _refuse_unknown(data: dict, known: tuple[str, ...], what: str) -> None:
    unknown = [key for key in data if key not in known]
    if unknown:
        raise InputError(
            f"{what} has no key {shown(unknown[0])}: use only {', '.join(known)}, or remove it"
        )


def _tidy(value: float) -> float | int:
    return int(value) if value == int(value) else value


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
