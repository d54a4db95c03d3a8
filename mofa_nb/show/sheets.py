"""Flows and pictures on one captioned sheet with the colour wheel: the figure of the notebooks."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.show.colours import flow_to_rgb, longest_vector
from mofa_nb.show.layout import flow_legend, grid, to_height

LEGEND = 136  # pixels: wide enough for its text

Picture = UInt8[np.ndarray, "_ _ 3"]
Part = Picture | Float[Tensor, "2 _ _"]


def flow_sheet(
    parts: Mapping[str, Part],
    *,
    title: str,
    scale: float | int | None = None,
    height: int = 192,
    columns: int = 4,
    row_labels: Sequence[str] | None = None,
) -> Picture:
    """Captioned pictures and flows in rows; all flows share one scale, which a wheel explains.

    Args:
        parts: by caption: RGB pictures, shown as they are, and flows [2, H, W] in pixels, coloured.
        scale: pixels that get full colour; default: the longest vector of all the flows.
        height: of each part, pixels.
        columns: parts per row, the wheel not counted; it stands at the end of the first row.
        row_labels: one per row, at its left.
    """
    flows = [part for part in parts.values() if isinstance(part, Tensor)]
    if scale is None:
        scale = max((longest_vector(flow) for flow in flows), default=1.0)
    pictures = [
        to_height(flow_to_rgb(part, scale) if isinstance(part, Tensor) else part, height)
        for part in parts.values()
    ]
    starts, captions = range(0, len(parts), columns), list(parts)
    rows = [pictures[k : k + columns] for k in starts]
    texts = [captions[k : k + columns] for k in starts]
    if flows:
        rows[0].append(flow_legend(scale, LEGEND))
        texts[0].append("")
    return grid(rows, texts, title=title, row_labels=row_labels)


def enlarged(picture: Picture, height: int) -> Picture:
    """Scaled up to about `height` pixels by repeating pixels, so that cells stay visible."""
    times = max(1, round(height / picture.shape[0]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
