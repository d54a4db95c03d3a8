"""The stage: a picture with a transparent canvas over it, which reports the mouse and draws shapes.

Only the kernel's main thread may call `draw`; `picture.value` may be set from any thread.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from ipywidgets import GridBox, Image, Layout

from mofa_nb.pad.history import MASKS
from mofa_nb.pad.picture import SHARP
from mofa_nb.pad.shapes import (
    MASK_COLOURS,
    Discs,
    Lines,
    Texts,
    Triangles,
    live_shapes,
    path_shapes,
)
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Number, outline

_REDRAW = 1 / 30  # seconds between two redraws while the mouse moves
_FILL, _EDGE = 50, 230  # opacity of a painted mask and its outline, of 255
_CELL = "1 / 1 / 2 / 2"  # picture and canvas share one cell of a grid, so they lie on each other


class Stage:
    """Draws a `PadState` and feeds it mouse, touch and key events.

    Args:
        handle: called with a function of the state for every event.
        key: called with the name of a key pressed over the canvas, for example "ctrl+z".
    """

    def __init__(self, handle: Callable, key: Callable[[str], None]):
        self.picture = Image(format="jpeg", layout=_filling())
        self.canvas = MultiCanvas(3, width=16, height=16, layout=_filling())
        self.canvas.add_class("mofa-stage")
        self.picture.add_class("mofa-picture")
        self.widget = GridBox([self.picture, self.canvas])
        self._handle = handle
        self.scale = 1.0
        self._drawn: dict = {}
        self._next = 0.0
        self.canvas.on_mouse_down(self._event("press"))
        self.canvas.on_mouse_move(self._event("drag"))
        self.canvas.on_mouse_up(self._event("release"))
        self.canvas.on_mouse_out(lambda x, y: handle(PadState.leave))
        self.canvas.on_touch_start(self._touch("press"))
        self.canvas.on_touch_move(self._touch("drag"))
        self.canvas.on_touch_end(lambda touches: handle(PadState.leave))
        self.canvas.on_touch_cancel(lambda touches: handle(PadState.cancel))
        self.canvas.on_mouse_wheel(self._wheel)
        self.canvas.on_key_down(lambda *pressed: key(key_name(*pressed)))

    def fit(self, size: tuple[int, int], screen: tuple[int, int]) -> None:
        """Take the shape of another picture: drawing pixels `size`, screen pixels `screen`."""
        width, height = screen
        self.canvas.width, self.canvas.height = width * SHARP, height * SHARP
        self.widget.layout = Layout(
            width=f"{width}px", max_width="100%", margin="0", overflow="hidden"
        )
        self.scale = width * SHARP / size[0]
        self._drawn.clear()

    def renew(self) -> None:
        """A page has just connected, and knows of nothing drawn before: draw every layer anew.

        ipycanvas names a layer only when it changes. The top layer is always drawn last and the
        lowest first, so the new page hears all names.
        """
        self._drawn.clear()

    def draw(self, state: PadState, frame: int, num_frames: int, *, at_once: bool = True) -> None:
        """Redraw the layers that differ from what is on the screen.

        Args:
            frame: where the ghosts stand, of `num_frames`.
            at_once: False while the mouse moves: then at most 30 times a second.
        """
        now = time.monotonic()
        if not at_once and now < self._next:
            return
        self._next = now + _REDRAW
        motion = state.motion
        paths = (motion.tracks, motion.pins, state.selected, state.tool)
        with hold_canvas():
            shown = [name for name in MASKS if state.mask_shown(name) is not None]
            if self._changed("masks", (state.mask_revision, shown)):
                self._draw_masks(state)
            if self._changed("paths", (*paths, state.mask, state.mask_revision)):
                self._draw_shapes(self.canvas[1], path_shapes(state))
            self._draw_shapes(self.canvas[2], live_shapes(state, frame, num_frames))

    def _changed(self, layer: str, content: object) -> bool:
        changed = layer not in self._drawn or self._drawn[layer] != content
        self._drawn[layer] = content
        return changed

    def _draw_masks(self, state: PadState) -> None:
        layer = self.canvas[0]
        layer.clear()
        layer.save()
        layer.scale(self.scale)
        for name in MASKS:
            mask, colour = state.mask_shown(name), MASK_COLOURS[name]
            if mask is not None:
                flat = np.zeros((*mask.shape, 4), np.uint8)
                flat[mask > 0] = (*colour, _FILL)
                flat[outline(mask, 2 * SHARP / self.scale)] = (*colour, _EDGE)
                layer.put_image_data(flat)
        layer.restore()

    def _draw_shapes(self, layer, shapes: list) -> None:
        layer.clear()
        layer.line_cap = layer.line_join = "round"
        for shape in shapes:
            if isinstance(shape, Texts):
                self._draw_texts(layer, shape)
            elif isinstance(shape, Discs) and shape.centres:
                x, y = (np.array(shape.centres, np.float32) * self.scale).T
                colours = np.array(shape.colours, np.uint8)
                layer.fill_styled_circles(x, y, shape.radius * SHARP, colours, shape.alpha)
            elif isinstance(shape, (Lines, Triangles)) and shape.points:
                lines = [_drawable(line) * self.scale for line in shape.points]
                colours = np.array(shape.colours, np.uint8)
                if isinstance(shape, Lines):
                    layer.line_width = shape.width * SHARP
                    layer.stroke_styled_line_segments(lines, colours, shape.alpha)
                else:
                    layer.fill_styled_polygons(lines, colours, shape.alpha)

    def _draw_texts(self, layer, texts: Texts) -> None:
        layer.fill_style = "#" + bytes(texts.colour).hex()
        layer.font = f"600 {texts.size * SHARP}px sans-serif"
        layer.text_align, layer.text_baseline = "center", "middle"
        for word, (x, y) in zip(texts.words, texts.centres, strict=True):
            layer.fill_text(word, x * self.scale, y * self.scale + SHARP / 2)

    def _event(self, name: str) -> Callable:
        def on_event(x: Number, y: Number) -> None:
            if math.isfinite(x) and math.isfinite(y):
                place = (x / self.scale, y / self.scale)
                self._handle(lambda state: getattr(state, name)(*place), moving=name == "drag")

        return on_event

    def _touch(self, name: str) -> Callable:
        on_event = self._event(name)
        return lambda touches: on_event(*touches[0]) if touches else None

    def _wheel(self, dx: Number, dy: Number) -> None:
        self._handle(lambda state: state.grow_brush(1 if dy < 0 else -1))


def key_name(key: str, shift: bool, ctrl: bool, meta: bool) -> str:
    """One word for a key with its modifiers, "ctrl" standing for the Mac's command key as well."""
    return "+".join(["ctrl"] * (ctrl or meta) + ["shift"] * shift + [key.lower()])


def _filling() -> Layout:
    return Layout(width="100%", height="auto", margin="0", grid_area=_CELL, object_fit="fill")


def _drawable(line: object) -> np.ndarray:
    """At least two points, as the canvas wants."""
    points = np.asarray(line, np.float32)
    return np.repeat(points, 2, axis=0) if len(points) == 1 else points
