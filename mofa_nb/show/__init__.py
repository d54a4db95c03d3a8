"""Arrays in, RGB uint8 arrays [H, W, 3] out: everything the notebooks and the files show."""

from importlib import import_module

# By module, imported at the first use of its names: some need matplotlib, IPython or widgets.
_NAMES = {
    "charts": "architecture curves distributions matrix speech_picture",
    "colours": "FeatureColours default_scale flow_to_rgb longest_vector wheel_picture",
    "drawing": "TRACK_COLOURS draw_hints draw_tracks",
    "layout": "enlarged filmstrip flow_legend flow_sheet grid heat_map side_by_side to_height",
    "notebook": "ProgressBar machine_note show show_clip show_source table with_progress",
    "sliders": "Sliders",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
