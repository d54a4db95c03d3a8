"""A sheet per scene for the eye: the true clip, ours and the rivals, frame under frame, at 3x."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.viz import draw_tracks, flow_to_rgb, grid, longest_vector
from tests.benchmarks.scoring import Scene, to_uint8

SCALE = 3
SHOWN = (0, 3, 6, 9, 11, 13)  # of 14 frames


def scene_sheet(
    scene: Scene, clips: Mapping[str, Float[Tensor, "T 3 H W"]], title: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of clips over the exact flow; the tracks are drawn on the first true frame."""
    last = len(scene.frames) - 1
    shown = sorted({round(k * last / SHOWN[-1]) for k in SHOWN})
    rows = [[enlarged(to_uint8(clip[k])) for k in shown] for clip in clips.values()]
    rows[0][0] = draw_tracks(rows[0][0], scene.motion())
    colours = flow_to_rgb(scene.flow, longest_vector(scene.flow))
    still = np.full_like(rows[0][0], 255)
    rows.append([still if k == 0 else enlarged(colours[k - 1]) for k in shown])
    captions = [[""] * len(shown) for _ in rows]
    captions[-1] = [f"frame {k}" for k in shown]
    return grid(rows, captions, row_labels=[*clips, "the motion asked for"], title=title)


def enlarged(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H3 W3 3"]:
    """Three times the size, pixels kept as they are."""
    return np.ascontiguousarray(picture.repeat(SCALE, 0).repeat(SCALE, 1))
