"""What a face follows: a file that drives it, or an expression set by hand."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mofa_nb.checks import InputError, refuse_unknown, shown, whole_number
from mofa_nb.faces.drive import SOUNDS
from mofa_nb.faces.expression import Expression
from mofa_nb.faces.retarget import Strengths

_KEYS = ("source", "expression", "strengths", "choose")


@dataclass(frozen=True)
class FaceSource:
    """Which face of a picture moves, and after what.

    Attributes:
        source: path of a driving video, a sound, or landmarks (.npy).
        expression: reached over the clip, instead of a source.
        strengths: how much of the driving motion is taken over; landmarks and an expression are
            taken as they are.
        choose: which face of the picture, 0 for the largest.
    Raises:
        InputError: on creation, without exactly one of source and expression.
    """

    source: Any = None  # taken: any path; kept: str | None
    expression: Expression | None = None
    strengths: Strengths = field(default_factory=Strengths)
    choose: Any = 0  # kept: int

    def __post_init__(self):
        if (self.source is None) == (self.expression is None):
            raise InputError("a face follows either a source (a file) or an expression: give one")
        if self.source is not None and not isinstance(self.source, (str, os.PathLike)):
            raise InputError(f"a face's source must be a file, but {shown(self.source)} came")
        if self.source is not None and not str(self.source).strip():
            raise InputError("a face's source is empty: name a video, a sound or landmarks (.npy)")
        object.__setattr__(self, "source", None if self.source is None else str(self.source))
        object.__setattr__(self, "choose", whole_number(self.choose, 0, 1000, "choose"))

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
        return replace(other, strengths=self.strengths, choose=self.choose)

    def to_json(self, folder: str | os.PathLike | None = None) -> dict:
        """Plain values, as a motion file holds them.

        Args:
            folder: where that file lies: a source beneath it is named from there, another one by
                its full path. None: as it is.
        """
        data: dict[str, Any] = {}
        if self.source is not None:
            data["source"] = self.source if folder is None else _from(Path(folder), self.source)
        if self.expression is not None:
            data["expression"] = self.expression.to_json()
        if self.strengths != Strengths():
            data["strengths"] = vars(self.strengths)
        return data | ({"choose": self.choose} if self.choose else {})

    @staticmethod
    def from_json(data: object, folder: str | os.PathLike | None = None) -> "FaceSource":
        """The inverse of `to_json`; InputError for unknown keys or values out of range."""
        if not isinstance(data, dict):
            raise InputError(f"a face must be an object, but {shown(data)} came")
        refuse_unknown(data, _KEYS, "a face")
        values = dict(data)
        if isinstance(values.get("source"), str) and folder is not None:
            values["source"] = Path(folder) / values["source"]
        if values.get("expression") is not None:
            values["expression"] = Expression.from_json(values["expression"])
        strengths = values.get("strengths", {})
        if not isinstance(strengths, dict):
            raise InputError(f"strengths must be an object, but {shown(strengths)} came")
        refuse_unknown(strengths, tuple(vars(Strengths())), "strengths")
        return FaceSource(**values | {"strengths": Strengths(**strengths)})


def _from(folder: Path, source: str) -> str:
    full = Path(source).resolve()
    inside = full.is_relative_to(folder.resolve())
    return full.relative_to(folder.resolve()).as_posix() if inside else str(full)
