"""The pad's picture: opening it, fitting it on the screen, tinting it, JPEG and PNG."""

import io
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mofa_nb.media.images import read_image
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.select import Pick, Selector, selector
from mofa_nb.pad.strokes import Bounds
from mofa_nb.show.drawing import draw_tracks

SCREEN = 480  # longer side of the pad's picture on the screen, pixels
SHARP = 2  # pixels sent per screen pixel, for dense screens
_MOST = 1024  # longer side of the pixels that drawing counts in


@dataclass(frozen=True)
class PadPicture:
    """A photograph on the pad.

    Attributes:
        photo: RGB, as the model gets it.
        size: (width, height) of the pixels that drawn points count in.
        screen: (width, height) on the screen.
        fine: RGB, what the screen gets.
        name: for captions; path: where it lies, or None.
    """

    photo: UInt8[np.ndarray, "H W 3"]
    size: tuple[int, int]
    screen: tuple[int, int]
    fine: UInt8[np.ndarray, "h w 3"]
    name: str
    path: str | None

    @property
    def unit(self) -> float:
        """Drawing pixels per screen pixel."""
        return self.size[0] / self.screen[0]

    @cached_property
    def drawn_on(self) -> UInt8[np.ndarray, "H W 3"]:
        """The photograph at `size`."""
        return np.array(Image.fromarray(self.photo).resize(self.size, Image.Resampling.LANCZOS))

    def picker(self, by: str | os.PathLike | Selector) -> Pick:
        """From clicks to the mask of a thing; the picture is looked at on the first one."""
        ready = cache(lambda: selector(by)(self.drawn_on))
        return lambda on, off: ready()(on, off)

    @property
    def scale_text(self) -> str:
        """The photograph's size and how large it is shown."""
        height, width = self.photo.shape[:2]
        return f"{width} × {height}, shown at {self.screen[0] / width:.0%}"


def open_picture(source: object, name: str = "picture") -> PadPicture:
    """Read a photograph: the bytes of a file, or anything that `read_image` takes.

    Raises:
        InputError: it cannot be read, or is too small.
    """
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    photo = read_image(source, name)
    size = photo.shape[1], photo.shape[0]
    screen = _within(size, SCREEN, grow=True)
    sent = SHARP * screen[0], SHARP * screen[1]
    fine = Image.fromarray(photo).resize(sent, Image.Resampling.LANCZOS)
    return PadPicture(
        photo=photo,
        size=_within(size, _MOST),
        screen=screen,
        fine=np.array(fine),
        name=Path(path).name if path else name,
        path=path,
    )


def _within(size: tuple[int, int], side: int, *, grow: bool = False) -> tuple[int, int]:
    factor = side / max(size)
    if factor > 1 and not grow:
        factor = 1
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def tinted(
    fine: UInt8[np.ndarray, "h w 3"],
    box: Bounds,
    tint: tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]] | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with what the model does not see darkened and the flow's colours laid over.

    Args:
        fine: the picture.
        box: left, top, right, bottom of what the model sees, as fractions of the picture.
        tint: colours on the model's grid and their opacity in [0, 1], or None.
    """
    import cv2

    height, width = fine.shape[:2]
    left, right = round(box[0] * width), round(box[2] * width)
    top, bottom = round(box[1] * height), round(box[3] * height)
    result = fine // 3
    view = fine[top:bottom, left:right].astype(np.float32)
    if tint is not None:
        size = (right - left, bottom - top)
        weight = cv2.resize(tint[1].astype(np.float32), size)[..., None]
        view += weight * (cv2.resize(tint[0], size) - view)
    result[top:bottom, left:right] = view.astype(np.uint8)
    return result


def jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encoded for an `Image` widget."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def png(image: UInt8[np.ndarray, "H W C"]) -> bytes:
    """Encoded without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def still_png(picture: PadPicture, motion: Motion) -> bytes:
    """The picture with what is drawn on it, small: for pages without a kernel."""
    drawn = Image.fromarray(draw_tracks(picture.fine, motion))
    buffer = io.BytesIO()
    drawn.resize(picture.screen, Image.Resampling.LANCZOS).quantize(96).save(buffer, "PNG")
    return buffer.getvalue()
