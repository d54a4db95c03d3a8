"""The motion brush: a {0, 255} mask, its checks, and its PNG (a file, or inside a motion file)."""

import base64
import binascii
import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import InputError, shown

PNG_PREFIX = "data:image/png;base64,"


def checked_brush(brush: object, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A read-only {0, 255} copy of a brush for an image of `size` (width, height).

    Args:
        brush: bool, or uint8 where 128 and above counts as painted; [H, W].
    Raises:
        InputError: another type or size.
    """
    width, height = size
    array = np.asarray(brush)
    if array.dtype not in (np.uint8, np.bool_) or array.ndim != 2:
        raise InputError(
            f"the brush must be a uint8 array [height, width], but {array.dtype} of shape"
            f" {array.shape} came"
        )
    if array.shape != (height, width):
        raise InputError(
            f"the brush is {array.shape[1]}x{array.shape[0]}, but the motion's size is"
            f" {width}x{height}: resize one to the other"
        )
    painted = array if array.dtype == np.bool_ else array >= 128
    copy = np.where(painted, np.uint8(255), np.uint8(0))
    copy.flags.writeable = False
    return copy


def resize_nearest(
    brush: UInt8[np.ndarray, "H W"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w"]:
    """The brush on an image of `size` (width, height); stays {0, 255}."""
    (height, width), (new_width, new_height) = brush.shape, size
    rows = np.arange(new_height) * height // new_height
    columns = np.arange(new_width) * width // new_width
    return brush[rows][:, columns]


def brush_to_text(brush: UInt8[np.ndarray, "H W"]) -> str:
    """A one-bit PNG as a data URL, the form a motion file carries inside."""
    buffer = io.BytesIO()
    Image.fromarray(brush).convert("1").save(buffer, "PNG", optimize=True)
    return PNG_PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")


def read_brush(value: object, folder: str | os.PathLike | None) -> UInt8[np.ndarray, "H W"]:
    """A brush from a data URL, or from the name of a PNG beside the motion file.

    Painted is what is bright; in a picture with transparency, what is opaque.

    Args:
        value: the motion file's "brush" entry.
        folder: where the motion file lies; None if there is no file.
    Raises:
        InputError: not text, a path that leaves the folder, or not a readable picture.
    """
    if not isinstance(value, str):
        raise InputError(f"brush must be a PNG's file name or data URL, but {shown(value)} came")
    source = _decoded(value) if value.startswith("data:") else _beside(value, folder)
    try:
        with Image.open(source) as picture:
            picture.load()
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise InputError(f"brush {shown(value)} is not a readable PNG: save it again") from error
    alpha = picture.convert("RGBA").getchannel("A")
    mask = picture.convert("L") if alpha.getextrema()[0] == 255 else alpha
    return np.where(np.array(mask) >= 128, np.uint8(255), np.uint8(0))


def _decoded(value: str) -> io.BytesIO:
    if not value.startswith(PNG_PREFIX):
        raise InputError(f"an inline brush must start with {PNG_PREFIX}, but {shown(value)} came")
    try:
        return io.BytesIO(base64.b64decode(value[len(PNG_PREFIX) :], validate=True))
    except binascii.Error as error:
        raise InputError("the inline brush is not valid base64: write it again") from error


def _beside(name: str, folder: str | os.PathLike | None) -> Path:
    if folder is None or Path(name).name != name:
        raise InputError(f"brush {shown(name)} must be the name of a PNG beside the motion file")
    path = Path(folder) / name
    if not path.is_file():
        raise InputError(f"brush {path} does not exist: put the PNG beside the motion file")
    return path
