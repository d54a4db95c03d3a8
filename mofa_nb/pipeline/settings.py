"""How a clip is made: every setting with its range, its default and its words, said once for Python
call, command line, pad and card."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any
from warnings import warn

from mofa_nb.checks import InputError, choice, number_between, numbers, shown, whole_number
from mofa_nb.config import GONE, OLDER, RANGES, SPEEDS, WAYS, Settings
from mofa_nb.motion.rates import FEWEST, MOST, clip_rate, frames_in, own_rate

SECONDS = "seconds"  # may be given instead of num_frames


def _switch(value: object, what: str) -> bool:
    value = {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value
    if value not in (True, False):
        raise InputError(f"{what} is either on or off (True or False), but {shown(value)} came")
    return bool(value)


def _span(value: object, what: str) -> tuple[float, float]:
    begin, end = numbers(value, 2, what, 0, 1)
    if begin >= end:
        raise InputError(f"{what} must begin before it ends, but {begin:g} and {end:g} came")
    return begin, end


def _setting(
    default: Any, check: Any, option="", about="", usual="", face=False, slider: float | None = None
) -> Any:
    """A field of `ClipSettings`: its default where neither the caller nor the model says anything;
    its check (value, what=name in messages) -> the value as used, or the two ends of a range, or
    the texts to choose from; its command line option with a letter for the value (X), what that is
    about, and the default in words; where a `slider` for it ends. Only clips with a `face` have
    some."""
    low = check[0] if isinstance(check, tuple) else None
    if isinstance(check, tuple) and isinstance(check[0], str):
        check = partial(choice, names=check)
    elif isinstance(check, tuple):
        kind = whole_number if isinstance(check[0], int) else number_between
        check = partial(kind, low=check[0], high=check[1])
    option, _, letter = option.partition(" ")
    words = {"option": option, "letter": letter or "X", "about": about, "usual": usual}
    words |= {"slider": (low, slider)}
    return field(default=default, metadata={"check": check, "face": face, **words})


@dataclass(frozen=True)
class ClipSettings:
    """How a clip is made, all of it checked; see `ClipSettings.of`.

    Scales are factors on each adapter's residuals (paper: control scale), spans where in the steps
    each works. `guidance` is of the first and the last frame. A speed other than exact takes fewer
    steps unless their number is given. None: `num_frames` as what drives a face decides, `window`
    the model's own (paper: 14), its stride half of that. `repeat_last_window` is the release's;
    faded windows count less towards their ends. All that the published demos do otherwise is
    `as_released`: hints cut to whole pixels, a brush in their way, that last window, noise drawn on
    the device, and the order of a fault (`released_context`)."""

    steps: int = _setting(
        Settings.steps, RANGES["steps"],
        "--steps N", "denoising steps: more is finer and slower", slider=50,
    )  # fmt: skip
    seed: int = _setting(
        Settings.seed, RANGES["seed"],
        "--seed S", "another one makes another clip of the same motion",
    )  # fmt: skip
    num_frames: int | None = _setting(
        None, (FEWEST, MOST), "--frames N", "length of the clip",
        "the model's, or the face's", slider=1000,
    )  # fmt: skip
    fps: float = _setting(Settings.fps, clip_rate, "--fps N", "frames per second of the file")
    guidance: tuple[float, float] = _setting(
        Settings.guidance, partial(numbers, count=2, low=0, high=RANGES["guidance"][1])
    )
    mask_softness: float = _setting(
        0.0, (0.0, 1000), "--mask-softness PX", "pixels over which the mask fades", "0", face=True
    )
    trajectory_span: tuple[float, float] = _setting((0.0, 1.0), _span)
    landmark_span: tuple[float, float] = _setting((0.0, 1.0), _span, face=True)
    window: int | None = _setting(
        None, (FEWEST, MOST), "--window N", "frames denoised at once in a longer clip"
    )
    window_stride: int | None = _setting(
        None, (1, MOST), "--window-stride N", "frames between two windows", "half a window"
    )
    repeat_last_window: bool = _setting(False, _switch)
    window_fade: bool = _setting(False, _switch)
    trajectory_scale: float = _setting(
        Settings.trajectory_scale, RANGES["scale"],
        "--trajectory-scale", "how strictly tracks are followed: 0 is not at all, 0.6 suits the"
        " released weights, and there 1 may twist the picture", slider=1.5,
    )  # fmt: skip
    landmark_scale: float = _setting(
        Settings.landmark_scale, RANGES["scale"],
        "--landmark-scale", "how strictly the face's motion is followed: 0 is not at all, 1 suits"
        " the released weights", slider=1.5, face=True,
    )  # fmt: skip
    memory: str = _setting(
        "auto", ("auto", *WAYS), "--memory WAY", f"on a card: auto, {', '.join(WAYS)}", "auto"
    )
    speed: str = _setting(
        "exact", (*SPEEDS,), "--speed NAME", f"what is computed: {', '.join(SPEEDS)}", "exact"
    )
    compile: bool = _setting(
        False, _switch, "--compile on|off",
        "on: minutes before the first clip, then quicker steps", "off",
    )  # fmt: skip
    as_released: bool = _setting(
        False, _switch, "--as-released on|off",
        "on: the published demos' look, faults included", "off",
    )  # fmt: skip

    @classmethod
    def of(
        cls, model: Settings, has_face: bool, given: Mapping | None = None, called: Callable = str
    ) -> "ClipSettings":
        """The settings of a clip: as given by name (older ones too; None is not given; `seconds`
        instead of num_frames), else the model's own, else the defaults, which a clip without a face
        has for a face's; `called`: a setting's name in messages. InputError: an unknown name, or a
        value out of range."""
        given = {k: value for k, value in (given or {}).items() if value is not None}
        for name in sorted(set(given) & set(GONE)):
            if given.pop(name) not in (0, "0", "0.0"):
                warn(f"{called(name)} is no longer a setting: networks paint alone", stacklevel=2)
        given = {OLDER.get(k, k): value for k, value in given.items()}
        seconds, rules = given.pop(SECONDS, None), RULES
        for name in sorted(set(given) - set(rules)):
            names = ", ".join([*rules, SECONDS])
            raise InputError(f"there is no setting {name!r}: choose from {names}")
        own = {name: getattr(model, name, rule.default) for name, rule in rules.items()}
        own["fps"] = own_rate(model.fps, has_face)
        if given.get("speed") in SPEEDS:
            own["steps"] = SPEEDS[given["speed"]].steps_of(own["steps"])
        values = {}
        for name, rule in rules.items():
            value = given.get(name, own[name])
            if value is not None and (has_face or not rule.metadata["face"]):
                more = {"has_face": has_face} if name == "fps" else {}
                values[name] = rule.metadata["check"](value, what=called(name), **more)
        if values["fps"] == int(values["fps"]):
            values["fps"] = int(values["fps"])
        if "num_frames" not in given and has_face:
            values["num_frames"] = None  # as long as what drives it
        if seconds is not None:
            if "num_frames" in given:
                length = f"{called('num_frames')} or {called(SECONDS)}"
                raise InputError(f"a clip's length is {length}: leave one of them out")
            values["num_frames"] = frames_in(seconds, values["fps"], called(SECONDS))
        if "window" in values:
            whole_number(values["window"], FEWEST, model.num_frames, called("window"))
        return cls(**values)

    def of_kind(self, kind: str) -> tuple[float, tuple[float, float]]:
        """(scale, span) of the trajectory or the landmark adapter."""
        return tuple(getattr(self, f"{kind}_{name}") for name in ("scale", "span"))

    def to_json(self, has_face: bool = True) -> dict[str, Any]:
        """Plain values by name, as a card holds them; not what is off or as usual."""
        data = {}
        for rule in RULES.values():
            value = getattr(self, rule.name)
            off = value is None or value is False
            off = off or (isinstance(value, str) and value == rule.default)
            if not off and (has_face or not rule.metadata["face"]):
                data[rule.name] = list(value) if isinstance(value, tuple) else value
        return data


RULES: dict[str, Field] = {rule.name: rule for rule in fields(ClipSettings)}
# Those that the command line has, by the name of the option.
OPTIONS = {option: rule for rule in RULES.values() if (option := rule.metadata["option"])}
