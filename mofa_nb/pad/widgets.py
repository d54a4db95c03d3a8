"""The widgets around the stage. `edit` applies a function of the state; `app` wires the rest."""

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
    IntSlider,
    Layout,
    Text,
    VBox,
)

from mofa_nb.motion.camera import CAMERAS
from mofa_nb.motion.formats import TRACK_FILES
from mofa_nb.motion.motion import Track
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Handle, curve
from mofa_nb.pad.style import button, row, slider, text, tip, title, watch
from mofa_nb.show.drawing import MOST_DRAWN, TRACK_COLOURS, drawn_numbers

_TOOLS = {
    "Track": ("pencil", "Drag a path, or click point by point and press Enter (T)", 76),
    "Pin": ("map-pin", "Click what must stay where it is (P)", 60),
    "Select": (
        "magic",
        "Click a thing to brush it; click on it again where that is too much (S)",
        82,
    ),
    "Brush": ("paint-brush", "Paint what may move; tracks act inside it (B)", 76),
    "Erase": ("eraser", "Take paint away (E)", 76),
    "Move": ("arrows", "Drag a control point, a whole track or a pin (M)", 76),
}
_EDITS = {
    "Undo": ("", PadState.undo, "undo", "Take back (Ctrl+Z)"),
    "Redo": ("", PadState.redo, "repeat", "Do again (Ctrl+Shift+Z)"),
    "Delete": ("Delete", PadState.delete_selected, "trash", "Delete what is selected (Del)"),
    "Clear": ("Clear", PadState.clear, "times", "Delete everything but locked tracks"),
}
_SPEEDS = {
    "Steady": "linear",
    "Ease in": "ease_in",
    "Ease out": "ease_out",
    "Ease both": "ease",
    "Hold": "hold",
}
# What is taken from a film: its name on the pad, and the options of `film_motion`.
FILMS = {
    "Film: 64 points": {},
    "Film: 24 corners": {"points": 24, "at": "corners"},
    "Film: its camera": {"points": 20, "camera": True},
}
_ROWS = 4  # tracks listed at a time


class Toolbar:
    """Tools, and the buttons that act at once.

    Args:
        face: the button that lets the face move.
    """

    def __init__(self, edit: Callable, face: Button):
        self._tools = {
            name.lower(): button(
                name, icon, about, partial(edit, partial(PadState.use, tool=name.lower())), width
            )
            for name, (icon, about, width) in _TOOLS.items()
        }
        self.edits = {
            name: button(words, icon, about, partial(edit, change), 80 if words else 38)
            for name, (words, change, icon, about) in _EDITS.items()
        }
        about = "End a track set click by click (Enter)"
        self._done = button("Done", "check", about, partial(edit, PadState.finish), 76)
        about = "Radius of the brush ([ and ], or the wheel)"
        self.radius = slider(IntSlider, "Size", about, 156, min=1, max=256, continuous_update=True)
        self.radius.style.description_width = "32px"
        spot = Box([self.radius, self._done], layout=Layout(width="156px", height="30px"))
        tools, edits = (row(*group.values(), gap="2px") for group in (self._tools, self.edits))
        self.widget = row(tools, face, edits, spot, gap="6px 10px")

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

    def __init__(self, edit: Callable):
        self._edit, self._first = edit, 0
        self.rows: list[dict] = []
        self.note = text()
        self.list = VBox(layout=Layout(height=f"{34 * _ROWS + 22}px", grid_gap="4px"))
        moves = [(name.replace("_", " ").capitalize(), name) for name in CAMERAS]
        move = tip(Dropdown(options=moves, layout=Layout(width="120px")), "Camera move")
        strength = slider(FloatSlider, "", "Strength", 170, min=0.05, max=1, step=0.05, value=0.2)
        go = button(
            "Add", "video-camera", "Fill the frame with the tracks of this move",
            lambda: edit(lambda state: state.add_camera(move.value, strength.value)), 70,
        )  # fmt: skip
        space = HTML(layout=Layout(flex="1 1 auto"))
        self.widgets = row(title("Tracks"), space, move, strength, go), self.list

    def show(self, state: PadState) -> None:
        """Follow the state; of many tracks, those around the selected one are listed."""
        tracks, picked = state.motion.tracks, state.selected
        chosen = picked.index if picked and picked.kind != "pin" else -1
        last = max(0, len(tracks) - _ROWS)
        self._first = min(max(chosen - _ROWS // 2, 0), last) if chosen >= 0 else last
        while len(self.rows) < min(_ROWS, len(tracks)):
            self.rows.append(self._row(len(self.rows)))
        for place, parts in enumerate(self.rows[: len(tracks)]):
            index = self._first + place
            _fill(parts, index, tracks[index], index == chosen)
        more = f"… and {last} more: grab one with Move" if last else ""
        if len(tracks) > MOST_DRAWN:
            more += f"; {len(drawn_numbers(len(tracks)))} of {len(tracks)} are drawn"
        self.note.value = "Nothing drawn yet." if state.motion.is_empty else more
        shown = (parts["row"] for parts in self.rows[: len(tracks)])
        self.list.children = (*shown, self.note)

    def _row(self, place: int) -> dict:
        def edit(change: Callable[[PadState, int], None]) -> None:
            index = self._first + place
            self._edit(lambda state: change(state, index))

        lock = "Lock or unlock: the tools leave a locked track alone"
        front, back = "To front: it covers what other tracks move", "To back: they cover it"
        when = "When in the clip it moves; before and after it rests"
        time = slider(FloatRangeSlider, "", when, 112, min=0, max=1, step=0.05, readout=False)
        speed = Dropdown(options=list(_SPEEDS.items()), layout=Layout(width="96px"))
        parts = {
            "chip": button("", "", "Select", lambda: edit(_select), 32),
            "length": text("84px"),
            "speed": tip(speed, "How its speed changes along the path"),
            "time": time,
            "front": button(
                "",
                "level-up",
                front,
                lambda: edit(partial(PadState.move_in_depth, behind=False)),
                32,
            ),
            "back": button(
                "",
                "level-down",
                back,
                lambda: edit(partial(PadState.move_in_depth, behind=True)),
                32,
            ),
            "lock": button("", "unlock", lock, lambda: edit(_lock), 34),
            "delete": button(
                "", "trash", "Delete", lambda: edit(lambda s, i: s.delete("track", i)), 34
            ),
        }
        watch(speed, lambda new: edit(lambda s, i: s.set_track(i, speed=new)))
        watch(time, lambda new: edit(lambda s, i: s.set_track(i, start=new[0], end=new[1])))
        layout = Layout(height="34px", align_items="center", grid_gap="4px", padding="1px")
        parts["row"] = HBox(list(parts.values()), layout=layout)
        return parts


def _fill(parts: dict, index: int, track: Track, chosen: bool) -> None:
    chip, colour = parts["chip"], index % len(TRACK_COLOURS)
    if chip.description != str(index + 1):
        chip.description = str(index + 1)
        chip._dom_classes = (f"mofa-chip{colour}",)
    moves = (
        f" · {100 * track.start:.0f}–{track.end:.0%}" if (track.start, track.end) != (0, 1) else ""
    )
    parts["length"].value = f"{np.hypot(*np.diff(curve(track), axis=0).T).sum():.0f} px{moves}"
    parts["speed"].value, parts["time"].value = track.speed, (track.start, track.end)
    parts["lock"].icon = "lock" if track.locked else "unlock"
    depth = track.depth or 0
    parts["front"].button_style = "info" if depth < 0 else ""
    parts["back"].button_style = "info" if depth > 0 else ""
    parts["delete"].disabled = track.locked
    parts["row"].layout.border = "1px solid rgba(128,128,128,.6)" if chosen else "none"


def _select(state: PadState, index: int) -> None:
    state.selected = Handle("track", index)


def _lock(state: PadState, index: int) -> None:
    state.set_track(index, locked=not state.motion.tracks[index].locked)


class Header:
    """Which picture: examples, upload, or a path."""

    def __init__(self, shipped: Sequence[tuple[str, str]]):
        options = [("choose an example", ""), *shipped]
        self.examples = Dropdown(options=options, layout=Layout(width="190px"))
        kinds = ",".join(("image/*", "video/*", *TRACK_FILES))
        self.upload = FileUpload(accept=kinds, layout=Layout(width="110px"))
        tip(self.upload, "A photograph, a motion file of ours or another tool's, or a film")
        self.path = Text(continuous_update=False, layout=Layout(width="260px"))
        self.path.placeholder = "path of a photograph, motion or film"
        self.film = Dropdown(options=list(FILMS), layout=Layout(width="150px"))
        tip(self.film, "What is taken from a film that is opened")
        self.scale = text("auto", flex="1 1 auto")
        self.widgets = (self.examples, self.upload, self.path, self.film)
        self.widget = row(*self.widgets, self.scale)
