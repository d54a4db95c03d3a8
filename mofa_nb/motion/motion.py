"""What the user wants to move: tracks, pins, brush, face, on an image of known size; its file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mofa_nb import checks
from mofa_nb.checks import InputError, choice, image_size, naming, read_json, shown, whole_file
from mofa_nb.motion.brush import brush_to_text, checked_brush, read_brush, resize_brush
from mofa_nb.motion.camera import Box, camera_tracks, moved_tracks, read_camera
from mofa_nb.motion.face import FaceSource
from mofa_nb.motion.tracks import AFTER, Point, Track, points_to_json, read_points

FILE_VERSIONS = (1, 2)
_SAMPLES = 49  # of a drawn path that a camera moves
_FILE_KEYS = ("version", "size", "tracks", "pins", "brush", "face", "mask", "after", "camera")


@dataclass(frozen=True, eq=False)
class Motion:
    """Everything drawn on one image; every edit gives a new Motion. Any sequences are taken (a bare
    list of points is a track), tuples are kept; InputError where anything is out of range. A track
    starts inside the image and leaves it by at most its size."""

    size: Any  # (width, height) of the image that the coordinates belong to, pixels
    tracks: Any = ()  # of Track
    pins: Any = ()  # pixels (x, y) that stay where they are
    brush: Any = None  # uint8 {0, 255}; tracks that start on it move only what it covers
    face: FaceSource | None = None  # what the picture's face follows; None: the tracks
    mask: Any = None  # uint8 {0, 255}, where the face's motion counts; None: around the face
    after: str = "stop"  # what tracks do in clips longer than the model's: `tracks.clip_clock`
    camera: Any = ()  # of CameraMove, or "zoom_in 0.2, pan_left 0.1 ease"; moves all but pins
    others: Any = ()  # further faces of the picture (FaceSource), each with its own `choose`

    def __post_init__(self):
        size = image_size(self.size, "size")
        vars(self).update(
            size=size, tracks=_tracks(self.tracks), pins=read_points(self.pins, "pin"),
            brush=checked_brush(self.brush, size), mask=checked_brush(self.mask, size, "mask"),
            camera=read_camera(self.camera), others=tuple(self.others) if self.face else (),
        )  # fmt: skip
        self._check_places()
        if len({face.choose for face in self.faces}) < len(self.faces):
            raise InputError("two faces of a motion choose the same face of it: change one")
        choice(self.after, AFTER, "after")

    def _check_places(self) -> None:
        width, height = self.size
        starts = [(f"track {n} starts", t.points[0]) for n, t in enumerate(self.tracks, 1)]
        for what, (x, y) in starts + [(f"pin {n} lies", pin) for n, pin in enumerate(self.pins, 1)]:
            if not (0 <= x < width and 0 <= y < height):
                outside = f"outside the {width}x{height} image: move it inside"
                raise InputError(f"{what} at ({x:g}, {y:g}), {outside}")
        for number, track in enumerate(self.tracks, 1):
            for x, y in track.points:
                if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
                    far = f"farther outside than the {width}x{height} image is large: shorten it"
                    raise InputError(f"track {number} runs to ({x:g}, {y:g}), {far}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Motion) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    @property
    def _values(self) -> tuple:
        painted = (None if area is None else area.tobytes() for area in (self.brush, self.mask))
        return self.size, self.tracks, self.pins, self.faces, self.after, self.camera, *painted

    @property
    def faces(self) -> tuple[FaceSource, ...]:
        return () if self.face is None else (self.face, *self.others)

    @property
    def is_empty(self) -> bool:
        """Nothing drawn: the clip runs free."""
        return not (self.is_drawn or self.face)

    @property
    def is_drawn(self) -> bool:
        """There are tracks, pins or a moving camera."""
        return bool(self.tracks or self.pins or self.camera)

    def paths(self, num_frames: int, native: int | None = None) -> Float[Any, "N T 2"]:
        """Pixel (x, y) per frame of every track, then of every pin, a float64 tensor; tracks cover
        the `native` frames and go on in a longer clip as `after` says."""
        import torch  # here: a motion file is read, and refused, without it

        motion = self.filmed()
        rows = [track.path(num_frames, native, motion.after) for track in motion.tracks]
        rows += [np.tile(np.array(pin), (num_frames, 1)) for pin in motion.pins]
        return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, num_frames, 2)))

    def filmed(self, box: Box | None = None) -> "Motion":
        """The same motion with its camera's moves as tracks: those drawn, and others around them
        that start in `box` (the whole image), away from what is drawn, and off a brush on which a
        track starts."""
        if not self.camera:
            return self
        starts = [track.points[0] for track in self.tracks]
        around = camera_tracks(self.camera, None, self.size, [*starts, *self.pins], box)
        if any(self._on_brush(start) for start in starts):
            around = [track for track in around if not self._on_brush(track.points[0])]
        drawn = replace(self, pins=(), camera=(), after="stop").paths(_SAMPLES).numpy()
        moved = zip(moved_tracks(drawn, self.camera, self.size), self.tracks, strict=True)
        tracks = [replace(new, depth=old.depth) for new, old in moved]
        return replace(self, tracks=(*tracks, *around), camera=())

    def _on_brush(self, point: Point) -> bool:
        return self.brush is not None and bool(self.brush[int(point[1]), int(point[0])])

    def with_track(self, points: Any, **timing) -> "Motion":
        """One more track, from its points (and `times=`, `speed=`, ...) or as a `Track`."""
        track = points if isinstance(points, Track) else Track(points, **timing)
        return replace(self, tracks=(*self.tracks, track))

    def with_pin(self, x: float, y: float) -> "Motion":
        return replace(self, pins=(*self.pins, (x, y)))

    def with_brush(self, brush: np.ndarray | None) -> "Motion":
        """The same motion with another brush, or without one."""
        return replace(self, brush=brush)

    def with_face(self, face: object) -> "Motion":
        """The same motion with a face that follows a file or an expression (with the strengths and
        choice of the face before), or a source; or none."""
        if face is not None:
            face = FaceSource.of(face) if self.face is None else self.face.following(face)
        return replace(self, face=face)

    def with_mask(self, mask: np.ndarray | None) -> "Motion":
        """The same motion with another mask of the face's motion, or without one."""
        return replace(self, mask=mask)

    def mapped(
        self, move: Callable[..., Point], size: Any, paint: Callable = lambda area: None
    ) -> "Motion":
        """Every point moved to `move(x, y)` on an image of `size`, areas by `paint`."""
        return replace(
            self, size=size, tracks=[track.mapped(move) for track in self.tracks],
            pins=[move(x, y) for x, y in self.pins],
            brush=None if self.brush is None else paint(self.brush),
            mask=None if self.mask is None else paint(self.mask),
        )  # fmt: skip

    def resized(self, size: Any) -> "Motion":
        """The same motion on the same image scaled to `size`; brush and mask stay {0, 255}."""
        if (size := image_size(size, "size")) == self.size:
            return self

        def scaled(*point: float) -> Point:
            moved = np.multiply(point, size) / self.size
            held = np.minimum(moved, np.nextafter(size, 0))  # not rounded onto the far edge
            return tuple(np.where(np.less(point, self.size), held, moved).tolist())

        return self.mapped(scaled, size, lambda area: resize_brush(area, size))

    def to_json(self, folder: checks.File | None = None) -> dict:
        """The motion file as plain lists and numbers, as it will lie in `folder`; brush and mask
        become PNGs in base64."""
        faces = [face.to_json(folder) for face in self.faces]
        new = {
            "face": faces[0] if len(faces) == 1 else faces,
            "mask": None if self.mask is None else brush_to_text(self.mask),
            "after": self.after if self.after != "stop" else None,
            "camera": ", ".join(map(str, self.camera)),
        }
        new = {name: value for name, value in new.items() if value}
        tracks = [track.to_json() for track in self.tracks]
        data = {"version": 2 if new else 1, "size": list(self.size), "tracks": tracks}
        data["pins"] = points_to_json(self.pins)
        if self.brush is not None:
            data["brush"] = brush_to_text(self.brush)
        return data | new

    @staticmethod
    def from_json(data: Any, folder: checks.File | None = None) -> "Motion":
        """The inverse of `to_json`; all but the size may be missing. InputError: a newer version,
        an unknown key, or anything out of range."""
        version = data.get("version", 1) if isinstance(data, dict) else 1
        if version not in FILE_VERSIONS or isinstance(version, bool):
            came = f"{shown(version)} came: a newer mofa_nb may read it"
            raise InputError(f"motion file version must be 1 or 2, but {came}")
        values = dict(checks.refuse_unknown(data, _FILE_KEYS, "a motion file"))
        values.pop("version", None)
        if "size" not in values:
            raise InputError('a motion file needs "size": [width, height] of the image')
        for key in ("brush", "mask"):
            if values.get(key) is not None:
                values[key] = read_brush(values[key], folder, key)
        for key in ("tracks", "pins"):
            if not isinstance(values.get(key, []), list):
                raise InputError(f"{key} must be a list, but {shown(values[key])} came")
        faces = values.get("face")
        faces = faces if isinstance(faces, list) else [] if faces is None else [faces]
        face, *others = [FaceSource.from_json(one, folder) for one in faces] or [None]
        return Motion(**values | {"face": face, "others": others})

    @staticmethod
    def load(path: checks.File) -> "Motion":
        """Read a motion file; InputError says what is wrong with it, and where."""
        data = read_json(path, "motion file")
        with naming(f"motion file {path}"):
            return Motion.from_json(data, folder=Path(path).parent)

    def save(self, path: checks.File) -> None:
        """Write a motion file (complete or not at all)."""
        data = json.dumps(self.to_json(Path(path).parent), indent=1) + "\n"
        with whole_file(path) as partial:
            partial.write_text(data, encoding="utf-8")


def _tracks(entries: Any) -> tuple[Track, ...]:
    tracks = []
    for number, entry in enumerate(entries, start=1):
        with naming(f"track {number}"):
            tracks.append(entry if isinstance(entry, Track) else Track.from_json(entry))
    return tuple(tracks)
