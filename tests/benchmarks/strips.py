"""A sheet per scene for the eye: the true clip, ours and the rivals, frame under frame, at 3x."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mofa_nb.media.images import to_uint8
from mofa_nb.show import draw_tracks, grid
from tests.benchmarks.scoring import Scene, thrice

SHOWN = (0, 3, 6, 9, 11, 13)  # of 14 frames
Picture = UInt8[np.ndarray, "_ _ 3"]


def scene_sheet(scene: Scene, clips: Mapping[str, Float[Tensor, "T 3 H W"]], title: str) -> Picture:
    """Six moments of clips, one clip a row; in the last row what was asked for. The tracks are
    drawn on the first picture."""
    asked = scene.asked_for()
    last = len(asked) - 1
    shown = sorted({round(k * last / SHOWN[-1]) for k in SHOWN})
    rows = [[thrice(to_uint8(clip[k])) for k in shown] for clip in clips.values()]
    if scene.has_tracks:
        rows[0][0] = draw_tracks(rows[0][0], scene.motion())
    rows.append([asked[k] for k in shown])
    captions = [[""] * len(shown) for _ in rows]
    captions[-1] = [f"frame {k}" for k in shown]
    return grid(rows, captions, row_labels=[*clips, "the motion asked for"], title=title)


def last_frames(scene: Scene, clips: Mapping[str, Float[Tensor, "T 3 H W"]]) -> dict[str, Picture]:
    """A scene's first frame with its tracks, and the last one of each clip, by title."""
    first = draw_tracks(thrice(to_uint8(scene.frames[0])), scene.motion())
    lasts = {name: thrice(to_uint8(clip[-1])) for name, clip in clips.items()}
    return {"first frame": first} | lasts


def last_frames_sheet(rows: Sequence[Mapping[str, Picture]], labels: Sequence[str]) -> Picture:
    """One scene a row, one clip a column."""
    captions = [[""] * len(rows[0]) for _ in rows]
    captions[-1] = [*rows[0]]
    return grid([[*row.values()] for row in rows], captions, row_labels=labels)


def save_picture(file: Path, picture: Picture) -> None:
    """Write a picture, in a folder that is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)
