"""The widgets around the stage. `edit` applies a function of the state; `app` wires the rest."""

import html
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import ipywidgets as w
import numpy as np

from mofa_nb.faces.drive import FPS
from mofa_nb.media.sound import clip_bytes
from mofa_nb.media.video import write_clip
from mofa_nb.motion.camera import CAMERAS
from mofa_nb.motion.fit import plan_fit
from mofa_nb.motion.formats import TRACK_FILES
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.motion.rates import long_note
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Handle, curve
from mofa_nb.pad.style import HALF, button, field, row, text, title, watch
from mofa_nb.pipeline.outputs import new_folder, write_files
from mofa_nb.pipeline.settings import RULES
from mofa_nb.show.drawing import MOST_DRAWN, TRACK_COLOURS, drawn_numbers
from mofa_nb.show.players import Played, players

_THING = "Click a thing to brush it; click on it again where that is too much (S)"
_TOOLS = {
    "track": ("pencil", "Drag a path, or click point by point and press Enter (T)", 76),
    "pin": ("map-pin", "Click what must stay where it is (P)", 60),
    "select": ("magic", _THING, 82),
    "brush": ("paint-brush", "Paint what may move; tracks act inside it (B)", 76),
    "erase": ("eraser", "Take paint away (E)", 76),
    "move": ("arrows", "Drag a control point, a whole track or a pin (M)", 76),
}
_EDITS = {
    "Undo": ("", "undo", "Take back (Ctrl+Z)", PadState.undo),
    "Redo": ("", "repeat", "Do again (Ctrl+Shift+Z)", PadState.redo),
    "Delete": ("Delete", "trash", "Delete what is selected (Del)", PadState.delete_selected),
    "Clear": ("Clear", "times", "Delete everything but locked tracks", PadState.clear),
}
_SPEEDS = [("Steady", "linear"), ("Ease in", "ease_in"), ("Ease out", "ease_out")]
_SPEEDS += [("Ease both", "ease"), ("Hold", "hold")]
# What is taken from a film: its name on the pad, and the options of `film_motion`.
FILMS = {
    "Film: 64 points": {},
    "Film: 24 corners": {"points": 24, "at": "corners"},
    "Film: its camera": {"points": 20, "camera": True},
}
_ROWS = 4  # tracks listed at a time
_AFTER = {"stop": "stop", "go on": "continue", "spread out softly": "ease"}
_AFTER |= {"spread out evenly": "stretch", "go to and fro": "loop", "end where they began": "close"}
_ABOUT_SIDE = "Shorter side of the clip: larger is slower; the mini model is finer then"
Actions = dict[str, Callable]
_CARD = 318  # width of a clip on the screen, pixels
_ACTIONS = (
    ("show", "", "eye", "Show it on the pad"),
    ("reuse", "Reuse", "pencil", "Load these tracks again"),
    ("save", "", "save", "Write mp4, WebP, flow, motion file and card"),
    ("code", "", "code", "The lines that redo it"),
)


class Toolbar:
    """Tools, among them the button that lets the face move, and the buttons that act at once."""

    def __init__(self, edit: Callable, face: w.Button):
        self._tools = {
            name: button(name.capitalize(), icon, about, partial(edit, act), width)
            for name, (icon, about, width) in _TOOLS.items()
            for act in [partial(PadState.use, tool=name)]
        }
        self.edits = {
            name: button(words, icon, about, partial(edit, change), 80 if words else 38)
            for name, (words, icon, about, change) in _EDITS.items()
        }
        about = "End a track set click by click (Enter)"
        self._done = button("Done", "check", about, partial(edit, PadState.finish), 76)
        about, values = "Radius of the brush ([ and ], or the wheel)", {"min": 1, "max": 256}
        self.radius = field(w.IntSlider, "Size", about, 156, continuous_update=True, **values)
        self.radius.style.description_width = "32px"
        watch(self.radius, lambda radius: edit(lambda s: s.resize_brush(radius * s.unit)))
        spot = w.Box([self.radius, self._done], layout=w.Layout(width="156px", height="30px"))
        tools, edits = (row(*group.values(), gap="2px") for group in (self._tools, self.edits))
        self.widget = row(tools, face, edits, spot, gap="6px 10px")

    def show(self, state: PadState) -> None:
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
        self.list = w.VBox(layout=w.Layout(height=f"{34 * _ROWS + 22}px", grid_gap="4px"))
        moves = [(name.replace("_", " ").capitalize(), name) for name in CAMERAS]
        self._move = field(w.Dropdown, "", "Camera move", 120, options=moves)
        values = {"min": 0.05, "max": 1, "step": 0.05, "value": 0.2}
        self._strength = field(w.FloatSlider, "", "Strength", 170, **values)
        fill = partial(edit, lambda state: state.add_camera(self._move.value, self._strength.value))
        about = "Fill the frame with the tracks of this move"
        add = button("Add", "video-camera", about, fill, 70)
        space = w.HTML(layout=w.Layout(flex="1 1 auto"))
        self.widgets = row(title("Tracks"), space, self._move, self._strength, add), self.list

    def show(self, state: PadState) -> None:
        """Follow the state; of many tracks, those around the selected one are listed."""
        tracks, selected = state.motion.tracks, state.chosen_track
        last = max(0, len(tracks) - _ROWS)
        self._first = last if selected is None else min(max(selected - _ROWS // 2, 0), last)
        while len(self.rows) < min(_ROWS, len(tracks)):
            self.rows.append(self._row(len(self.rows)))
        shown = self.rows[: len(tracks)]
        for index, parts in enumerate(shown, start=self._first):
            _fill(parts, index, tracks[index], index == selected)
        more = f"… and {last} more: grab one with Move" if last else ""
        if len(tracks) > MOST_DRAWN:
            more += f"; {len(drawn_numbers(len(tracks)))} of {len(tracks)} are drawn"
        self.note.value = "Nothing drawn yet." if state.motion.is_empty else more
        self.list.children = (*(parts["row"] for parts in shown), self.note)

    def _row(self, place: int) -> dict:
        def act(change: Callable[[PadState, int], None]) -> None:
            index = self._first + place
            self._edit(lambda state: change(state, index))

        def press(icon: str, about: str, width: int, change: Callable) -> w.Button:
            return button("", icon, about, partial(act, change), width)

        def select(state: PadState, index: int) -> None:
            state.selected = Handle("track", index)

        def lock(state: PadState, index: int) -> None:
            state.set_track(index, locked=not state.motion.tracks[index].locked)

        speed = {"act": lambda new: act(lambda s, i: s.set_track(i, speed=new))}
        span = {"min": 0, "max": 1, "step": 0.05, "readout": False}
        span["act"] = lambda new: act(lambda s, i: s.set_track(i, start=new[0], end=new[1]))
        about = "How its speed changes along the path"
        when = "When in the clip it moves; before and after it rests"
        front, back = (partial(PadState.move_in_depth, behind=behind) for behind in (False, True))
        alone = "Lock or unlock: the tools leave a locked track alone"
        parts = {
            "chip": press("", "Select", 32, select),
            "length": text("84px"),
            "speed": field(w.Dropdown, "", about, 96, options=_SPEEDS, **speed),
            "time": field(w.FloatRangeSlider, "", when, 112, **span),
            "front": press("level-up", "To front: it covers what other tracks move", 32, front),
            "back": press("level-down", "To back: they cover it", 32, back),
            "lock": press("unlock", alone, 34, lock),
            "delete": press("trash", "Delete", 34, lambda s, i: s.delete("track", i)),
        }
        layout = {"height": "34px", "padding": "1px", "flex_flow": "row"}
        parts["row"] = row(*parts.values(), gap="4px", **layout)
        return parts


def _fill(parts: dict, index: int, track: Track, selected: bool) -> None:
    chip = parts["chip"]
    if chip.description != str(index + 1):
        chip.description = str(index + 1)
        chip._dom_classes = (f"mofa-chip{index % len(TRACK_COLOURS)}",)
    length = f"{np.hypot(*np.diff(curve(track), axis=0).T).sum():.0f} px"
    moves = f" · {100 * track.start:.0f}–{track.end:.0%}"
    parts["length"].value = length + moves * ((track.start, track.end) != (0, 1))
    parts["speed"].value, parts["time"].value = track.speed, (track.start, track.end)
    parts["lock"].icon = "lock" if track.locked else "unlock"
    depth = track.depth or 0
    parts["front"].button_style = "info" if depth < 0 else ""
    parts["back"].button_style = "info" if depth > 0 else ""
    parts["delete"].disabled = track.locked
    parts["row"].layout.border = "1px solid rgba(128,128,128,.6)" if selected else "none"


class Header:
    def __init__(self, shipped: Sequence[tuple[str, str]]):
        options = [("choose an example", ""), *shipped]
        self.examples = field(w.Dropdown, "", "", 190, options=options)
        about = "A photograph, a motion file of ours or another tool's, or a film"
        kinds = ",".join(("image/*", "video/*", *TRACK_FILES))
        self.upload = field(w.FileUpload, "Upload", about, 110, accept=kinds)
        about = "path of a photograph, motion or film"
        self.path = field(w.Text, "", "", 260, placeholder=about)
        about = "What is taken from a film that is opened"
        self.film = field(w.Dropdown, "", about, 150, options=list(FILMS))
        self.scale = text("auto", flex="1 1 auto")
        self.widgets = (self.examples, self.upload, self.path, self.film)
        self.widget = row(*self.widgets, self.scale)


def about(name: str) -> str:
    """What a setting is about, as on the command line, as a sentence."""
    words = RULES[name].metadata["about"]
    return words[0].upper() + words[1:]


def slider(name: str, value: float) -> dict[str, float]:
    low, most = RULES[name].metadata["slider"]
    return {"min": low, "max": max(most, value), "value": value}


class SettingsPanel:
    """How the clip is made, in plain words, and the buttons for the actions "animate", "stop",
    "code" and "save"."""

    def __init__(self, edit: Callable, defaults: dict, num_frames: int, actions: Actions):
        self._defaults, self._native, self._picture = defaults, num_frames, (3, 2)
        self._fps, steps, side = (defaults[name] for name in ("fps", "steps", "short_side"))
        self.run = button("Animate", "play", "Make the clip (Ctrl+Enter)", actions["animate"], 104)
        self.run.button_style = "primary"
        self.stop = button("Stop", "stop", "End after the present step (Esc)", actions["stop"], 76)
        layout = w.Layout(flex="1 1 60px", height="14px")
        self.progress = w.IntProgress(min=0, max=1000, layout=layout)
        self.left, self.long = text("96px"), text(height="40px", display="none")
        self.seed = field(w.IntText, "Seed", about("seed"), HALF - 80, value=defaults["seed"])
        self.steps = field(w.IntSlider, "Steps", about("steps"), **slider("steps", steps))
        self.trajectory_scale, self.landmark_scale = (
            field(w.FloatSlider, words, about(name), step=0.05, **slider(name, defaults[name]))
            for words, name in (("Tracks", "trajectory_scale"), ("Face", "landmark_scale"))
        )
        values = slider("num_frames", num_frames)
        words = f"{about('num_frames')}: the model's own is {num_frames}; longer ones take longer"
        self.frames = field(w.BoundedIntText, "Frames", words, HALF - 94, **values)
        values |= {"value": round(num_frames / self._fps, 2), "min": 0, "step": 0.1}
        self.seconds = field(w.BoundedFloatText, "", "The same in seconds", 68, **values)
        multiple = defaults["multiple"]
        sides = sorted({side, *(round(side * k / multiple) * multiple for k in (0.75, 1.5, 2))})
        values = {"options": [(f"{s} px" + " (native)" * (s == side), s) for s in sides]}
        self.side = field(w.Dropdown, "Size", _ABOUT_SIDE, value=side, **values)
        values = [(f"Tracks {words}", after) for words, after in _AFTER.items()]
        words = f"What tracks do in a clip of more than {num_frames} frames"
        self.after = field(w.Dropdown, "After", words, options=values)
        watch(self.after, lambda after: edit(lambda state: state.change(after=after)))
        watch(self.frames, lambda _: self._count_seconds())
        watch(self.seconds, lambda s: setattr(self.frames, "value", max(2, round(s * self._fps))))
        for widget in (self.frames, self.steps, self.side):
            watch(widget, lambda _: self._tell_long())
        head = row(self.run, self.stop, self.progress, self.left)
        self.widgets = head, self.long, self._grid(actions)
        self.show_busy(False)

    def _grid(self, actions: Actions):
        roll = button("Roll", "random", "A random seed", self._roll, 74)
        half, width = {"width": f"{HALF}px"}, HALF // 2 - 4
        about = "The lines that redo this without the pad"
        code = button("Code", "code", about, actions["code"], width)
        save = button("Save", "save", "Write the motion file", actions["save"], width)
        unit = text("14px", value="s")
        length = row(self.frames, self.seconds, unit, flex_flow="row nowrap", **half)
        fields = [row(self.seed, roll, **half), self.side, self.steps, length]
        fields += [self.trajectory_scale, self.landmark_scale, self.after]
        return row(*fields, row(code, save, gap="8px", **half), gap="8px")

    def _roll(self) -> None:
        self.seed.value = random.randrange(10_000)

    def show(self, state: PadState) -> None:
        self.after.value, self._picture = state.motion.after, state.motion.size
        still, own = state.motion.face is None, self._defaults["fps"]
        self.landmark_scale.disabled, self._fps = still, own if still else max(own, FPS)
        self._count_seconds()
        self._tell_long()

    def _count_seconds(self) -> None:
        self.seconds.value = round(self.frames.value / self._fps, 2)

    def _tell_long(self) -> None:
        """About how long a clip takes that is much more work than the model's own."""
        own, still = self._defaults, self.landmark_scale.disabled
        side = own["short_side"] if still else own.get("face_short_side", own["short_side"])
        fit = plan_fit(self._picture, own["multiple"], short_side=self.side.value)
        usual = side, self._native, own["steps"]
        words = long_note(fit.size, self.frames.value, self.steps.value, usual)
        self.long.value = f'<div class="warn" style="white-space:normal">{words}</div>'
        self.long.layout.display = "" if words else "none"

    def show_busy(self, busy: bool) -> None:
        self.run.disabled = self.side.disabled = busy
        self.stop.disabled = not busy
        self.progress.value, self.left.value = 0, "starting …" if busy else ""

    @property
    def values(self) -> dict:
        """As keyword arguments of `animate`."""
        names = ("steps", "seed", "trajectory_scale", "landmark_scale")
        active = names[:3] if self.landmark_scale.disabled else names
        values = {name: getattr(self, name).value for name in active}
        return {"num_frames": self.frames.value} | values


class Gallery:
    """Cards of clips, newest first, and above them those that are compared; `actions` by name are
    what a card's buttons do with its clip."""

    def __init__(self, actions: Actions):
        self._actions, self._compared = actions, []
        self.cards = row(gap="10px", align_items="flex-start")
        hidden = {"width": "100%", "display": "none"}
        self.code, self.players = (w.HTML(layout=w.Layout(**hidden)) for _ in range(2))
        clips = [title("Clips"), self.players, self.cards]
        self._clips = w.VBox(clips, layout=w.Layout(display="none"))
        self.widget = w.VBox([self.code, self._clips])

    def show_code(self, code: str) -> None:
        copy = '<button class="jupyter-button widget-button" style="width:80px" onclick='
        copy += '"navigator.clipboard.writeText(this.nextElementSibling.textContent);'
        copy += "this.textContent='Copied'\">Copy</button>"
        self.code.value = f'<div class="mofa-code">{copy}<pre>{html.escape(code)}</pre></div>'
        self.code.layout.display = "flex"

    def add(self, clip, number: int) -> None:
        """Show one more clip: an endless picture, or with a sound a video to be started."""
        fps, layout = clip.settings["fps"], w.Layout(width="100%")
        show, kind = (w.Image, "webp") if clip.sound is None else (w.Video, "mp4")
        data = clip_bytes(clip.frames, fps, kind, clip.sound)
        moving = show(value=data, format=kind, layout=layout)
        if clip.sound is not None:
            moving.autoplay = False
        words = html.escape(clip_text(clip))
        caption = text(value=f'<span title="{words}"><b>{number}</b> · {words}</span>')
        played = Played(f"clip {number}", clip.frames, fps, clip.flow, clip.sound)
        about = "Frame by frame, before and after, with the flow; beside others so marked"
        act = partial(self._actions["compare"], played)
        compare = field(w.ToggleButton, "Compare", about, 102, act, icon="columns")
        buttons = [
            button(words, icon, about, partial(self._actions[name], clip), 82 if words else 38)
            for name, words, icon, about in _ACTIONS
        ]
        line = row(compare, *buttons, gap="2px", flex_flow="row nowrap")
        layout = w.Layout(width=f"{_CARD}px", grid_gap="4px")
        card = w.VBox([moving, caption, line], layout=layout)
        card.add_class("mofa-card")
        self.cards.children = (card, *self.cards.children)
        self._clips.layout.display = "flex"

    def compare(self, clip: Played, wanted: bool) -> None:
        self._compared = [c for c in self._compared if c is not clip] + [clip] * wanted
        self.players.layout.display = "flex" if self._compared else "none"
        self.players.value = players(self._compared, clip.frames[0]) if self._compared else ""


def clip_text(clip) -> str:
    settings = clip.settings
    steps = settings["steps"]
    words = [str(clip.model), f"seed {settings['seed']}", f"{steps} step{'s' * (steps != 1)}"]
    scales = {"tracks": "trajectory_scale", "face": "landmark_scale"}
    words += [f"{what} {settings[key]:g}" for what, key in scales.items() if key in settings]
    return " · ".join(words)


def code_text(picture: str, motion: Motion, model: str, settings: dict) -> str:
    """The Python that makes the same clip without the pad."""
    options = "".join(f", {key}={value!r}" for key, value in settings.items())
    return (
        "from mofa_nb.animate import animate\n"
        "from mofa_nb.motion import Motion\n\n"
        f"motion = Motion.from_json({motion.to_json()!r})\n"
        f"clip = animate({picture!r}, motion, model={model!r}{options})"
    )


def save_clip(clip, folder: Path) -> None:
    """clip.mp4 and .webp, filmstrip.png, flow.png and .npy, motion.json, card.json."""
    with new_folder(folder) as partial:
        write_files(clip, partial, called=folder)
        write_clip(partial / "clip.webp", clip.frames, clip.settings["fps"])
        clip.motion.save(partial / "motion.json")
        np.save(partial / "flow.npy", np.asarray(clip.flow, np.float32))
