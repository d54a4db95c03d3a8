"""Painted areas (motion brush, face mask): {0, 255}, checked; as PNG beside or in a motion file."""

import base64
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import File, InputError, shown
from mofa_nb.media.images import load_image, rgb_pixels

PNG_PREFIX = "data:image/png;base64,"
Brush = UInt8[np.ndarray, "H W"]


def checked_brush(brush: object, size: tuple[int, int], what: str = "brush") -> Brush | None:
    """A read-only {0, 255} copy for an image of `size` (width, height) of a brush: bool, or uint8
    where 128 and above is painted (InputError for another type or size). It and None stay."""
    if brush is None:
        return None
    (width, height), array = size, np.asarray(brush)
    if array.dtype not in (np.uint8, np.bool_) or array.ndim != 2:
        came = f"{array.dtype} of shape {array.shape} came"
        raise InputError(f"the {what} must be a uint8 array [height, width], but {came}")
    if array.shape != (height, width):
        own = f"the motion's size is {width}x{height}: resize one to the other"
        raise InputError(f"the {what} is {array.shape[1]}x{array.shape[0]}, but {own}")
    copy = _painted(array * np.uint8(255) if array.dtype == np.bool_ else array)
    is_frozen = array.dtype == np.uint8 and not array.flags.writeable and array.base is None
    if is_frozen and np.array_equal(array, copy):
        return array
    copy.flags.writeable = False
    return copy


def resize_brush(brush: Brush, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """The brush on an image of `size` (width, height); stays {0, 255}."""
    (height, width), (new_width, new_height) = brush.shape, size
    rows = np.arange(new_height) * height // new_height
    columns = np.arange(new_width) * width // new_width
    return brush[rows][:, columns]


def brush_to_text(brush: Brush) -> str:
    """A one-bit PNG as a data URL, the form a motion file carries inside."""
    buffer = io.BytesIO()
    Image.fromarray(brush).convert("1").save(buffer, "PNG", optimize=True)
    return PNG_PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")


def read_brush(value: object, folder: File | None, what: str = "brush") -> Brush:
    """A brush from a data URL, or from the name of a PNG beside the motion file, in `folder`;
    InputError: not text, a path that leaves the folder, or not a readable picture."""
    if not isinstance(value, str):
        raise InputError(f"{what} must be a PNG's file name or data URL, but {shown(value)} came")
    if value.startswith(PNG_PREFIX):
        try:
            picture = base64.b64decode(value[len(PNG_PREFIX) :], validate=True)
        except ValueError as error:
            raise InputError(f"the inline {what} is not valid base64: write it again") from error
        return read_painted(io.BytesIO(picture), what)
    if value.startswith("data:"):
        raise InputError(f"an inline {what} must start with {PNG_PREFIX}, but {shown(value)} came")
    if folder is None or Path(value).name != value:
        raise InputError(f"{what} {shown(value)} must be the name of a PNG beside the motion file")
    return read_painted(Path(folder) / value, what)


def read_painted(source: File | io.BytesIO, what: str) -> Brush:
    """A {0, 255} mask from a picture: what is bright, or if it is transparent, what is opaque."""
    picture = load_image(source, f"the inline {what}" if isinstance(source, io.BytesIO) else what)
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        if alpha.getextrema()[0] < 255:
            return _painted(alpha)
    return _painted(Image.fromarray(rgb_pixels(picture, what)).convert("L"))


def _painted(grey: np.ndarray | Image.Image) -> Brush:
    return np.where(np.asarray(grey) >= 128, np.uint8(255), np.uint8(0))
