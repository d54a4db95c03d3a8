"""Arrays in, RGB uint8 arrays [H, W, 3] out: everything the notebooks and the files show."""

from importlib import import_module

from mofa_nb.show.colours import (
    FeatureColours,
    default_scale,
    flow_to_rgb,
    longest_vector,
    wheel_picture,
)
from mofa_nb.show.drawing import TRACK_COLOURS, draw_hints, draw_tracks
from mofa_nb.show.layout import (
    enlarged,
    filmstrip,
    flow_legend,
    flow_sheet,
    grid,
    heat_map,
    side_by_side,
    to_height,
    with_caption,
    with_flow_legend,
)

# What needs matplotlib, IPython or widgets is imported at first use.
_LATER = {
    "diagram": ("architecture",),
    "charts": ("curves", "distributions", "matrix"),
    "notebook": (
        *("ProgressBar", "machine_note", "show", "show_clip", "show_source", "table"),
        "with_progress",
    ),
    "sliders": ("Sliders",),
    "speech": ("speech_picture",),
}

__all__ = [
    "TRACK_COLOURS",
    "FeatureColours",
    "ProgressBar",
    "Sliders",
    "architecture",
    "curves",
    "default_scale",
    "distributions",
    "draw_hints",
    "draw_tracks",
    "enlarged",
    "filmstrip",
    "flow_legend",
    "flow_sheet",
    "flow_to_rgb",
    "grid",
    "heat_map",
    "longest_vector",
    "machine_note",
    "matrix",
    "show",
    "show_clip",
    "show_source",
    "side_by_side",
    "speech_picture",
    "table",
    "to_height",
    "wheel_picture",
    "with_caption",
    "with_flow_legend",
    "with_progress",
]


def __getattr__(name: str):
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
