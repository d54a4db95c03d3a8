"""What the pad shows: the stage (a picture, on a transparent canvas what is drawn over it, and the
mouse there), frames beside it, a status line. Only one thread at a time may call `draw`; the rest
only sets values of widgets, so any thread may call it."""

import html
import math
import time
from collections.abc import Callable, Sequence
from operator import is_not

import cv2
import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from ipywidgets import Box, Dropdown, FloatSlider, GridBox, Image, IntSlider, Layout, Play, jslink
from jaxtyping import UInt8

from mofa_nb.faces.draw import landmark_parts
from mofa_nb.motion.motion import Track
from mofa_nb.pad.engine import FLOWS, Preview
from mofa_nb.pad.picture import SHARP, PadPicture
from mofa_nb.pad.state import MASKS, PadState
from mofa_nb.pad.strokes import Bounds, Number, curve, outline
from mofa_nb.pad.style import MASK_COLOURS, field, row, text
from mofa_nb.show import drawing
from mofa_nb.show.colours import flow_to_rgb, wheel_picture
from mofa_nb.show.drawing import DARK, WHITE, Colour, Shape, discs, drawn_numbers, track_colour
from mofa_nb.show.notebook import data_url, image_bytes

OFF = (240, 70, 70)
HINT = "Drag on the picture to draw a path"
_REDRAW = 1 / 30  # seconds between two redraws while the mouse moves
_FILL, _EDGE = 50, 230  # opacity of a painted mask and its outline, of 255


class StageView:
    """Draws a `PadState`, feeds it mouse, touch and keys. handle: called for every event with a
    function of the state; key: with the name of a key pressed over the canvas, like "ctrl+z"."""

    def __init__(self, handle: Callable, key: Callable[[str], None]):
        # Picture and canvas share one cell of a grid, so they lie on each other.
        look = {"grid_area": "1 / 1 / 2 / 2", "width": "100%", "height": "auto", "margin": "0"}
        look["object_fit"] = "fill"
        self.picture = Image(format="jpeg", layout=Layout(**look))
        self.canvas = canvas = MultiCanvas(3, width=16, height=16, layout=Layout(**look))
        canvas.add_class("mofa-stage")
        self.picture.add_class("mofa-picture")
        self.widget = GridBox([self.picture, canvas])
        self.scale, self._drawn, self._next = 1.0, None, 0.0

        def at(name: str) -> Callable:
            def on_event(x: Number, y: Number) -> None:
                if math.isfinite(x) and math.isfinite(y):
                    place = (x / self.scale, y / self.scale)
                    handle(lambda state: getattr(state, name)(*place), moving=name == "drag")

            return on_event

        def pressed(name: str, shift: bool, ctrl: bool, meta: bool) -> None:
            # The Mac's command key does what "ctrl" does elsewhere.
            key("+".join(["ctrl"] * (ctrl or meta) + ["shift"] * shift + [name.lower()]))

        press, drag = at("press"), at("drag")
        canvas.on_mouse_down(press)
        canvas.on_mouse_move(drag)
        canvas.on_touch_start(lambda touches: touches and press(*touches[0]))
        canvas.on_touch_move(lambda touches: touches and drag(*touches[0]))
        canvas.on_mouse_up(at("release"))
        canvas.on_mouse_out(lambda x, y: handle(PadState.leave))
        canvas.on_touch_end(lambda touches: handle(PadState.leave))
        canvas.on_touch_cancel(lambda touches: handle(PadState.cancel))
        canvas.on_mouse_wheel(lambda dx, dy: handle(lambda s: s.grow_brush(1 if dy < 0 else -1)))
        canvas.on_key_down(pressed)

    def fit(self, size: tuple[int, int], screen: tuple[int, int]) -> None:
        """Take the shape of another picture: (width, height) to draw in and on the screen."""
        width, height = screen
        self.canvas.width, self.canvas.height = width * SHARP, height * SHARP
        shown = {"max_width": "100%", "margin": "0", "overflow": "hidden"}
        self.widget.layout = Layout(width=f"{width}px", **shown)
        self.scale, self._drawn = width * SHARP / size[0], None

    def draw(self, state: PadState, frame: int, num_frames: int, at_once=True, anew=False) -> None:
        """Redraw the layers that differ from what is on the screen, or all `anew` for a new page
        (ipycanvas names a layer only when it changes); the ghosts stand at `frame`. While the mouse
        moves, not `at_once`, at most 30 times a second."""
        now = time.monotonic()
        if not at_once and now < self._next:
            return
        self._next = now + _REDRAW
        masks = [state.mask_shown(name) for name in MASKS]
        paths = state.motion.tracks, state.motion.pins, state.selected, state.tool, state.mask
        paths = *paths, state.tool == "select" and state.picks
        with hold_canvas():
            painted = anew or self._drawn is None or any(map(is_not, masks, self._drawn[0]))
            if painted:
                self._draw_masks(dict(zip(MASKS, masks, strict=True)))
            if painted or paths != self._drawn[1]:
                self._draw_shapes(self.canvas[1], path_shapes(state))
            self._draw_shapes(self.canvas[2], live_shapes(state, frame, num_frames))
        self._drawn = masks, paths

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
                lines = [np.asarray(line, np.float32) * self.scale for line in shape.places]
                lines = [line if len(line) > 1 else line.repeat(2, axis=0) for line in lines]
                if shape.kind == "lines":
                    layer.line_width = size
                    layer.stroke_styled_line_segments(lines, colours, shape.alpha)
                else:
                    layer.fill_styled_polygons(lines, colours, shape.alpha)


class Screen:
    """The stage on the left, the player on the right; `slider` counts frames from 0."""

    def __init__(self, stage: StageView, num_frames: int, fps: Number):
        self.stage, self.preview, self._frames = stage, None, None
        self.status, self.caption, self.count = text(), text(), text("90px")
        self._legend = text("140px", "32px")
        about = "How strongly the dense flow is shown"
        self.opacity = field(FloatSlider, "Flow", about, 220, min=0, max=1, step=0.05, value=0.5)
        about = "Whose flow is shown: blended by the face mask, or one alone"
        self.flow = field(Dropdown, "", about, 88, options=list(FLOWS))
        self.image = Image(format="jpeg", layout=Layout(object_fit="fill"))
        self._view = Box([self.image], layout=Layout(overflow="hidden", max_width="100%"))
        self._view.add_class("mofa-view")
        ends = {"value": num_frames - 1, "min": 0, "max": num_frames - 1}
        self._play = Play(interval=round(1000 / fps), **ends)
        for name in ("repeat", "_repeat"):
            if self._play.has_trait(name):
                setattr(self._play, name, True)
        layout = Layout(width="auto", flex="1 1 auto", height="28px")
        self.slider = IntSlider(readout=False, layout=layout, **ends)
        jslink((self._play, "value"), (self.slider, "value"))
        line = {"gap": "10px", "height": "32px", "flex_flow": "row"}
        player = row(self._play, self.slider, self.count, **line)
        player.add_class("mofa-player")
        flow = row(self.opacity, self.flow, self._legend, **line)
        self.widgets = (stage.widget, self.status, flow), (self._view, self.caption, player)

    def open(self, picture: PadPicture) -> None:
        """Another picture, of which the model has seen nothing yet."""
        self._picture, self.preview = picture, None
        self.stage.fit(picture.size, picture.screen)
        self._view.layout.width, self._view.layout.height = (f"{s}px" for s in picture.screen)
        self._place((0, 0, 1, 1))
        self.show(picture.fine[None], "The model is looking at the picture …")
        self.refresh()

    def take(self, preview: Preview) -> None:
        self.preview = preview
        self._place(preview.box)
        self._legend.value = _legend(preview.scale)
        self.refresh()

    def show_preview(self) -> None:
        """The picture warped along the flow, frame by frame."""
        if self.preview is not None and self.preview.frames is not None:
            height, width = self.preview.frames.shape[1:3]
            what = "What the model sees" if self.preview.flow is None else "Warped preview"
            self.show(self.preview.frames, f"{what} · {width} × {height}")

    def show(self, frames: UInt8[np.ndarray, "T H W 3"], caption: str) -> None:
        self._frames, self.caption.value = frames, html.escape(caption)
        self._show_frame()

    def set_length(self, num_frames: int) -> None:
        """Clips of another length; a slider at the end stays at the end."""
        at_end = self.slider.value == self.slider.max
        self._play.max = self.slider.max = num_frames - 1
        if at_end:
            self._play.value = self.slider.value = num_frames - 1

    def refresh(self) -> None:
        """Everything that depends on the frame or the opacity."""
        self._show_frame()
        self.stage.picture.value = image_bytes(self._tinted(), "JPEG", quality=88)

    def draw(self, state: PadState, **how: bool) -> None:
        """Paths, pins, brush; one thread at a time."""
        self.flow.layout.visibility = "hidden" if state.motion.face is None else "visible"
        self.stage.draw(state, self.slider.value, self.slider.max + 1, **how)

    def _show_frame(self) -> None:
        frame, frames = self.slider.value, self._frames  # another thread may bring others
        self.image.value = image_bytes(frames[min(frame, len(frames) - 1)], "JPEG", quality=88)
        self.count.value = f"{frame + 1} of {self.slider.max + 1}"

    def _tinted(self) -> UInt8[np.ndarray, "h w 3"]:
        """What the model does not see of the picture darkened, the flow's colours laid over."""
        fine, preview, frame = self._picture.fine, self.preview, self.slider.value
        if preview is None:
            return fine
        sides = 2 * fine.shape[1::-1]
        left, top, right, bottom = (round(e * s) for e, s in zip(preview.box, sides, strict=True))
        view = fine[top:bottom, left:right].astype(np.float32)
        if preview.flow is not None and frame > 0 < self.opacity.value:
            flow = preview.flow[min(frame, len(preview.flow)) - 1]
            size = right - left, bottom - top
            weight = self.opacity.value * np.sqrt(np.hypot(*flow) / preview.scale)
            weight = cv2.resize(weight.astype(np.float32), size)[..., None]
            view += weight * (cv2.resize(flow_to_rgb(flow, preview.scale), size) - view)
        result = fine // 3
        result[top:bottom, left:right] = view.astype(np.uint8)
        return result

    def _place(self, box: Bounds) -> None:
        """Frames lie on the right as their part of the picture lies on the left."""
        (width, height), (left, top, right, bottom) = self._picture.screen, box
        self.image.layout.margin = f"{top * height:.0f}px 0 0 {left * width:.0f}px"
        self.image.layout.width = f"{(right - left) * width:.0f}px"
        self.image.layout.height = f"{(bottom - top) * height:.0f}px"


def _legend(scale: float) -> str:
    """HTML: the colour wheel of the flow and what its rim stands for, or nothing for no flow."""
    if not scale:
        return ""
    axis = np.linspace(-1, 1, 56)
    disc = (np.hypot(*np.meshgrid(axis, axis)) <= 1) * np.uint8(255)
    wheel = data_url(image_bytes(np.dstack([wheel_picture(56), disc])), "image/png")
    about = "direction is hue, length is saturation; pixels of the clip"
    return f'<img src="{wheel}" width="28" title="{about}"> up to {scale:.3g} px'


def drawn_tracks(state: PadState) -> dict[int, Track]:
    """The tracks that are drawn, by number: of very many the chosen one and some from all over."""
    tracks = state.motion.tracks
    numbers = {*drawn_numbers(len(tracks)), state.chosen_track} - {None}
    return {i: tracks[i] for i in sorted(numbers)}


def path_shapes(state: PadState) -> list[Shape]:
    """Tracks and pins: dark-cased lines, arrow heads, numbered starts, handles."""
    seen, pins, index = drawn_tracks(state), state.motion.pins, state.chosen_track
    lines, colours = [curve(track) for track in seen.values()], [track_colour(i) for i in seen]
    shapes = []
    if index is not None:
        shapes.append(Shape("lines", [curve(seen[index])], WHITE, 11, 0.5))
    elif state.selected is not None:
        shapes.append(Shape("discs", [pins[state.selected.index]], WHITE, 12, 0.5))
    shapes += drawing.arrow_shapes(lines, colours, state.unit)
    # Control points can be grabbed with "move", and are shown of the chosen track.
    held = [t for i, t in seen.items() if not t.locked and (state.tool == "move" or i == index)]
    shapes += discs([p for track in held for p in track.points[1:]], (5, DARK), (3.5, WHITE))
    starts = [track.points[0] for track in seen.values()]
    rims = [WHITE if track.locked else DARK for track in seen.values()]
    shapes += [*drawing.number_shapes(starts, seen, colours, rims), *drawing.pin_shapes(pins)]
    if state.tool == "select":
        for places, colour in zip(state.picks, (MASK_COLOURS[state.mask], OFF), strict=True):
            shapes += discs(places, (6.5, DARK), (5, colour))
    return shapes


def live_shapes(state: PadState, frame: int, num_frames: int) -> list[Shape]:
    """What changes with every move: face, ghosts, the gesture in progress, brush ring, hint."""
    shapes, motion, unit = face_shapes(state, frame), state.motion, state.unit
    shapes += [] if state.stroke else _ghosts(state, frame, num_frames)
    coming = track_colour(len(motion.tracks))
    if state.clicks:
        shapes += _cased([*state.clicks, *[state.pointer] * bool(state.pointer)], coming)
        shapes += discs(state.clicks, (5, coming))
    elif state.stroke and state.tool == "track":
        shapes += _cased(state.stroke, coming)
    if state.tool in ("brush", "erase"):
        if state.stroke:
            colour = MASK_COLOURS[state.mask] if state.tool == "brush" else WHITE
            shapes.append(Shape("lines", [state.stroke], colour, 2 * state.radius / unit, 0.45))
        if state.pointer:
            turn = np.linspace(0, 2 * np.pi, 49)
            circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
            ring = [np.array(state.pointer) + state.radius * circle]
            shapes += [Shape("lines", ring, DARK, 3, 0.6), Shape("lines", ring, WHITE, 1.5)]
    if motion.is_empty and motion.brush is None and not state.stroke and not state.clicks:
        x, y = motion.size[0] / 2, motion.size[1] / 2
        half = min(120 * unit, x - 20 * unit)
        shapes.append(Shape("lines", [[(x - half, y), (x + half, y)]], DARK, 34, 0.7))
        shapes.append(Shape("texts", [(x, y)], WHITE, 15, words=[HINT]))
    return shapes


def face_shapes(state: PadState, frame: int) -> list[Shape]:
    """The driven face's landmarks at a frame, as the release joins them."""
    if state.motion.face is None or state.landmarks is None:
        return []
    points = state.landmarks[min(frame, len(state.landmarks) - 1)]
    lines = [points[np.array(part["points_1based"]) - 1] for part in landmark_parts()]
    return [Shape("lines", lines, DARK, 3.5, 0.55), Shape("lines", lines, WHITE, 1.5, 0.95)]


def _cased(points: Sequence, colour: Colour) -> list[Shape]:
    return [Shape("lines", [points], DARK, 5.5, 0.6), Shape("lines", [points], colour, 2.75)]


def _ghosts(state: PadState, frame: int, num_frames: int) -> list[Shape]:
    seen, native = drawn_tracks(state), state.native
    rests = frame >= num_frames - 1 and num_frames <= (native or num_frames)
    if frame == 0 or rests or not seen:
        return []
    frame, after = min(frame, num_frames - 1), state.motion.after
    places = [track.path(num_frames, native or None, after)[frame] for track in seen.values()]
    return discs(places, (7.5, DARK), (6.5, WHITE), (4.5, [track_colour(i) for i in seen]))
