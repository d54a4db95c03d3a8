"""The widgets around the stage: how they look and how they are laid out. What they do: `app`."""

import base64
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ipywidgets import (
    HTML,
    Box,
    Button,
    Dropdown,
    FileUpload,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    Image,
    IntProgress,
    IntSlider,
    IntText,
    Layout,
    Play,
    Text,
    VBox,
    Widget,
    jslink,
)

from mofa_nb.drawing import TRACK_COLOURS
from mofa_nb.flow_colours import wheel_picture
from mofa_nb.motion import Track
from mofa_nb.pad.picture import SCREEN, png
from mofa_nb.pad.presets import CAMERAS
from mofa_nb.pad.state import Handle, PadState
from mofa_nb.pad.strokes import length

_TOOLS = {
    "Track": ("track", "pencil", "Drag a path, or click point by point and press Enter (T)"),
    "Pin": ("pin", "map-pin", "Click what must stay where it is (P)"),
    "Brush": ("brush", "paint-brush", "Paint what may move; tracks act inside it (B)"),
    "Erase": ("erase", "eraser", "Take paint away (E)"),
    "Move": ("move", "arrows", "Drag a control point, a whole track or a pin (M)"),
}
_SPEEDS = {
    "Steady": "linear",
    "Ease in": "ease_in",
    "Ease out": "ease_out",
    "Ease both": "ease",
    "Hold": "hold",
}
_ROWS = 4
_HALF = SCREEN // 2 - 4  # width of a setting, pixels
_NAMES = "58px"  # width of its name
_CHIPS = "".join(
    f".mofa-chip{i} {{background:rgb{colour}!important; color:#12141a!important; font-weight:600}}"
    for i, colour in enumerate(TRACK_COLOURS)
)
CSS = f"""<style>
.mofa-pad {{max-width:{2 * SCREEN + 24}px}}
.mofa-pad .jupyter-widgets {{margin:0}}
.mofa-pad .widget-label {{text-align:left!important}}
.mofa-stage {{cursor:crosshair; touch-action:none; outline:none!important}}
.mofa-view {{background:rgba(128,128,128,.12)}}
.mofa-text .widget-html-content, .mofa-text {{line-height:20px; font-size:13px; opacity:.85;
 white-space:nowrap; overflow:hidden; text-overflow:ellipsis}}
.mofa-text .warn {{color:#e8590c; font-weight:600}}
.mofa-title {{font-weight:600; font-size:13px}}
.mofa-card {{border:1px solid rgba(128,128,128,.35); border-radius:4px; padding:6px}}
.mofa-code pre {{background:rgba(128,128,128,.12); padding:8px; border-radius:4px; font-size:12px;
 line-height:1.4; max-height:140px; overflow:auto; white-space:pre-wrap; word-break:break-all}}
{_CHIPS}</style>"""


def tip(widget: Widget, text: str) -> Widget:
    """Give a widget a tooltip, whatever its version calls it."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", text)
    return widget


def button(text: str, icon: str, about: str, click: Callable[[], None], width: int) -> Button:
    """A button with its icon left of the text."""
    result = tip(Button(description=text, icon=icon, layout=Layout(width=f"{width}px")), about)
    result.on_click(lambda _: click())
    return result


def row(*widgets: Widget, gap: int = 6, **layout: str) -> HBox:
    """Widgets side by side, centred on one line; they wrap where the page is narrow."""
    layout = {"align_items": "center", "flex_flow": "row wrap", **layout}
    return HBox(widgets, layout=Layout(grid_gap=f"{gap}px", **layout))


def column(*widgets: Widget, width: int = SCREEN, **layout: str) -> VBox:
    """Widgets one under another in half of the pad's width."""
    layout = {"width": f"{width}px", "max_width": "100%", "grid_gap": "6px", **layout}
    return VBox(widgets, layout=Layout(**layout))


def text(width: str = "auto", height: str = "20px", **layout: str) -> HTML:
    """A line of quiet text whose place stays when it is empty."""
    result = HTML(layout=Layout(width=width, height=height, **layout))
    result.add_class("mofa-text")
    return result


def title(words: str) -> HTML:
    """The heading of a panel."""
    return HTML(f"<span class='mofa-title'>{words}</span>", layout=Layout(height="28px"))


def slider(kind: type, words: str, about: str, width: int = _HALF, **values) -> Widget:
    layout = Layout(width=f"{width}px", height="28px")
    widget = kind(description=words, layout=layout, continuous_update=False, **values)
    widget.style.description_width = _NAMES if words else "initial"
    return tip(widget, about)


class Toolbar:
    """Tools and the buttons that act at once."""

    def __init__(self, use: Callable[[str], None], actions: dict[str, Callable[[], None]]):
        self._tools = {
            tool: button(name, icon, about, partial(use, tool), 76)
            for name, (tool, icon, about) in _TOOLS.items()
        }
        self.undo = button("Undo", "undo", "Take back (Ctrl+Z)", actions["undo"], 78)
        self.redo = button("Redo", "repeat", "Do again (Ctrl+Shift+Z)", actions["redo"], 78)
        delete = button("Delete", "trash", "Delete what is selected (Del)", actions["delete"], 82)
        clear = button(
            "Clear", "times", "Delete everything but locked tracks", actions["clear"], 76
        )
        done = "End a track set click by click (Enter)"
        self.finish = button("Done", "check", done, actions["finish"], 76)
        self.radius = slider(
            IntSlider, "Size", "Radius of the brush ([ and ], or the wheel)", 210, min=1, max=256
        )
        self.radius.continuous_update = True
        spot = Box([self.radius, self.finish], layout=Layout(width="210px", height="30px"))
        tools = row(*self._tools.values(), gap=2)
        self.widget = row(tools, row(self.undo, self.redo, delete, clear, gap=2), spot, gap=14)

    def show(self, state: PadState) -> None:
        """Follow the state."""
        for tool, widget in self._tools.items():
            widget.button_style = "info" if tool == state.tool else ""
        self.undo.disabled, self.redo.disabled = not state.can_undo, not state.can_redo
        brushing = state.tool in ("brush", "erase")
        self.radius.layout.display = "flex" if brushing else "none"
        self.finish.layout.display = "flex" if len(state.clicks) else "none"
        self.radius.value = round(state.radius / state.unit)


class TrackList:
    """One row per track: number and colour, length, speed, when it moves, lock, delete.

    Args:
        handle: called with a function of the state.
    """

    def __init__(self, handle: Callable):
        self._handle, self._rows, self._first, self._quiet = handle, [], 0, False
        self.note = text("100%")
        self.widget = VBox(layout=Layout(height=f"{34 * _ROWS + 22}px", grid_gap="4px"))

    def show(self, state: PadState) -> None:
        """Follow the state; of many tracks, those around the selected one are listed."""
        tracks = state.motion.tracks
        chosen = state.selected.index if state.selected and state.selected.kind != "pin" else -1
        last = max(0, len(tracks) - _ROWS)
        self._first = min(max(chosen - _ROWS // 2, 0), last) if chosen >= 0 else last
        while len(self._rows) < min(_ROWS, len(tracks)):
            self._rows.append(self._row(len(self._rows)))
        self._quiet = True
        try:
            for place, parts in enumerate(self._rows[: len(tracks)]):
                index = self._first + place
                self._fill(parts, index, tracks[index], index == chosen)
        finally:
            self._quiet = False
        hidden = len(tracks) - _ROWS
        empty = "Nothing drawn yet." if state.motion.is_empty else ""
        self.note.value = f"… and {hidden} more: grab one with Move" if hidden > 0 else empty
        shown = tuple(parts["row"] for parts in self._rows[: len(tracks)])
        self.widget.children = (*shown, self.note)

    def _fill(self, parts: dict, index: int, track: Track, chosen: bool) -> None:
        number = str(index + 1)
        if parts["chip"].description != number:
            parts["chip"].description = number
            for i in range(len(TRACK_COLOURS)):
                parts["chip"].remove_class(f"mofa-chip{i}")
            parts["chip"].add_class(f"mofa-chip{index % len(TRACK_COLOURS)}")
        when = f" · {track.start:.0%}–{track.end:.0%}" if (track.start, track.end) != (0, 1) else ""
        parts["length"].value = f"{length(track):.0f} px{when}"
        parts["speed"].value, parts["time"].value = track.speed, (track.start, track.end)
        parts["lock"].icon = "lock" if track.locked else "unlock"
        parts["delete"].disabled = track.locked
        parts["row"].layout.border = "1px solid rgba(128,128,128,.6)" if chosen else "none"

    def _row(self, place: int) -> dict:
        def edit(change: Callable[[PadState, int], None]) -> None:
            index = self._first + place
            if not self._quiet:
                self._handle(lambda state: change(state, index))

        def choose(state: PadState, index: int) -> None:
            state.selected = Handle("track", index)

        about = "When in the clip it moves; before and after it rests"
        parts = {
            "chip": button("", "", "Select", lambda: edit(choose), 30),
            "length": text("128px"),
            "speed": Dropdown(options=list(_SPEEDS.items()), layout=Layout(width="104px")),
            "time": slider(FloatRangeSlider, "", about, 140, min=0, max=1, step=0.05),
            "lock": button(
                "", "unlock", "Locked: the tools leave it alone", lambda: edit(_lock), 34
            ),
            "delete": button("", "trash", "Delete", lambda: edit(_delete), 34),
        }
        parts["time"].readout = False
        tip(parts["speed"], "How its speed changes along the path")
        parts["speed"].observe(lambda c: edit(lambda s, i: s.set_track(i, speed=c["new"])), "value")
        parts["time"].observe(
            lambda c: edit(lambda s, i: s.set_track(i, start=c["new"][0], end=c["new"][1])), "value"
        )
        layout = Layout(height="34px", align_items="center", grid_gap="6px", padding="1px")
        parts["row"] = HBox(list(parts.values()), layout=layout)
        return parts


def _delete(state: PadState, index: int) -> None:
    state.delete("track", index)


def _lock(state: PadState, index: int) -> None:
    state.set_track(index, locked=not state.motion.tracks[index].locked)


class Settings:
    """How the clip is made, in plain words."""

    def __init__(self, defaults: dict, num_frames: int, actions: dict[str, Callable[[], None]]):
        self.seed = IntText(defaults.get("seed", 42), description="Seed")
        self.seed.layout, self.seed.style.description_width = Layout(width="152px"), _NAMES
        tip(self.seed, "Another seed gives another clip of the same motion")
        steps, scale = defaults.get("steps", 25), defaults.get("control_scale", 0.6)
        about = "Steps from noise to clip: more is finer and slower"
        self.steps = slider(IntSlider, "Steps", about, min=1, max=max(50, steps), value=steps)
        about = (
            "How strictly the motion is followed: about 0.6 suits tracks, towards 1 the picture"
            " may twist, 0 lets the clip run free"
        )
        self.scale = slider(FloatSlider, "Control", about, min=0, max=1.5, step=0.05, value=scale)
        about = "Length of the clip"
        self.frames = slider(IntSlider, "Frames", about, min=2, max=num_frames, value=num_frames)
        short, multiple = defaults.get("short_side", 128), defaults.get("multiple", 32)
        sides = sorted({short, *(round(short * f / multiple) * multiple for f in (0.75, 1.5, 2))})
        self.side = Dropdown(
            options=[(f"{side} px" + " (native)" * (side == short), side) for side in sides],
            value=short,
            description="Size",
            layout=Layout(width=f"{_HALF}px"),
        )
        self.side.style.description_width = _NAMES
        tip(self.side, "Shorter side of the clip: other than the native one may look worse")
        roll = button("Roll", "random", "A random seed", actions["roll"], 74)
        code = button(
            "Code", "code", "The lines that redo this without the pad", actions["code"], 114
        )
        save = button("Save", "save", "Write the motion file", actions["save"], 114)
        seed = row(self.seed, roll, gap=6, width=f"{_HALF}px")
        files = row(code, save, gap=8, width=f"{_HALF}px")
        self.widget = row(seed, self.side, self.steps, self.scale, self.frames, files, gap=8)


class Player:
    """The right-hand view: frames, a slider through them, and what they are."""

    def __init__(self, num_frames: int, fps: float):
        self.image = Image(format="jpeg", layout=Layout(width="100%", object_fit="fill"))
        self.caption = text("100%")
        last = num_frames - 1
        self.play = Play(value=last, min=0, max=last, interval=round(1000 / fps))
        for name in ("repeat", "_repeat"):
            if self.play.has_trait(name):
                setattr(self.play, name, True)
        self.slider = IntSlider(value=last, min=0, max=last, readout=False)
        self.slider.layout = Layout(width="auto", flex="1 1 auto", height="28px")
        self.count = text("90px")
        jslink((self.play, "value"), (self.slider, "value"))
        self.view = Box([self.image], layout=Layout(overflow="hidden", max_width="100%"))
        self._screen = (0, 0)
        self.view.add_class("mofa-view")
        self.controls = HBox([self.play, self.slider, self.count], layout=Layout(height="32px"))
        self.controls.add_class("mofa-player")
        self.controls.layout.align_items, self.controls.layout.grid_gap = "center", "10px"

    def fit(self, screen: tuple[int, int]) -> None:
        """Take the shape of another picture on the screen."""
        self._screen = screen
        self.view.layout.width, self.view.layout.height = (f"{side}px" for side in screen)
        self.place((0, 0, 1, 1))

    def place(self, box: tuple[float, float, float, float]) -> None:
        """Show frames where their part of the picture lies on the stage."""
        width, height = self._screen
        left, top, right, bottom = box
        layout = self.image.layout
        layout.margin = f"{top * height:.0f}px 0 0 {left * width:.0f}px"
        layout.width, layout.height = (
            f"{(right - left) * width:.0f}px",
            f"{(bottom - top) * height:.0f}px",
        )

    def set_length(self, num_frames: int) -> None:
        """Clips of another length."""
        self.play.max = self.slider.max = num_frames - 1


class Header:
    """Which picture: examples, upload, or a path."""

    def __init__(self, examples: Sequence[tuple[str, str]]):
        self.examples = Dropdown(
            options=[("choose an example", ""), *examples], layout=Layout(width="190px")
        )
        self.upload = FileUpload(accept="image/*,.json", multiple=False)
        self.upload.layout.width = "110px"
        tip(self.upload, "A photograph, or a motion file")
        self.path = Text(
            placeholder="path of a photograph or a motion file",
            continuous_update=False,
            layout=Layout(width="260px"),
        )
        self.scale = text("auto", flex="1 1 auto")
        self.widgets = (self.examples, self.upload, self.path)
        self.widget = row(*self.widgets, self.scale)


def camera_row(add: Callable[[str, float], None]) -> HBox:
    """Choose a camera move and its strength."""
    move = Dropdown(options=list(CAMERAS), layout=Layout(width="120px"))
    tip(move, "A move of the whole picture, named for the camera")
    strength = slider(FloatSlider, "", "Strength", 170, min=0.05, max=1, step=0.05, value=0.2)
    go = button("Add", "video-camera", "Fill the frame with tracks", lambda: None, 70)
    go.on_click(lambda _: add(move.value, strength.value))
    return row(title("Tracks"), HTML(layout=Layout(flex="1 1 auto")), move, strength, go)


class Runner:
    """Animate, stop, and how far it is."""

    def __init__(self, animate: Callable[[], None], stop: Callable[[], None]):
        self.animate = button("Animate", "play", "Make the clip (Ctrl+Enter)", animate, 104)
        self.animate.button_style = "primary"
        self.stop = button("Stop", "stop", "End after the present step (Esc)", stop, 76)
        self.progress = IntProgress(min=0, max=1000, layout=Layout(flex="1 1 60px", height="14px"))
        self.left = text("96px")
        self.widget = row(self.animate, self.stop, self.progress, self.left, width="100%")
        self.rest()

    def rest(self) -> None:
        """Nothing is running."""
        self.animate.disabled, self.stop.disabled = False, True
        self.progress.value, self.left.value = 0, ""

    def start(self) -> None:
        """A run begins."""
        self.animate.disabled, self.stop.disabled, self.left.value = True, False, "starting …"


def legend(scale: float) -> str:
    """HTML: the colour wheel of the flow and what its rim stands for, or nothing for no flow."""
    if not scale:
        return ""
    axis = np.linspace(-1, 1, 56)
    disc = (np.hypot(*np.meshgrid(axis, axis)) <= 1) * np.uint8(255)
    data = base64.b64encode(png(np.dstack([wheel_picture(56), disc]))).decode("ascii")
    about = "direction is hue, length is saturation"
    return (
        f'<img src="data:image/png;base64,{data}" width="28" height="28" title="{about}"'
        f' style="vertical-align:middle"> up to {scale:.3g} px'
    )
