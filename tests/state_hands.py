"""The pad's state without widgets, and hands that draw on it."""

from itertools import pairwise

import numpy as np

from mofa_nb.motion.motion import Motion
from mofa_nb.pad.state import PadState

SIZE = (400, 300)


def pad(motion: Motion | None = None, tool: str = "track", **settings) -> PadState:
    state = PadState(motion or Motion(SIZE), **settings)
    state.use(tool)
    return state


def drag(state: PadState, *places: tuple[float, float]) -> None:
    """Press at the first place, move through ten points a leg, release at the last."""
    state.press(*places[0])
    for (x0, y0), (x1, y1) in pairwise(places):
        for k in range(1, 11):
            state.drag(x0 + (x1 - x0) * k / 10, y0 + (y1 - y0) * k / 10)
    state.release(*places[-1])


def click(state: PadState, x: float, y: float) -> None:
    state.press(x, y)
    state.release(x, y)


def square(on, off):
    """A selector that takes 40 pixels around each click, and 20 away."""
    mask = np.zeros((300, 400), np.uint8)
    for points, reach, value in ((on, 20, 255), (off, 10, 0)):
        for x, y in points:
            mask[int(y) - reach : int(y) + reach, int(x) - reach : int(x) + reach] = value
    return mask
