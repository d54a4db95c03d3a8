"""The pad's settings: how the clip is made, in plain words; and the buttons that make it."""

from collections.abc import Callable

from ipywidgets import (
    BoundedFloatText,
    BoundedIntText,
    Dropdown,
    FloatSlider,
    IntProgress,
    IntSlider,
    IntText,
    Layout,
    Widget,
)

from mofa_nb.faces.drive import FPS
from mofa_nb.motion.fit import plan_fit
from mofa_nb.motion.rates import long_note
from mofa_nb.pad.state import PadState
from mofa_nb.pad.style import HALF, button, named, row, slider, text, tip, watch

_AFTER = {"stop": "stop", "go on": "continue", "spread out softly": "ease"}
_AFTER |= {"spread out evenly": "stretch", "go to and fro": "loop", "end where they began": "close"}
_AFTER = [(f"Tracks {words}", after) for words, after in _AFTER.items()]
_LONGEST = 1000  # frames of a clip


class SettingsPanel:
    """What is asked for besides the motion.

    Args:
        edit: applies a function of the state.
        defaults: as a session has them.
        num_frames: the model's own clip length.
        actions: "animate", "stop", "roll", "code" and "save".
    """

    def __init__(
        self, edit: Callable, defaults: dict, num_frames: int, actions: dict[str, Callable]
    ):
        self._fps = self._own_fps = defaults.get("fps", 8)
        self._defaults, self._native, self._picture = defaults, num_frames, (3, 2)
        self.run = button("Animate", "play", "Make the clip (Ctrl+Enter)", actions["animate"], 104)
        self.run.button_style = "primary"
        self.stop = button("Stop", "stop", "End after the present step (Esc)", actions["stop"], 76)
        self.progress = IntProgress(min=0, max=1000, layout=Layout(flex="1 1 60px", height="14px"))
        self.left, self.long = text("96px"), text(height="40px", display="none")
        self.seed = named(IntText(defaults.get("seed", 42), description="Seed"))
        self.seed.layout.width = f"{HALF - 80}px"
        tip(self.seed, "Another seed gives another clip of the same motion")
        steps = defaults.get("steps", 25)
        about = "Steps from noise to clip: more is finer and slower"
        self.steps = slider(IntSlider, "Steps", about, min=1, max=max(50, steps), value=steps)
        self.trajectory_scale, self.landmark_scale = _scales(defaults)
        self.frames, self.seconds = self._lengths(num_frames)
        sides = _sides(defaults.get("short_side", 128), defaults.get("multiple", 32))
        self.side = named(Dropdown(options=sides, description="Size"))
        self.side.layout.width, self.side.value = f"{HALF}px", defaults.get("short_side", 128)
        tip(self.side, "Shorter side of the clip: larger is slower; the mini model is finer then")
        about = f"What tracks do in a clip of more than {num_frames} frames"
        self.after = tip(named(Dropdown(options=_AFTER, description="After")), about)
        self.after.layout.width = f"{HALF}px"
        watch(self.after, lambda after: edit(lambda state: state.set_after(after)))
        self.widgets = self._arranged(actions)
        for widget in (self.frames, self.steps, self.side):
            watch(widget, lambda _: self._tell_long())
        self.rest()

    def _lengths(self, native: int) -> tuple[BoundedIntText, BoundedFloatText]:
        """Frames and seconds, each following the other."""
        frames = named(BoundedIntText(native, min=2, max=_LONGEST, description="Frames"))
        about = f"Length of the clip: the model's own is {native} frames; longer ones take longer"
        tip(frames, about).layout.width = f"{HALF - 94}px"
        seconds = BoundedFloatText(round(native / self._fps, 2), min=0, max=_LONGEST, step=0.1)
        tip(seconds, "The same in seconds").layout.width = "68px"

        watch(frames, lambda _: self._count_seconds())
        watch(seconds, lambda new: setattr(frames, "value", max(2, round(new * self._fps))))
        return frames, seconds

    def _count_seconds(self) -> None:
        self.seconds.value = round(self.frames.value / self._fps, 2)

    def _arranged(self, actions: dict[str, Callable]) -> tuple[Widget, ...]:
        roll = button("Roll", "random", "A random seed", actions["roll"], 74)
        about = "The lines that redo this without the pad"
        code = button("Code", "code", about, actions["code"], HALF // 2 - 4)
        save = button("Save", "save", "Write the motion file", actions["save"], HALF // 2 - 4)
        unit = text("14px")
        unit.value = "s"
        half = f"{HALF}px"
        length = row(self.frames, self.seconds, unit, width=half, flex_flow="row nowrap")
        pairs = (
            *(row(self.seed, roll, width=half), self.side),
            *(self.steps, length, self.trajectory_scale, self.landmark_scale),
            *(self.after, row(code, save, gap="8px", width=half)),
        )
        head = row(self.run, self.stop, self.progress, self.left)
        return head, self.long, row(*pairs, gap="8px")

    def show(self, state: PadState) -> None:
        """Follow the state."""
        self.after.value = state.motion.after
        self.landmark_scale.disabled = state.motion.face is None
        self._fps = self._own_fps if state.motion.face is None else max(self._own_fps, FPS)
        self._count_seconds()
        self._picture = state.motion.size
        self._tell_long()

    def _tell_long(self) -> None:
        """About how long a clip takes that is much more work than the model's own."""
        own, still = self._defaults, self.landmark_scale.disabled
        side = own["short_side"] if still else own.get("face_short_side", own["short_side"])
        fit = plan_fit(self._picture, own["multiple"], short_side=self.side.value)
        usual = side, self._native, own["steps"]
        words = long_note(fit.size, self.frames.value, self.steps.value, usual)
        self.long.value = f'<div class="warn" style="white-space:normal">{words}</div>'
        self.long.layout.display = "" if words else "none"

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
        values = {
            "num_frames": self.frames.value,
            "steps": self.steps.value,
            "seed": self.seed.value,
            "trajectory_scale": self.trajectory_scale.value,
        }
        face = self.landmark_scale
        return values if face.disabled else values | {"landmark_scale": face.value}


def _scales(defaults: dict) -> list[FloatSlider]:
    """How strictly tracks and face are followed."""
    about = (
        "How strictly tracks are followed: 0 lets the clip run free; with the released weights"
        " 0.6 suits tracks, and 1 may twist the picture",
        "How strictly the face's motion is followed; with the released weights 1 suits it",
    )
    values = defaults.get("trajectory_scale", 0.6), defaults.get("landmark_scale", 1.0)
    return [
        slider(FloatSlider, name, words, min=0, max=1.5, step=0.05, value=value)
        for name, words, value in zip(("Tracks", "Face"), about, values, strict=True)
    ]


def _sides(native: int, multiple: int) -> list[tuple[str, int]]:
    others = (round(native * factor / multiple) * multiple for factor in (0.75, 1.5, 2))
    sides = sorted({native, *others})
    return [(f"{side} px" + " (native)" * (side == native), side) for side in sides]
