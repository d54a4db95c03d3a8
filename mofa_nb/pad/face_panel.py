"""The pad's face panel: what the face follows, how strongly, and where its motion counts."""

import html
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import ipywidgets as w

from mofa_nb.checks import as_number
from mofa_nb.motion.face import LIMITS, STRONGEST, Expression, FaceSource
from mofa_nb.pad.picture import kept_upload, uploaded
from mofa_nb.pad.state import PadState
from mofa_nb.pad.style import HALF, button, column, field, row, text, title, watch

_SLIDERS = {
    "mouth": "Opens the mouth",
    "smile": "Smiles; to the left, the corners go down",
    "brows": "Raises the brows; to the left, draws them together",
    "eyelids": "Closes the eyes; to the left, opens them wide",
    "yaw": "Turns the nose to the picture's right, degrees",
    "pitch": "Lifts the nose, degrees",
    "roll": "Tilts the head's top to the picture's right, degrees",
}
_PART = {
    "begin": ("From", "Seconds of the file that are left out", "0"),
    "end": ("To", "Second of the file where the part to follow ends", "end"),
}
_VOICES = [("by its sounds", "preset"), ("by AniPortrait", "aniportrait"), ("auto", "auto")]
_MASKS = {
    "brush": ("Motion", "Brush and Erase work on the area that tracks may move"),
    "mask": ("Face mask", "Brush and Erase work on the area that the face's motion moves"),
}


class FacePanel:
    """Shown while the motion has a face. folder: where files sent by the browser are kept;
    obstacle: why this model cannot drive a face, or ""."""

    def __init__(self, edit: Callable, folder: Path, obstacle: str):
        self._edit, self._face = edit, FaceSource(expression=Expression())
        about = obstacle or "Move the face by hand, by a video, a voice or landmarks (F)"
        self.toggle = button("Face", "smile-o", about, partial(edit, self.switch), 72)
        self.toggle.disabled = bool(obstacle)
        modes = {"options": ["By hand", "By a file"], "act": self._choose_mode}
        self.mode = field(w.Dropdown, "", "What the face follows", 112, **modes)
        about = "Which face of the picture: 1 is the largest"
        self.person = field(w.BoundedIntText, "Person", about, 116, min=1, max=20, value=1)
        watch(self.person, lambda number: self._change(choose=number - 1))
        self.part = {}
        for name, (words, about, usual) in _PART.items():
            second = field(w.Text, words, about, 88, partial(self._cut, name), placeholder=usual)
            second.style.description_width = "initial"
            self.part[name] = second
        about, flexible = "path of a video, a sound or landmarks.npy", w.Layout(flex="1 1 auto")
        self.path = w.Text(continuous_update=False, placeholder=about, layout=flexible)
        watch(self.path, lambda path: path.strip() and self._follow(path.strip()))
        self.upload = field(w.FileUpload, "Upload", "", 112, accept="video/*,audio/*,.npy")
        watch(self.upload, lambda sent: sent and edit(lambda s: self._keep(s, sent, folder)))
        about = "What a voice moves the face by; AniPortrait's networks are files of your own"
        self.voice = field(w.Dropdown, "Voice", about, 196, options=_VOICES)
        watch(self.voice, lambda voice: self._face.speaks and self._change(voice=voice))
        self.sliders = {name: self._slider(name, about) for name, about in _SLIDERS.items()}
        self.strengths = {}
        for name in ("pose", "mouth", "eyes", "brows"):
            about = f"How much of the {name}'s motion is taken over"
            span = {"min": 0, "max": STRONGEST, "step": 0.05, "value": 1}
            act = partial(self._strengthen, name)
            self.strengths[name] = field(w.FloatSlider, name.capitalize(), about, act=act, **span)
        relax = partial(self._follow, Expression())
        self.neutral = button("Neutral", "undo", "All to zero", relax, HALF)
        about = "Make the clip as long as what drives the face"
        self.whole = field(w.Button, "", about, HALF, icon="arrows-h")
        self.paint = {
            name: button(words, "", about, partial(edit, partial(_paint, name=name)), 92)
            for name, (words, about) in _MASKS.items()
        }
        about = "Take the mask around the face that was proposed"
        reset = partial(edit, partial(PadState.change, mask=None))
        self.reset = button("Reset mask", "refresh", about, reset, 124)
        self.note = text()
        self.say(None, ())
        self.widget = self._arranged()

    def _arranged(self) -> w.Box:
        head = row(title("Face"), self.mode, self.person, *self.part.values())
        grid = {"gap": "4px 8px", "align_content": "flex-start"}
        self.by_hand = row(*self.sliders.values(), self.neutral, **grid)
        file = row(self.path, self.upload, width="100%", flex_flow="row nowrap")
        self.by_file = row(file, *self.strengths.values(), self.voice, self.whole, **grid)
        self._show_mode(self.mode.value)
        modes = w.Box([self.by_hand, self.by_file], layout=w.Layout(height="126px"))
        for name, widget in self.paint.items():
            widget.add_class(f"mofa-{name}")
        label = text("84px", value="Brush paints")
        result = column(head, modes, row(label, *self.paint.values(), self.reset), self.note)
        result.add_class("mofa-face")
        result.layout.display = "none"
        return result

    def _slider(self, name: str, about: str) -> w.FloatSlider:
        low, high = LIMITS[name]
        step, digits = (1, ".0f") if high > 1 else (0.05, ".2f")
        how = {"min": low, "max": high, "step": step, "value": 0, "readout_format": digits}
        how |= {"continuous_update": True, "act": partial(self._express, name)}
        return field(w.FloatSlider, name.capitalize(), about, **how)

    def switch(self, state: PadState) -> None:
        if not self.toggle.disabled:
            state.set_face(self._face if state.motion.face is None else None)

    def show(self, state: PadState) -> None:
        face = state.motion.face
        self.toggle.button_style = "" if face is None else "info"
        self.widget.layout.display = "none" if face is None else "flex"
        for name, widget in self.paint.items():
            widget.button_style = "info" if name == state.mask else ""
        self.reset.disabled = state.motion.mask is None
        if face is None or face == self._face:
            return
        self._face = face
        self.mode.value = "By hand" if face.source is None else "By a file"
        self._show_mode(self.mode.value)
        self.person.value = face.choose + 1
        self.voice.value, self.voice.disabled = face.voice, not face.speaks
        self.path.value = face.source or self.path.value
        for name, widget in self.part.items():
            second = getattr(face, name)
            widget.value = f"{second:g}" if second else ""
        for name, widget in self.sliders.items():
            widget.value = getattr(face.expression, name, widget.value)
        for name, widget in self.strengths.items():
            widget.value = getattr(face.strengths, name)

    def _show_mode(self, mode: str) -> None:
        by_hand = mode == "By hand"
        self.by_hand.layout.display = "flex" if by_hand else "none"
        self.by_file.layout.display = "none" if by_hand else "flex"
        for widget in self.part.values():
            widget.layout.visibility = "hidden" if by_hand else "visible"

    def _choose_mode(self, mode: str) -> None:
        self._show_mode(mode)
        if mode == "By hand":
            self._follow(Expression(**{name: each.value for name, each in self.sliders.items()}))
        elif self.path.value.strip():
            self._follow(self.path.value.strip())

    def _follow(self, what: str | Path | Expression, series: str = "") -> None:
        self._edit(lambda state: state.set_face(self._face.following(what), series))

    def _keep(self, state: PadState, sent: object, folder: Path) -> None:
        state.set_face(self._face.following(kept_upload(*uploaded(sent), folder)))

    def _express(self, name: str, value: float) -> None:
        self._follow(replace(self._face.expression or Expression(), **{name: value}), name)

    def _cut(self, name: str, words: str) -> None:
        self._change(**{name: as_number(words) if words.strip() else getattr(FaceSource, name)})

    def _strengthen(self, name: str, value: float) -> None:
        self._change(strengths=replace(self._face.strengths, **{name: value}))

    def _change(self, **changes) -> None:
        self._edit(lambda state: state.set_face(replace(self._face, **changes)))

    def say(self, length: int | None, notes: tuple[str, ...]) -> None:
        """How many frames the driving file lasts, and what is worth knowing; from any thread."""
        self.length, self.whole.disabled = length, length is None
        self.whole.description = f"Whole length: {length} frames" if length else "Whole length"
        words = html.escape(" · ".join(notes))
        self.note.value = words or "The white lines show where the face goes."


def _paint(state: PadState, name: str) -> None:
    state.paint_mask(name)
    if state.tool not in ("brush", "erase"):
        state.use("brush")
