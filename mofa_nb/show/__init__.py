"""Arrays in, RGB uint8 arrays [H, W, 3] out: everything the notebooks and the files show."""

from mofa_nb.show.colours import default_scale, flow_to_rgb, longest_vector, wheel_picture
from mofa_nb.show.drawing import TRACK_COLOURS, draw_hints, draw_tracks
from mofa_nb.show.layout import (
    filmstrip,
    flow_legend,
    grid,
    heat_map,
    side_by_side,
    to_height,
    with_caption,
    with_flow_legend,
)

__all__ = [
    "TRACK_COLOURS",
    "default_scale",
    "draw_hints",
    "draw_tracks",
    "filmstrip",
    "flow_legend",
    "flow_to_rgb",
    "grid",
    "heat_map",
    "longest_vector",
    "side_by_side",
    "to_height",
    "wheel_picture",
    "with_caption",
    "with_flow_legend",
]
