"""One drawn path: its control points, and how they are travelled over the clip."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError, choice, number_between, numbers, refuse_unknown, shown

EASINGS = ("linear", "ease_in", "ease_out", "ease", "hold")
AFTER = ("stop", "continue", "ease", "loop", "stretch", "close")
CLOSEST = 1e-9  # of the clip, that two times must be apart: nearer, slopes overflow
SHORTLY = 1e-4  # of the clip, over which the speed at its end is measured
TOLERANCE = 0.1  # pixels by which a track may pass beside a position
FARTHEST = 1000.0
Point = tuple[float, float]
Times = Float[np.ndarray, " T"]
Path = Float[np.ndarray, "T 2"]

_EASINGS: dict[str, Callable] = {
    "linear": lambda u: u,
    "ease_in": lambda u: u**2,
    "ease_out": lambda u: 1 - (1 - u) ** 2,
    "ease": lambda u: u**2 * (3 - 2 * u),
}


def pchip(points: Float[np.ndarray, "K 2"], times: Float[np.ndarray, " K"], at: Times) -> Path:
    """Monotone cubic interpolation of control points, each coordinate by itself, without overshoot;
    the path rests outside `times`, which increase by `CLOSEST` or more."""
    from scipy.interpolate import PchipInterpolator

    with np.errstate(over="ignore"):  # points that all but coincide: their slope becomes zero
        curve = PchipInterpolator(times, points, axis=0)
    return curve(np.clip(at, times[0], times[-1]))


def eased_time(u: Times, times: Float[np.ndarray, " K"], speed: str) -> Times:
    """Where on its control points' time axis a track stands at each progress `u` in [0, 1]; "hold"
    covers each leg between them in the first half of its time (eased), then waits."""
    if speed != "hold":
        return _EASINGS[speed](u)
    leg = np.clip(np.searchsorted(times, u, side="right") - 1, 0, len(times) - 2)
    begin, length = times[leg], np.diff(times)[leg]
    return begin + length * _EASINGS["ease"](np.clip(2 * (u - begin) / length, 0, 1))


def clip_clock(num_frames: int, native: int | None = None, after: str = "stop") -> Times:
    """How far along a track's time each frame of a clip is: 0 at its first frame, 1 at its end.

    In clips of more than `native` frames a track rests at its end ("stop"), goes on ("continue"),
    spreads over the whole clip ("stretch"; "ease" with soft ends) or goes back and forth ("loop").
    "close", in any clip, comes back, so that the frame after the last would be the first."""
    even = np.linspace(0, 1, num_frames)
    if after == "close":
        return 1 - np.abs(1 - 2 * np.arange(num_frames) / num_frames)
    if native is None or num_frames <= native or after == "stretch":
        return even
    clock = np.arange(num_frames) / (native - 1)
    if after == "ease":
        return _EASINGS["ease"](even)
    if after == "loop":
        return 1 - np.abs(1 - clock % 2)
    return clock if after == "continue" else clock.clip(max=1)


@dataclass(frozen=True)
class Track:
    """One drawn path: control points and how they are travelled; InputError where out of range.
    Any sequences are taken, tuples are kept."""

    points: Any  # two or more pixels (x, y); the path passes through all of them (PCHIP)
    times: Any = None  # one per point in [0, 1], strictly increasing; None spreads them evenly
    speed: Any = "linear"  # one of SPEEDS: "ease_in" starts slowly, "ease_out" ends slowly
    start: Any = 0.0  # the fraction of the clip before which it rests
    end: Any = 1.0  # and after which it rests
    locked: Any = False  # the drawing pad leaves it alone; no effect on the motion
    # -1000 to 1000: it lies behind tracks of a smaller depth (None counts as 0), before all that
    # follows no track. None in all tracks: where things meet they mix, as in the release.
    depth: Any = None

    def __post_init__(self):
        points, depth = read_points(self.points, "point"), self.depth
        if len(points) < 2:
            came = f"{len(points)} came: add one, or make it a pin"
            raise InputError(f"a track needs two or more points, but {came}")
        vars(self).update(
            points=points,
            times=_times(self.times, len(points)),
            start=number_between(self.start, 0.0, 1.0, "start"),
            end=number_between(self.end, 0.0, 1.0, "end"),
            depth=None if depth is None else number_between(depth, -FARTHEST, FARTHEST, "depth"),
        )
        if self.end - self.start < CLOSEST:
            came = f"start {self.start:g} and end {self.end:g} came"
            raise InputError(f"start must come before end, but {came}")
        choice(self.speed, EASINGS, "speed")
        if not isinstance(self.locked, bool):
            raise InputError(f"locked must be true or false, but {shown(self.locked)} came")

    def path(self, num_frames: int, native: int | None = None, after: str = "stop") -> Path:
        """Pixel (x, y) per frame (release: PCHIP over evenly spaced times); see `clip_clock`.

        With "close", a path whose end is its start goes round once."""
        points, clock = np.array(self.points, np.float64), clip_clock(num_frames, native, after)
        if after == "close" and np.ptp(points[[0, -1]], 0).max() <= 0.02 * np.ptp(points, 0).max():
            clock = np.arange(num_frames) / num_frames
        times = np.linspace(0, 1, len(points)) if self.times is None else np.array(self.times)

        def at(clock: Times) -> Path:
            u = np.clip((clock - self.start) / (self.end - self.start), 0, 1)
            return pchip(points, times, eased_time(u, times, self.speed))

        path = at(clock)
        if clock[-1] > 1:  # straight on at the speed that it has at the end
            before, last = at(np.array([1 - SHORTLY, 1.0]))
            path += np.clip(clock - 1, 0, None)[:, None] * (last - before) / SHORTLY
        return path

    def mapped(self, move: Callable[[float, float], Point]) -> "Track":
        """The same track with every control point replaced by `move(x, y)`."""
        return replace(self, points=tuple(move(x, y) for x, y in self.points))

    def to_json(self) -> list | dict:
        """A bare list of [x, y] when only the points are set, else a dict of what is set."""
        values = vars(self) | {"points": points_to_json(self.points)}
        if self.times is not None:
            values["times"] = list(self.times)
        changed = {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}
        return changed if len(changed) > 1 else changed["points"]

    @staticmethod
    def from_json(data: object) -> "Track":
        """The inverse of `to_json`; InputError for unknown keys or values out of range."""
        if not isinstance(data, dict):
            return Track(data)
        refuse_unknown(data, [f.name for f in fields(Track)], "a track")
        if "points" not in data:
            raise InputError('a track written as an object needs the key "points"')
        return Track(**data)


def track_through(path: Path, times: Times, tolerance: float = TOLERANCE) -> Track:
    """A track through so few of the positions that it passes all within `tolerance` pixels."""
    knots = [0, len(path) - 1]
    while True:
        errors = np.abs(pchip(path[knots], times[knots], times) - path).max(-1)
        if errors.max() <= tolerance:
            break
        knots = sorted([*knots, int(errors.argmax())])
    even = np.allclose(times[knots], np.linspace(0, 1, len(knots)))
    return Track(path[knots].tolist(), None if even else times[knots].tolist())


def read_points(values: Any, what: str) -> tuple[Point, ...]:
    """Pixels (x, y) from any sequence of pairs; `what` names one of them in messages."""
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
        raise InputError(f"points must be a list of [x, y], but {shown(values)} came")
    return tuple(numbers(xy, 2, f"{what} {i}", names="xy") for i, xy in enumerate(values, 1))


def points_to_json(points: Iterable[Point]) -> list[list[float]]:
    """Lists of [x, y], whole numbers as ints, so that files stay readable."""
    return [[int(n) if n == int(n) else n for n in point] for point in points]


def _times(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    times = numbers(values, count, "the times (one per point)", 0.0, 1.0)
    if any(later - earlier < CLOSEST for earlier, later in pairwise(times)):
        expected = f"times must increase from point to point, by {CLOSEST:g} or more"
        raise InputError(f"{expected}, but {shown(list(times))} came")
    return times
