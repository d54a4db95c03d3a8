"""The stage: a picture with a transparent canvas over it, which reports the mouse and draws shapes.

Only the kernel's main thread may call `draw`; `picture.value` may be set from any thread.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from ipywidgets import GridBox, Image, Layout

from mofa_nb.pad.picture import SHARP
from mofa_nb.pad.shapes import MASK_COLOURS, Shape, live_shapes, path_shapes
from mofa_nb.pad.state import MASKS, PadState
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
        filling = {"width": "100%", "height": "auto", "margin": "0", "object_fit": "fill"}
        self.picture = Image(format="jpeg", layout=Layout(grid_area=_CELL, **filling))
        layout = Layout(grid_area=_CELL, **filling)
        self.canvas = canvas = MultiCanvas(3, width=16, height=16, layout=layout)
        canvas.add_class("mofa-stage")
        self.picture.add_class("mofa-picture")
        self.widget = GridBox([self.picture, canvas])
        self.scale, self._drawn, self._next = 1.0, {}, 0.0

        def at(name: str) -> Callable:
            def on_event(x: Number, y: Number) -> None:
                if math.isfinite(x) and math.isfinite(y):
                    place = (x / self.scale, y / self.scale)
                    handle(lambda state: getattr(state, name)(*place), moving=name == "drag")

            return on_event

        for name, mouse, touch in (
            ("press", canvas.on_mouse_down, canvas.on_touch_start),
            ("drag", canvas.on_mouse_move, canvas.on_touch_move),
        ):
            act = at(name)
            mouse(act)
            touch(lambda touches, act=act: touches and act(*touches[0]))
        canvas.on_mouse_up(at("release"))
        canvas.on_mouse_out(lambda x, y: handle(PadState.leave))
        canvas.on_touch_end(lambda touches: handle(PadState.leave))
        canvas.on_touch_cancel(lambda touches: handle(PadState.cancel))
        canvas.on_mouse_wheel(lambda dx, dy: handle(lambda s: s.grow_brush(1 if dy < 0 else -1)))
        canvas.on_key_down(lambda *pressed: key(key_name(*pressed)))

    def fit(self, size: tuple[int, int], screen: tuple[int, int]) -> None:
        """Take the shape of another picture: drawing pixels `size`, screen pixels `screen`."""
        width, height = screen
        self.canvas.width, self.canvas.height = width * SHARP, height * SHARP
        shown = {"max_width": "100%", "margin": "0", "overflow": "hidden"}
        self.widget.layout = Layout(width=f"{width}px", **shown)
        self.scale = width * SHARP / size[0]
        self.renew()

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
        motion, revision = state.motion, state.mask_revision
        shown = {name: state.mask_shown(name) for name in MASKS}
        paths = (motion.tracks, motion.pins, state.selected, state.tool, state.mask, revision)
        with hold_canvas():
            if self._changed("masks", (revision, [mask is None for mask in shown.values()])):
                self._draw_masks(shown)
            if self._changed("paths", paths):
                self._draw_shapes(self.canvas[1], path_shapes(state))
            self._draw_shapes(self.canvas[2], live_shapes(state, frame, num_frames))

    def _changed(self, layer: str, content: object) -> bool:
        changed = layer not in self._drawn or self._drawn[layer] != content
        self._drawn[layer] = content
        return changed

    def _draw_masks(self, masks: dict[str, np.ndarray | None]) -> None:
        layer = self.canvas[0]
        layer.clear()
        layer.save()
        layer.scale(self.scale)
        for name, mask in masks.items():
            if mask is not None:
                flat = np.zeros((*mask.shape, 4), np.uint8)
                flat[mask > 0] = (*MASK_COLOURS[name], _FILL)
                flat[outline(mask, 2 * SHARP / self.scale)] = (*MASK_COLOURS[name], _EDGE)
                layer.put_image_data(flat)
        layer.restore()

    def _draw_shapes(self, layer, shapes: list[Shape]) -> None:
        layer.clear()
        layer.line_cap = layer.line_join = "round"
        for shape in shapes:
            if not len(shape.places):
                continue
            colours = np.broadcast_to(np.uint8(shape.colour), (len(shape.places), 3))
            size = shape.size * SHARP
            if shape.kind == "texts":
                layer.fill_style = "#" + bytes(shape.colour).hex()
                layer.font = f"600 {size}px sans-serif"
                layer.text_align, layer.text_baseline = "center", "middle"
                for word, (x, y) in zip(shape.words, shape.places, strict=True):
                    layer.fill_text(word, x * self.scale, y * self.scale + SHARP / 2)
            elif shape.kind == "discs":
                x, y = (np.array(shape.places, np.float32) * self.scale).T
                layer.fill_styled_circles(x, y, size, colours, shape.alpha)
            else:
                lines = [_drawable(line) * self.scale for line in shape.places]
                if shape.kind == "lines":
                    layer.line_width = size
                    layer.stroke_styled_line_segments(lines, colours, shape.alpha)
                else:
                    layer.fill_styled_polygons(lines, colours, shape.alpha)


def key_name(key: str, shift: bool, ctrl: bool, meta: bool) -> str:
    """One word for a key with its modifiers, "ctrl" standing for the Mac's command key as well."""
    return "+".join(["ctrl"] * (ctrl or meta) + ["shift"] * shift + [key.lower()])


def _drawable(line: object) -> np.ndarray:
    """At least two points, as the canvas wants."""
    points = np.asarray(line, np.float32)
    return np.repeat(points, 2, axis=0) if len(points) == 1 else points
