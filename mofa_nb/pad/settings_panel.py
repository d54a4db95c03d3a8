"""The pad's settings: how the clip is made, in plain words; and the buttons that make it."""

import random
from collections.abc import Callable

import ipywidgets as w

from mofa_nb.faces.drive import FPS
from mofa_nb.motion.fit import plan_fit
from mofa_nb.motion.rates import long_note
from mofa_nb.pad.state import PadState
from mofa_nb.pad.style import HALF, button, field, row, text, watch

_AFTER = {"stop": "stop", "go on": "continue", "spread out softly": "ease"}
_AFTER |= {"spread out evenly": "stretch", "go to and fro": "loop", "end where they began": "close"}
_LONGEST = 1000  # frames of a clip
_SCALE = {"min": 0, "max": 1.5, "step": 0.05}
_ABOUT = {
    "seed": "Another seed gives another clip of the same motion",
    "steps": "Steps from noise to clip: more is finer and slower",
    "trajectory_scale": "How strictly tracks are followed: 0 lets the clip run free; with the"
    " released weights 0.6 suits tracks, and 1 may twist the picture",
    "landmark_scale": "How strictly the face's motion is followed; with the released weights 1"
    " suits it",
    "frames": "Length of the clip: the model's own is {} frames; longer ones take longer",
    "side": "Shorter side of the clip: larger is slower; the mini model is finer then",
    "after": "What tracks do in a clip of more than {} frames",
}


class SettingsPanel:
    """What is asked for besides the motion; of the actions "animate", "stop", "code" and "save"."""

    def __init__(
        self, edit: Callable, defaults: dict, num_frames: int, actions: dict[str, Callable]
    ):
        self._defaults, self._native, self._picture = defaults, num_frames, (3, 2)
        self._fps, steps, side = (defaults[name] for name in ("fps", "steps", "short_side"))
        self.run = button("Animate", "play", "Make the clip (Ctrl+Enter)", actions["animate"], 104)
        self.run.button_style = "primary"
        self.stop = button("Stop", "stop", "End after the present step (Esc)", actions["stop"], 76)
        layout = w.Layout(flex="1 1 60px", height="14px")
        self.progress = w.IntProgress(min=0, max=1000, layout=layout)
        self.left, self.long = text("96px"), text(height="40px", display="none")
        self.seed = field(w.IntText, "Seed", _ABOUT["seed"], HALF - 80, value=defaults["seed"])
        values = {"min": 1, "max": max(50, steps), "value": steps}
        self.steps = field(w.IntSlider, "Steps", _ABOUT["steps"], **values)
        self.trajectory_scale, self.landmark_scale = (
            field(w.FloatSlider, words, _ABOUT[name], value=defaults[name], **_SCALE)
            for words, name in (("Tracks", "trajectory_scale"), ("Face", "landmark_scale"))
        )
        values = {"value": num_frames, "min": 2, "max": _LONGEST}
        about = _ABOUT["frames"].format(num_frames)
        self.frames = field(w.BoundedIntText, "Frames", about, HALF - 94, **values)
        values = {"value": round(num_frames / self._fps, 2), "min": 0, "max": _LONGEST, "step": 0.1}
        self.seconds = field(w.BoundedFloatText, "", "The same in seconds", 68, **values)
        values = {"options": _sides(side, defaults["multiple"]), "value": side}
        self.side = field(w.Dropdown, "Size", _ABOUT["side"], **values)
        values = [(f"Tracks {words}", after) for words, after in _AFTER.items()]
        about = _ABOUT["after"].format(num_frames)
        self.after = field(w.Dropdown, "After", about, options=values)
        watch(self.after, lambda after: edit(lambda state: state.change(after=after)))
        watch(self.frames, lambda _: self._count_seconds())
        watch(self.seconds, lambda s: setattr(self.frames, "value", max(2, round(s * self._fps))))
        for widget in (self.frames, self.steps, self.side):
            watch(widget, lambda _: self._tell_long())
        head = row(self.run, self.stop, self.progress, self.left)
        self.widgets = head, self.long, self._grid(actions)
        self.show_busy(False)

    def _grid(self, actions: dict[str, Callable]):
        """The settings in two columns."""
        roll = button("Roll", "random", "A random seed", self._roll, 74)
        half, width = {"width": f"{HALF}px"}, HALF // 2 - 4
        about = "The lines that redo this without the pad"
        code = button("Code", "code", about, actions["code"], width)
        save = button("Save", "save", "Write the motion file", actions["save"], width)
        unit = text("14px")
        unit.value = "s"
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
        """While a clip is being made, its size stays."""
        self.run.disabled = self.side.disabled = busy
        self.stop.disabled = not busy
        self.progress.value, self.left.value = 0, "starting …" if busy else ""

    @property
    def values(self) -> dict:
        """As keyword arguments of `animate`."""
        names = ("steps", "seed", "trajectory_scale", "landmark_scale")
        kept = names[:3] if self.landmark_scale.disabled else names
        values = {name: getattr(self, name).value for name in kept}
        return {"num_frames": self.frames.value} | values


def _sides(native: int, multiple: int) -> list[tuple[str, int]]:
    others = (round(native * factor / multiple) * multiple for factor in (0.75, 1.5, 2))
    sides = sorted({native, *others})
    return [(f"{side} px" + " (native)" * (side == native), side) for side in sides]
