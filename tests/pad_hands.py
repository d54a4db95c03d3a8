"""A pad without a browser, its state without widgets, and hands that draw on either."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from toy_session import ToySession

from mofa_nb.motion.motion import Motion
from mofa_nb.pad import MotionPad
from mofa_nb.pad.state import PadState

SIZE = (400, 300)
PHOTO = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


@contextmanager
def open_pads(folder: Path) -> Iterator[Callable]:
    """Builds pads that save in `folder`, and closes them at the end."""
    pads = []

    def make(image=PHOTO, session=None, **options) -> MotionPad:
        pads.append(MotionPad(image, session or ToySession(), folder=folder, **options))
        return pads[-1]

    yield make
    for pad in pads:
        pad.close()
        pad.wait(10)


def on_canvas(pad: MotionPad, x: float, y: float) -> dict:
    """A place of the picture as the canvas reports it."""
    scale = pad.screen.stage.scale
    return {"x": x * scale, "y": y * scale}


def send(pad: MotionPad, event: str, x: float = 0.0, y: float = 0.0, **more) -> None:
    content = {"event": event, **on_canvas(pad, x, y), **more}
    pad.screen.stage.canvas._handle_custom_msg(content, [])


def drag(pad: MotionPad | PadState, *places: tuple, steps: int = 10) -> None:
    """Press at the first place, move through so many points a leg, release at the last."""
    acts = [partial(send, pad, f"mouse_{name}") for name in ("down", "move", "up")]
    if isinstance(pad, PadState):
        acts = [pad.press, pad.drag, pad.release]
    press, move, release = acts
    press(*places[0])
    for (x0, y0), (x1, y1) in pairwise(places):
        for k in range(1, steps + 1):
            move(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps)
    release(*places[-1])


def click(state: PadState, x: float, y: float) -> None:
    state.press(x, y)
    state.release(x, y)


def press_key(pad: MotionPad, key: str, *, ctrl=False, shift=False, meta=False) -> None:
    send(pad, "key_down", key=key, shift_key=shift, ctrl_key=ctrl, meta_key=meta)


def status(pad: MotionPad) -> str:
    return pad.screen.status.value


def state_of(motion: Motion | None = None, tool: str = "track", **settings) -> PadState:
    """A pad's state without widgets."""
    state = PadState(motion or Motion(SIZE), **settings)
    state.use(tool)
    return state


def square(on, off):
    """A selector that takes 40 pixels around each click, and 20 away."""
    mask = np.zeros((300, 400), np.uint8)
    for points, reach, value in ((on, 20, 255), (off, 10, 0)):
        for x, y in points:
            mask[int(y) - reach : int(y) + reach, int(x) - reach : int(x) + reach] = value
    return mask
