"""A pad without a browser, and hands that send it what a browser would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from toy_session import ToySession

from mofa_nb.pad import MotionPad

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


def drag(pad: MotionPad, start: tuple, end: tuple, steps: int = 6) -> None:
    send(pad, "mouse_down", *start)
    for k in range(1, steps + 1):
        x = start[0] + (end[0] - start[0]) * k / steps
        send(pad, "mouse_move", x, start[1] + (end[1] - start[1]) * k / steps)
    send(pad, "mouse_up", *end)


def press_key(pad: MotionPad, key: str, *, ctrl=False, shift=False, meta=False) -> None:
    send(pad, "key_down", key=key, shift_key=shift, ctrl_key=ctrl, meta_key=meta)


def status(pad: MotionPad) -> str:
    return pad.screen.status.value
