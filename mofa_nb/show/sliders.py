"""A picture that follows sliders, and that still is a picture where no widget can be shown."""

import base64
import time
from collections.abc import Callable

import numpy as np
from ipywidgets import FloatSlider, HBox, Image, IntSlider, Label, Layout, VBox, Widget
from jaxtyping import UInt8

from mofa_nb.show.notebook import picture_file

QUICK = 0.1  # seconds: faster pictures follow the slider

Draw = Callable[..., UInt8[np.ndarray, "H W 3"]]


class Sliders:
    """`draw(**values)` beside one slider per name, redrawn whenever one is moved; without a kernel,
    the picture of the first values.

    draw: an RGB picture of the sliders' values, in well under a second; one that is slow is drawn
    when a slider is let go; what goes wrong is told beneath. ranges: (lowest, highest, first value)
    per argument of `draw`; whole numbers give a slider of whole numbers."""

    def __init__(self, draw: Draw, **ranges: tuple):
        self._draw = draw
        self.sliders = {}
        for name, (low, high, first) in ranges.items():
            whole = all(isinstance(value, int) for value in (low, high, first))
            kind, step = (IntSlider, 1) if whole else (FloatSlider, (high - low) / 50)
            look = {"description": name.replace("_", " "), "style": {"description_width": "90px"}}
            self.sliders[name] = kind(first, min=low, max=high, step=step, **look)
        begin = time.monotonic()
        self.first = picture_file(draw(**self.values))
        quick = time.monotonic() - begin < QUICK
        self.picture, self.status = Image(value=self.first[0]), Label("")
        for slider in self.sliders.values():
            slider.continuous_update = quick
            slider.observe(self._moved, names="value")
        column = VBox([*self.sliders.values(), self.status], layout=Layout(min_width="320px"))
        stacking = Layout(align_items="flex-start", flex_flow="row wrap")
        self.widget = HBox([column, self.picture], layout=stacking)

    @property
    def values(self) -> dict[str, float | int]:
        return {name: slider.value for name, slider in self.sliders.items()}

    def _moved(self, change: object) -> None:
        try:
            self.picture.value = picture_file(self._draw(**self.values))[0]
            self.status.value = ""
        except Exception as error:  # Jupyter would swallow it
            self.status.value = f"{type(error).__name__}: {error}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        shown = ", ".join(f"{name} {value}" for name, value in self.values.items())
        return bundle(self.widget, f"Sliders at {shown}", *self.first)


def bundle(widget: Widget, words: str, picture: bytes, kind: str) -> dict:
    """A widget, and what stands for it where there is none, for `_repr_mimebundle_`."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {
        "text/plain": words,
        f"image/{kind}": base64.b64encode(picture).decode("ascii"),
        "application/vnd.jupyter.widget-view+json": view,
    }
