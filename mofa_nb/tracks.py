"""Strokes to paths: control points interpolated over the clip, with a speed and a time span."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

SPEEDS = ("linear", "ease_in", "ease_out", "ease", "hold")

_EASINGS: dict[str, Callable] = {
    "linear": lambda u: u,
    "ease_in": lambda u: u**2,
    "ease_out": lambda u: 1 - (1 - u) ** 2,
    "ease": lambda u: u**2 * (3 - 2 * u),
}


def pchip(
    points: Float[np.ndarray, "K 2"], times: Float[np.ndarray, " K"], at: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T 2"]:
    """Monotone cubic interpolation of control points, each coordinate by itself.

    No overshoot: between two control points a coordinate stays between their values, so two
    points make a straight line.

    Args:
        points: pixel (x, y).
        times: strictly increasing.
        at: times asked for; outside `times` the path rests at its first or last point.
    """
    from scipy.interpolate import PchipInterpolator

    with np.errstate(over="ignore"):  # points that all but coincide: their slope becomes zero
        curve = PchipInterpolator(times, points, axis=0)
    return curve(np.clip(at, times[0], times[-1]))


def eased_time(
    u: Float[np.ndarray, " T"], times: Float[np.ndarray, " K"], speed: str
) -> Float[np.ndarray, " T"]:
    """Where on its control points' time axis a track stands at each `u`.

    Args:
        u: progress in [0, 1].
        times: the control points' times; only "hold" looks at them.
        speed: "linear"; "ease_in" starts slowly (u^2), "ease_out" ends slowly, "ease" both;
            "hold" pauses at every control point: it covers each leg in the first half of that
            leg's time (eased) and waits there for the second half.
    """
    if speed != "hold":
        return _EASINGS[speed](u)
    leg = np.clip(np.searchsorted(times, u, side="right") - 1, 0, len(times) - 2)
    begin, length = times[leg], np.diff(times)[leg]
    progress = np.clip(2 * (u - begin) / length, 0, 1)
    return begin + length * _EASINGS["ease"](progress)


def resample(
    points: Float[np.ndarray, "K 2"],
    num_frames: int,
    *,
    times: Float[np.ndarray, " K"] | None = None,
    speed: str = "linear",
    start: float = 0.0,
    end: float = 1.0,
) -> Float[np.ndarray, "T 2"]:
    """One position per frame from a few control points (release: PCHIP over evenly spaced times).

    Args:
        points: two or more pixels (x, y).
        num_frames: T; the first frame is at clip time 0, the last at 1.
        times: of the control points, in [0, 1]; evenly spaced when None.
        speed: one of `SPEEDS`, see `eased_time`.
        start, end: fractions of the clip between which the track moves; it rests outside.
    """
    knots = np.linspace(0, 1, len(points)) if times is None else np.asarray(times, np.float64)
    clock = np.linspace(0, 1, num_frames)
    u = np.clip((clock - start) / (end - start), 0, 1)
    return pchip(np.asarray(points, np.float64), knots, eased_time(u, knots, speed))
