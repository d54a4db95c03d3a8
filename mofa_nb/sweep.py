"""Every combination of some settings: a folder of clips and one picture of them all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.animate import animate
from mofa_nb.checks import File, InputError
from mofa_nb.media.video import ready_mediapy
from mofa_nb.pipeline.outputs import Clip, write_outputs
from mofa_nb.pipeline.session import Session
from mofa_nb.show import grid


@dataclass(frozen=True)
class Sweep:
    """Clips of every combination of some settings; shown in a notebook as a grid that plays, each
    row for a value of the first setting."""

    captions: list[str]  # the settings of each clip
    clips: list[Clip] = field(repr=False)
    columns: int

    @property
    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame of every clip under its settings."""
        cells, columns = ([clip.frames[-1] for clip in self.clips], self.captions), self.columns
        rows = ([row[i : i + columns] for i in range(0, len(row), columns)] for row in cells)
        return grid(*rows, title=f"{self.clips[0].model} model, last frames")

    def _repr_html_(self) -> str:
        clips = dict(zip(self.captions, (clip.frames for clip in self.clips), strict=True))
        options = {"columns": self.columns, "codec": "gif", "return_html": True}
        return ready_mediapy().show_videos(clips, fps=self.clips[0].settings["fps"], **options)


def sweep(
    image: object, motion: object = None,
    *, model: Any = "mini", device: str | None = None, out: File | None = None,
    overwrite: bool = False, done: Callable[[], Any] | None = None, **settings: Any,
) -> Sweep:  # fmt: skip
    """A clip for every combination of those settings that are lists, like `seed=[1, 2]`. In the
    folder `out`, if any, are `sweep.png` and a folder of files per clip; `done` is called after
    each clip."""
    swept = {name: value for name, value in settings.items() if isinstance(value, list) and value}
    if not swept:
        raise InputError("a sweep needs two or more values of a setting, like seed=[1, 2]")
    session = model if isinstance(model, Session) else Session(model, device)
    captions, clips = [], []
    for values in product(*swept.values()):
        combination = dict(zip(swept, values, strict=True))
        captions.append(", ".join(f"{name} {value}" for name, value in combination.items()))
        clips.append(animate(image, motion, model=session, **settings | combination))
        if out is not None:
            name = "_".join(f"{name}-{value}" for name, value in combination.items())
            write_outputs(clips[-1], Path(out) / name.replace(" ", ""), overwrite=overwrite)
        if done is not None:
            done()
    result = Sweep(captions, clips, len(clips) // len(next(iter(swept.values()))))
    if out is not None:
        Image.fromarray(result.picture).save(Path(out) / "sweep.png")
    return result
