"""The widgets around the stage. Those that edit get `handle`, which takes a function of the state.

What the others do is wired in `app`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from ipywidgets import (
    HTML,
    Box,
    Dropdown,
    FileUpload,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    IntProgress,
    IntSlider,
    IntText,
    Layout,
    Text,
    VBox,
)

from mofa_nb.drawing import TRACK_COLOURS
from mofa_nb.motion import Track
from mofa_nb.pad.handles import Handle
from mofa_nb.pad.look import HALF, button, named, row, slider, text, tip, title
from mofa_nb.pad.presets import CAMERAS
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import length

_TOOLS = {
    "Track": ("pencil", "Drag a path, or click point by point and press Enter (T)"),
    "Pin": ("map-pin", "Click what must stay where it is (P)"),
    "Brush": ("paint-brush", "Paint what may move; tracks act inside it (B)"),
    "Erase": ("eraser", "Take paint away (E)"),
    "Move": ("arrows", "Drag a control point, a whole track or a pin (M)"),
}
_EDITS = {
    "Undo": (PadState.undo, "undo", "Take back (Ctrl+Z)"),
    "Redo": (PadState.redo, "repeat", "Do again (Ctrl+Shift+Z)"),
    "Delete": (PadState.delete_selected, "trash", "Delete what is selected (Del)"),
    "Clear": (PadState.clear, "times", "Delete everything but locked tracks"),
}
_SPEEDS = {
    "Steady": "linear",
    "Ease in": "ease_in",
    "Ease out": "ease_out",
    "Ease both": "ease",
    "Hold": "hold",
}
_ROWS = 4  # tracks listed at a time


class Toolbar:
    """Tools, and the buttons that act at once."""

    def __init__(self, handle: Callable):
        self._tools = {
            name.lower(): button(
                name, icon, about, partial(handle, partial(PadState.use, tool=name.lower())), 76
            )
            for name, (icon, about) in _TOOLS.items()
        }
        self.edits = {
            name: button(name, icon, about, partial(handle, edit), 80)
            for name, (edit, icon, about) in _EDITS.items()
        }
        about = "End a track set click by click (Enter)"
        self._done = button("Done", "check", about, partial(handle, PadState.finish), 76)
        about = "Radius of the brush ([ and ], or the wheel)"
        self.radius = slider(IntSlider, "Size", about, 210, min=1, max=256, continuous_update=True)
        spot = Box([self.radius, self._done], layout=Layout(width="210px", height="30px"))
        groups = [row(*group.values(), gap="2px") for group in (self._tools, self.edits)]
        self.widget = row(*groups, spot, gap="6px 14px")

    def show(self, state: PadState) -> None:
        """Follow the state."""
        for tool, widget in self._tools.items():
            widget.button_style = "info" if tool == state.tool else ""
        self.edits["Undo"].disabled = not state.can_undo
        self.edits["Redo"].disabled = not state.can_redo
        self.radius.layout.display = "flex" if state.tool in ("brush", "erase") else "none"
        self._done.layout.display = None if state.clicks else "none"
        self.radius.value = round(state.radius / state.unit)


class TrackList:
    """One row per track: number and colour, length, speed, when it moves, lock, delete."""

    def __init__(self, handle: Callable):
        self._handle, self._first, self._quiet = handle, 0, False
        self.rows: list[dict] = []
        self.note = text()
        self._list = VBox(layout=Layout(height=f"{34 * _ROWS + 22}px", grid_gap="4px"))
        move = tip(Dropdown(options=list(CAMERAS), layout=Layout(width="120px")), "Camera move")
        strength = slider(FloatSlider, "", "Strength", 170, min=0.05, max=1, step=0.05, value=0.2)

        def add() -> None:
            handle(lambda state: state.add_camera(move.value, strength.value))

        go = button("Add", "video-camera", "Fill the frame with the tracks of this move", add, 70)
        space = HTML(layout=Layout(flex="1 1 auto"))
        self.widgets = row(title("Tracks"), space, move, strength, go), self._list

    def show(self, state: PadState) -> None:
        """Follow the state; of many tracks, those around the selected one are listed."""
        tracks, picked = state.motion.tracks, state.selected
        chosen = picked.index if picked and picked.kind != "pin" else -1
        last = max(0, len(tracks) - _ROWS)
        self._first = min(max(chosen - _ROWS // 2, 0), last) if chosen >= 0 else last
        while len(self.rows) < min(_ROWS, len(tracks)):
            self.rows.append(self._row(len(self.rows)))
        self._quiet = True
        for place, parts in enumerate(self.rows[: len(tracks)]):
            index = self._first + place
            _fill(parts, index, tracks[index], index == chosen)
        self._quiet = False
        more = f"… and {last} more: grab one with Move" if last else ""
        self.note.value = "Nothing drawn yet." if state.motion.is_empty else more
        shown = (parts["row"] for parts in self.rows[: len(tracks)])
        self._list.children = (*shown, self.note)

    def _row(self, place: int) -> dict:
        def edit(change: Callable[[PadState, int], None]) -> None:
            index = self._first + place
            if not self._quiet:
                self._handle(lambda state: change(state, index))

        lock = "Lock or unlock: the tools leave a locked track alone"
        when = "When in the clip it moves; before and after it rests"
        time = slider(FloatRangeSlider, "", when, 140, min=0, max=1, step=0.05, readout=False)
        speed = Dropdown(options=list(_SPEEDS.items()), layout=Layout(width="104px"))
        parts = {
            "chip": button("", "", "Select", lambda: edit(_select), 32),
            "length": text("128px"),
            "speed": tip(speed, "How its speed changes along the path"),
            "time": time,
            "lock": button("", "unlock", lock, lambda: edit(_lock), 34),
            "delete": button("", "trash", "Delete", lambda: edit(_delete), 34),
        }
        speed.observe(lambda c: edit(lambda s, i: s.set_track(i, speed=c["new"])), "value")
        time.observe(
            lambda c: edit(lambda s, i: s.set_track(i, start=c["new"][0], end=c["new"][1])), "value"
        )
        layout = Layout(height="34px", align_items="center", grid_gap="6px", padding="1px")
        parts["row"] = HBox(list(parts.values()), layout=layout)
        return parts


def _fill(parts: dict, index: int, track: Track, chosen: bool) -> None:
    chip, colour = parts["chip"], index % len(TRACK_COLOURS)
    if chip.description != str(index + 1):
        chip.description = str(index + 1)
        chip._dom_classes = (f"mofa-chip{colour}",)
    moves = f" · {track.start:.0%}–{track.end:.0%}" if (track.start, track.end) != (0, 1) else ""
    parts["length"].value = f"{length(track):.0f} px{moves}"
    parts["speed"].value, parts["time"].value = track.speed, (track.start, track.end)
    parts["lock"].icon = "lock" if track.locked else "unlock"
    parts["delete"].disabled = track.locked
    parts["row"].layout.border = "1px solid rgba(128,128,128,.6)" if chosen else "none"


def _select(state: PadState, index: int) -> None:
    state.selected = Handle("track", index)


def _delete(state: PadState, index: int) -> None:
    state.delete("track", index)


def _lock(state: PadState, index: int) -> None:
    state.set_track(index, locked=not state.motion.tracks[index].locked)


class Settings:
    """How the clip is made, in plain words; and the buttons that make it."""

    def __init__(self, defaults: dict, num_frames: int, actions: dict[str, Callable[[], None]]):
        self.run = button("Animate", "play", "Make the clip (Ctrl+Enter)", actions["animate"], 104)
        self.run.button_style = "primary"
        self.stop = button("Stop", "stop", "End after the present step (Esc)", actions["stop"], 76)
        self.progress = IntProgress(min=0, max=1000, layout=Layout(flex="1 1 60px", height="14px"))
        self.left = text("96px")
        half = Layout(width=f"{HALF}px")
        self.seed = named(IntText(defaults.get("seed", 42), description="Seed"))
        self.seed.layout.width = f"{HALF - 80}px"
        tip(self.seed, "Another seed gives another clip of the same motion")
        steps, scale = defaults.get("steps", 25), defaults.get("control_scale", 0.6)
        about = "Steps from noise to clip: more is finer and slower"
        self.steps = slider(IntSlider, "Steps", about, min=1, max=max(50, steps), value=steps)
        about = (
            "How strictly the motion is followed: 0 lets the clip run free; with the released"
            " weights 0.6 suits tracks, and 1 may twist the picture"
        )
        self.scale = slider(FloatSlider, "Control", about, min=0, max=1.5, step=0.05, value=scale)
        about = "Length of the clip"
        self.frames = slider(IntSlider, "Frames", about, min=2, max=num_frames, value=num_frames)
        sides = _sides(defaults.get("short_side", 128), defaults.get("multiple", 32))
        self.side = named(Dropdown(options=sides, description="Size", layout=half))
        self.side.value = defaults.get("short_side", 128)
        tip(self.side, "Shorter side of the clip: other than the native one may look worse")
        roll = button("Roll", "random", "A random seed", actions["roll"], 74)
        about = "The lines that redo this without the pad"
        code = button("Code", "code", about, actions["code"], HALF // 2 - 4)
        save = button("Save", "save", "Write the motion file", actions["save"], HALF // 2 - 4)
        pairs = [
            row(self.seed, roll, width=half.width),
            row(code, save, gap="8px", width=half.width),
        ]
        self.widgets = (
            row(self.run, self.stop, self.progress, self.left),
            row(pairs[0], self.side, self.steps, self.scale, self.frames, pairs[1], gap="8px"),
        )
        self.rest()

    def rest(self) -> None:
        """Nothing is running."""
        self.run.disabled, self.stop.disabled = False, True
        self.progress.value, self.left.value = 0, ""

    def start(self) -> None:
        """A run begins."""
        self.run.disabled, self.stop.disabled, self.left.value = True, False, "starting …"

    @property
    def values(self) -> dict:
        """As keyword arguments of `animate`."""
        return {
            "num_frames": self.frames.value,
            "steps": self.steps.value,
            "seed": self.seed.value,
            "control_scale": self.scale.value,
        }


def _sides(native: int, multiple: int) -> list[tuple[str, int]]:
    others = (round(native * factor / multiple) * multiple for factor in (0.75, 1.5, 2))
    sides = sorted({native, *others})
    return [(f"{side} px" + " (native)" * (side == native), side) for side in sides]


class Header:
    """Which picture: examples, upload, or a path."""

    def __init__(self, shipped: Sequence[tuple[str, str]]):
        options = [("choose an example", ""), *shipped]
        self.examples = Dropdown(options=options, layout=Layout(width="190px"))
        self.upload = FileUpload(accept="image/*,.json", layout=Layout(width="110px"))
        tip(self.upload, "A photograph, or a motion file")
        self.path = Text(continuous_update=False, layout=Layout(width="260px"))
        self.path.placeholder = "path of a photograph or a motion file"
        self.scale = text("auto", flex="1 1 auto")
        self.widgets = (self.examples, self.upload, self.path)
        self.widget = row(*self.widgets, self.scale)
