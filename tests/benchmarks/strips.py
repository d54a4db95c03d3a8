"""A sheet per scene for the eye: the true clip, ours and the rivals, frame under frame, at 3x."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mofa_nb.show import draw_tracks, flow_to_rgb, grid, longest_vector
from tests.benchmarks.scoring import Scene, to_uint8

SCALE = 3
SHOWN = (0, 3, 6, 9, 11, 13)  # of 14 frames
Picture = UInt8[np.ndarray, "_ _ 3"]


def scene_sheet(
    scene: Scene, clips: Mapping[str, Float[Tensor, "T 3 H W"]], title: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of clips over the exact flow; the tracks are drawn on the first true frame."""
    colours = flow_to_rgb(scene.flow, longest_vector(scene.flow))
    flows = [np.full_like(colours[0], 255), *colours]
    drawn = lambda picture: draw_tracks(picture, scene.motion())  # noqa: E731
    return clip_sheet(clips, [enlarged(flow) for flow in flows], title, on_first=drawn)


def clip_sheet(
    clips: Mapping[str, Float[Tensor, "T 3 H W"]],
    asked: Sequence[Picture],
    title: str,
    *,
    on_first=lambda picture: picture,
) -> UInt8[np.ndarray, "h w 3"]:
    """Six moments of clips, one clip a row.

    Args:
        asked: what was asked for, frame by frame at 3x, for the last row.
        on_first: draws over the first picture of the first row.
    """
    last = len(asked) - 1
    shown = sorted({round(k * last / SHOWN[-1]) for k in SHOWN})
    rows = [[enlarged(to_uint8(clip[k])) for k in shown] for clip in clips.values()]
    rows[0][0] = on_first(rows[0][0])
    rows.append([asked[k] for k in shown])
    captions = [[""] * len(shown) for _ in rows]
    captions[-1] = [f"frame {k}" for k in shown]
    return grid(rows, captions, row_labels=[*clips, "the motion asked for"], title=title)


def enlarged(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H3 W3 3"]:
    """Three times the size, pixels kept as they are."""
    return np.ascontiguousarray(picture.repeat(SCALE, 0).repeat(SCALE, 1))


def last_frames(scene: Scene, clips: Mapping[str, Float[Tensor, "T 3 H W"]]) -> dict[str, Picture]:
    """A scene's first frame with its tracks, and the last one of each clip, by title."""
    first = draw_tracks(enlarged(to_uint8(scene.frames[0])), scene.motion())
    return {"first frame": first} | {
        name: enlarged(to_uint8(clip[-1])) for name, clip in clips.items()
    }


def last_frames_sheet(rows: Sequence[Mapping[str, Picture]], labels: Sequence[str]) -> Picture:
    """One scene a row, one clip a column."""
    captions = [[""] * len(rows[0]) for _ in rows]
    captions[-1] = [*rows[0]]
    return grid([[*row.values()] for row in rows], captions, row_labels=labels)


def save_sheet(folder: Path, name: str, sheet: Picture) -> None:
    """Write a sheet as a PNG named after its scene."""
    words = name.replace(",", "").split()
    save_picture(folder / f"{'_'.join(words)}.png", sheet)


def save_picture(file: Path, picture: Picture) -> None:
    """Write a picture, in a folder that is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)
