"""What a face follows: a file that drives it, or an expression set by hand."""

import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mofa_nb.checks import (
    InputError,
    existing_file,
    number_between,
    refuse_unknown,
    shown,
    whole_number,
)
from mofa_nb.media.sound import SOUNDS
from mofa_nb.media.video import VIDEOS

STRONGEST = 2.0
LATEST = 1e6  # seconds
LIMITS = {
    "mouth": (0.0, 1.0),
    "smile": (-1.0, 1.0),
    "brows": (-1.0, 1.0),
    "eyelids": (-1.0, 1.0),
    "yaw": (-35.0, 35.0),
    "pitch": (-25.0, 25.0),
    "roll": (-35.0, 35.0),
}
EASES = ("linear", "ease", "ease_in", "ease_out")
VOICES = ("preset", "aniportrait", "auto")
_KEYS = ("source", "expression", "strengths", "choose", "voice", "fps", "sound", "begin", "end")


@dataclass(frozen=True)
class Strengths:
    """How much of each kind of motion is taken over; 0 none, 1 as driven, at most 2."""

    pose: float | int = 1.0
    mouth: float | int = 1.0
    eyes: float | int = 1.0
    brows: float | int = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            number_between(value, 0.0, STRONGEST, f"{name} strength")


@dataclass(frozen=True)
class Expression:
    """What the sliders say; all zero leaves the portrait as it is.

    mouth: 0 as photographed, 1 wide open. smile: 1 smiling, -1 corners down. brows: 1 raised, -1
    drawn together. eyelids: 1 closed, -1 wide open. yaw, pitch, roll: degrees; the nose goes to
    the picture's right, up, and the head's top to the picture's right.
    """

    mouth: float | int = 0.0
    smile: float | int = 0.0
    brows: float | int = 0.0
    eyelids: float | int = 0.0
    yaw: float | int = 0.0
    pitch: float | int = 0.0
    roll: float | int = 0.0

    def __post_init__(self):
        for name, (low, high) in LIMITS.items():
            value = number_between(getattr(self, name), low, high, name)
            object.__setattr__(self, name, value)

    def to_json(self) -> dict[str, float]:
        """The sliders that are not zero."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}

    @classmethod
    def from_json(cls, values: object) -> "Expression":
        """Inverse of `to_json`; InputError for unknown names or values out of range."""
        if not isinstance(values, dict):
            raise InputError(
                f"an expression must be an object of sliders, but {shown(values)} came"
            )
        unknown = sorted(set(values) - set(LIMITS))
        if unknown:
            raise InputError(
                f"an expression has no slider {shown(unknown[0])}: use {sorted(LIMITS)}"
            )
        return cls(**values)


@dataclass(frozen=True)
class FaceSource:
    """Which face of a picture moves, and after what.

    Attributes:
        source: path of a driving video, a sound, or landmarks (.npy).
        expression: reached over the clip, instead of a source.
        strengths: how much of the driving motion is taken over; landmarks and an expression are
            taken as they are.
        choose: which face of the picture, 0 for the largest.
        voice: how a sound moves the face: "preset" (recognised sounds), "aniportrait" (its
            networks), or "auto" (the networks where their files are at hand).
        fps: frames per second of landmarks; None: one row for every frame of the clip.
        sound: path of the sound that belongs to landmarks.
        begin, end: seconds, the part of the source that is followed; None: to its end.
    Raises:
        InputError: on creation, without exactly one of source and expression, or with what the
            source has no use for.
    """

    source: Any = None  # taken: any path; kept: str | None
    expression: Expression | None = None
    strengths: Strengths = field(default_factory=Strengths)
    choose: Any = 0  # kept: int
    voice: str = "preset"
    fps: float | int | None = None
    sound: Any = None  # kept: str | None
    begin: float | int = 0.0
    end: float | int | None = None

    def __post_init__(self):
        if (self.source is None) == (self.expression is None):
            raise InputError("a face follows either a source (a file) or an expression: give one")
        for name in ("source", "sound"):
            if not isinstance(file := getattr(self, name), (str, os.PathLike, type(None))):
                raise InputError(f"a face's {name} must be a file, but {shown(file)} came")
            if file is not None and not (str(file).strip() and str(file).isprintable()):
                what = "holds what no file name does" if str(file).strip() else "is empty"
                raise InputError(
                    f"a face's {name} {what}: name a video, a sound or landmarks (.npy)"
                )
            object.__setattr__(self, name, None if file is None else str(file))
        object.__setattr__(self, "choose", whole_number(self.choose, 0, 1000, "choose"))
        self._check_fitting()

    def _check_fitting(self) -> None:
        """Refuse a way of speaking without a sound, and what only landmark files lack."""
        followed = "an expression" if self.source is None else self.source
        if self.voice not in VOICES:
            raise InputError(f"a voice must be one of {VOICES}, but {shown(self.voice)} came")
        if self.voice != VOICES[0] and not self.speaks:
            raise InputError(
                f"the voice {self.voice} needs a sound ({', '.join(SOUNDS[:3])}) that the face"
                f" follows, but it follows {followed}"
            )
        marks = followed.lower().endswith(".npy")
        for name in ("fps", "sound"):
            if getattr(self, name) is not None and not marks:
                raise InputError(
                    f"a face's {name} is said of landmarks (.npy), which hold none, but it follows"
                    f" {followed}: leave it out"
                )
        self._check_part()
        if self.fps is not None:
            number_between(self.fps, 1, 1000, "the landmarks' frames per second")

    def _check_part(self) -> None:
        last = math.inf if self.end is None else number_between(self.end, 0, LATEST, "end")
        if number_between(self.begin, 0, LATEST, "begin") >= last:
            raise InputError(
                f"the part that a face follows must begin before it ends, but {self.begin:g} and"
                f" {self.end:g} seconds came"
            )
        if self.source is None and (self.begin or self.end is not None):
            raise InputError("a part (begin, end) is one of a file, but the face follows sliders")

    @property
    def speaks(self) -> bool:
        """A voice drives it: its blinks and sway then come from a seed."""
        return self.source is not None and Path(self.source).suffix.lower() in SOUNDS

    @staticmethod
    def of(value: "FaceSource | Expression | str | os.PathLike") -> "FaceSource":
        """A face source from what drives it."""
        if isinstance(value, FaceSource):
            return value
        return FaceSource(**{"expression" if isinstance(value, Expression) else "source": value})

    def following(self, value: "FaceSource | Expression | str | os.PathLike") -> "FaceSource":
        """The same face, as strongly, after another file or expression.

        A whole face source takes this one's place with all that it says.
        """
        other = FaceSource.of(value)
        if isinstance(value, FaceSource):
            return other
        voice = self.voice if other.speaks else VOICES[0]
        return replace(other, strengths=self.strengths, choose=self.choose, voice=voice)

    def to_json(self, folder: str | os.PathLike | None = None) -> dict:
        """Plain values, as a motion file holds them.

        Args:
            folder: where that file lies: a source beneath it is named from there, another one by
                its full path. None: as it is.
        """
        data: dict[str, Any] = {}
        for name in ("source", "sound"):
            if (file := getattr(self, name)) is not None:
                data[name] = file if folder is None else _from(Path(folder), file)
        if self.expression is not None:
            data["expression"] = self.expression.to_json()
        if self.strengths != Strengths():
            data["strengths"] = vars(self.strengths)
        kept = {"choose": 0, "voice": VOICES[0], "fps": None, "begin": 0, "end": None}
        return data | {
            k: getattr(self, k) for k, usual in kept.items() if getattr(self, k) != usual
        }

    @staticmethod
    def from_json(data: object, folder: str | os.PathLike | None = None) -> "FaceSource":
        """The inverse of `to_json`; InputError for unknown keys or values out of range."""
        if not isinstance(data, dict):
            raise InputError(f"a face must be an object, but {shown(data)} came")
        refuse_unknown(data, _KEYS, "a face")
        values = dict(data)
        for name in ("source", "sound"):
            if isinstance(values.get(name), str) and folder is not None:
                values[name] = Path(folder) / values[name]
        if values.get("expression") is not None:
            values["expression"] = Expression.from_json(values["expression"])
        strengths = values.get("strengths", {})
        if not isinstance(strengths, dict):
            raise InputError(f"strengths must be an object, but {shown(strengths)} came")
        refuse_unknown(strengths, tuple(vars(Strengths())), "strengths")
        return FaceSource(**values | {"strengths": Strengths(**strengths)})


def driving_file(source: str | os.PathLike) -> str:
    """The suffix of a file that can drive a face; InputError for another, or no such file."""
    suffix = Path(source).suffix.lower()
    if suffix not in (*VIDEOS, *SOUNDS, ".npy"):
        raise InputError(
            f"{source} cannot drive a face: use a video ({', '.join(VIDEOS[:3])}), a sound"
            f" ({', '.join(SOUNDS[:3])}) or landmarks (.npy)"
        )
    what = "the landmark file" if suffix == ".npy" else "the sound" if suffix in SOUNDS else "video"
    existing_file(source, what)
    return suffix


def _from(folder: Path, source: str) -> str:
    full = Path(source).resolve()
    inside = full.is_relative_to(folder.resolve())
    return full.relative_to(folder.resolve()).as_posix() if inside else str(full)
