"""What a face follows: a file that drives it, or an expression set by hand."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mofa_nb import checks
from mofa_nb.checks import InputError, choice, number_between, refuse_unknown, shown, whole_number
from mofa_nb.media.sound import SOUNDS
from mofa_nb.media.video import VIDEOS

STRONGEST = 2.0
LATEST = 1e6  # seconds
VOICES = ("preset", "aniportrait", "auto")


@dataclass(frozen=True)
class Strengths:
    """How much of each kind of motion is taken over; 0 none, 1 as driven, at most 2."""

    pose: float = 1.0
    mouth: float = 1.0
    eyes: float = 1.0
    brows: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            number_between(value, 0.0, STRONGEST, f"{name} strength")


def _slider(low: float, high: float) -> Any:
    return field(default=0.0, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Expression:
    """What the sliders say; all zero leaves the portrait as it is."""

    mouth: float = _slider(0.0, 1.0)  # 0 as photographed, 1 wide open
    smile: float = _slider(-1.0, 1.0)  # 1 smiling, -1 corners down
    brows: float = _slider(-1.0, 1.0)  # 1 raised, -1 drawn together
    eyelids: float = _slider(-1.0, 1.0)  # 1 closed, -1 wide open
    yaw: float = _slider(-35.0, 35.0)  # degrees; the nose goes to the picture's right
    pitch: float = _slider(-25.0, 25.0)  # degrees; it goes up
    roll: float = _slider(-35.0, 35.0)  # degrees; the head's top goes to the picture's right

    def __post_init__(self):
        for name, (low, high) in LIMITS.items():
            vars(self)[name] = number_between(getattr(self, name), low, high, name)

    def to_json(self) -> dict[str, float]:
        """The sliders that are not zero."""
        return {name: value for name, value in vars(self).items() if value}


LIMITS = {slider.name: slider.metadata["range"] for slider in fields(Expression)}


@dataclass(frozen=True)
class FaceSource:
    """What one face of the picture follows: a file or an expression; InputError also for what the
    source has no use for."""

    source: Any = None  # path of a driving video, a sound, or landmarks (.npy)
    expression: Expression | None = None
    strengths: Strengths = Strengths()  # of the driving motion of a video or a sound
    choose: Any = 0  # which face of the picture, 0 for the largest
    # How a sound moves the face: "preset" (recognised sounds do), "aniportrait" (its networks), or
    # "auto" (the networks where their files are at hand).
    voice: str = "preset"
    fps: float | None = None  # of landmarks; None: one row for every frame of the clip
    sound: Any = None  # path of the sound that belongs to landmarks
    begin: float = 0.0  # seconds, from which on the source is followed
    end: float | None = None  # seconds; None: to its end

    def __post_init__(self):
        if (self.source is None) == (self.expression is None):
            raise InputError("a face follows either a source (a file) or an expression: give one")
        vars(self).update(
            source=_file_name(self.source, "source"),
            sound=_file_name(self.sound, "sound"),
            choose=whole_number(self.choose, 0, 1000, "choose"),
        )
        followed = self.source or "an expression"
        choice(self.voice, VOICES, "a voice")
        if self.voice != VOICES[0] and not self.speaks:
            needed = f"a sound ({', '.join(SOUNDS[:3])}) that the face follows"
            raise InputError(f"the voice {self.voice} needs {needed}, but it follows {followed}")
        for name in ("fps", "sound"):
            if getattr(self, name) is not None and not followed.lower().endswith(".npy"):
                expected = f"a face's {name} is said of landmarks (.npy), which hold none"
                raise InputError(f"{expected}, but it follows {followed}: leave it out")
        if self.fps is not None:
            number_between(self.fps, 1, 1000, "the landmarks' frames per second")
        last = math.inf if self.end is None else number_between(self.end, 0, LATEST, "end")
        if number_between(self.begin, 0, LATEST, "begin") >= last:
            came = f"{self.begin:g} and {self.end:g} seconds came"
            raise InputError(f"the part that a face follows must begin before it ends, but {came}")
        if self.source is None and (self.begin or self.end is not None):
            raise InputError("a part (begin, end) is one of a file, but the face follows sliders")

    @property
    def speaks(self) -> bool:
        """A voice drives it: its blinks and sway then come from a seed."""
        return self.source is not None and Path(self.source).suffix.lower() in SOUNDS

    @staticmethod
    def of(value: "Drives") -> "FaceSource":
        """A face source from what drives it."""
        if isinstance(value, FaceSource):
            return value
        return FaceSource(**{"expression" if isinstance(value, Expression) else "source": value})

    def following(self, value: "Drives") -> "FaceSource":
        """The same face after another file or expression; a whole source replaces it."""
        other = FaceSource.of(value)
        if isinstance(value, FaceSource):
            return other
        voice = self.voice if other.speaks else VOICES[0]
        return replace(other, strengths=self.strengths, choose=self.choose, voice=voice)

    def to_json(self, folder: checks.File | None = None) -> dict:
        """Plain values, as a motion file in `folder` holds them: a source beneath it is named from
        there, another one by its full path."""
        defaults = {f.name: f.default for f in fields(self)}
        data = {name: value for name, value in vars(self).items() if value != defaults[name]}
        if "strengths" in data:
            data["strengths"] = vars(self.strengths)
        if self.expression is not None:
            data["expression"] = self.expression.to_json()
        for name in ("source", "sound"):
            if name in data and folder is not None:
                full, home = Path(data[name]).resolve(), Path(folder).resolve()
                inside = full.is_relative_to(home)
                data[name] = full.relative_to(home).as_posix() if inside else str(full)
        return data

    @staticmethod
    def from_json(data: object, folder: checks.File | None = None) -> "FaceSource":
        """The inverse of `to_json`; InputError for unknown keys or values out of range."""
        values = dict(refuse_unknown(data, [f.name for f in fields(FaceSource)], "a face"))
        for name in ("source", "sound"):
            if isinstance(values.get(name), str) and folder is not None:
                values[name] = Path(folder) / values[name]
        if values.get("expression") is not None:
            sliders = refuse_unknown(values["expression"], LIMITS, "an expression")
            values["expression"] = Expression(**sliders)
        shares = refuse_unknown(values.get("strengths", {}), vars(Strengths()), "strengths")
        return FaceSource(**values | {"strengths": Strengths(**shares)})


Drives = FaceSource | Expression | checks.File


def _file_name(file: object, what: str) -> str | None:
    if file is None:
        return None
    if not isinstance(file, checks.File):
        raise InputError(f"a face's {what} must be a file, but {shown(file)} came")
    if not (str(file).strip() and str(file).isprintable()):
        wrong = "holds what no file name does" if str(file).strip() else "is empty"
        raise InputError(f"a face's {what} {wrong}: name a video, a sound or landmarks (.npy)")
    return str(file)


def driving_file(source: checks.File) -> str:
    """The suffix of a file that can drive a face; InputError for another, or no such file."""
    suffix = Path(source).suffix.lower()
    if suffix not in (*VIDEOS, *SOUNDS, ".npy"):
        videos, sounds = ", ".join(VIDEOS[:3]), ", ".join(SOUNDS[:3])
        formats = f"a video ({videos}), a sound ({sounds}) or landmarks (.npy)"
        raise InputError(f"{source} cannot drive a face: use {formats}")
    what = "the landmark file" if suffix == ".npy" else "the sound" if suffix in SOUNDS else "video"
    checks.existing_file(source, what)
    return suffix
