"""Every combination of some settings: a folder of clips and one picture of them all."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.animate import animate
from mofa_nb.checks import InputError
from mofa_nb.media.video import ready_mediapy
from mofa_nb.pipeline.outputs import Clip, write_outputs
from mofa_nb.pipeline.session import Session
from mofa_nb.show import grid


@dataclass(frozen=True)
class Sweep:
    """Clips of every combination of some settings; shown in a notebook as a grid that plays. The
    first of the settings `swept` runs along the rows, the last one changes fastest."""

    swept: dict[str, list]
    clips: list[Clip] = field(repr=False)

    @property
    def captions(self) -> list[str]:
        made = combinations(self.swept)
        return [", ".join(f"{name} {value}" for name, value in one.items()) for one in made]

    @property
    def columns(self) -> int:
        return len(self.clips) // len(next(iter(self.swept.values())))

    @property
    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame of every clip under its settings."""
        columns, title = self.columns, f"{self.clips[0].model} model, last frames"
        cells = [clip.frames[-1] for clip in self.clips], self.captions
        rows = ([row[i : i + columns] for i in range(0, len(row), columns)] for row in cells)
        return grid(*rows, title=title)

    def _repr_html_(self) -> str:
        clips = dict(zip(self.captions, (clip.frames for clip in self.clips), strict=True))
        options = {"columns": self.columns, "codec": "gif", "return_html": True}
        return ready_mediapy().show_videos(clips, fps=self.clips[0].settings["fps"], **options)


def combinations(swept: dict[str, list]) -> list[dict[str, Any]]:
    """Every combination of the values, by setting."""
    return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]


def sweep(
    image: object,
    motion: object = None,
    *,
    model: Any = "mini",
    device: str | None = None,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    done: Callable[[], Any] | None = None,
    **settings: Any,
) -> Sweep:
    """A clip for every combination of those settings that are lists, like `seed=[1, 2]`.

    Args:
        out: folder for `sweep.png` and a folder of files per clip.
        overwrite: replace the clips that `out` holds.
        done: called after each clip.
    """
    swept = {name: value for name, value in settings.items() if isinstance(value, list) and value}
    if not swept:
        raise InputError("a sweep needs two or more values of a setting, like seed=[1, 2]")
    session = model if isinstance(model, Session) else Session(model, device)
    clips = []
    for combination in combinations(swept):
        clips.append(animate(image, motion, model=session, **settings | combination))
        if out is not None:
            name = "_".join(f"{name}-{value}" for name, value in combination.items())
            write_outputs(clips[-1], Path(out) / name.replace(" ", ""), overwrite=overwrite)
        if done is not None:
            done()
    made = Sweep(swept, clips)
    if out is not None:
        Image.fromarray(made.picture).save(Path(out) / "sweep.png")
    return made
