"""Photographs in: read from anything, fitted to a model's grid together with their motion."""

import warnings
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mofa_nb.checks import InputError

SMALLEST_SIDE = 32  # pixels; below it there is nothing to see

Picture = UInt8[np.ndarray, "H W 3"]


def read_image(source: object) -> Picture:
    """Any photograph as RGB pixels.

    Args:
        source: a path, a PIL image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8,
            uint16, or floats in [0, 1]. EXIF rotation is applied; CMYK, palettes, grey and 16 bits
            are converted; of an animation the first frame is taken. Transparent parts are laid
            over white, as most viewers show them.
    Raises:
        InputError: not readable as a picture, or a side shorter than 32 px.
    """
    if isinstance(source, (str, PathLike)):
        pixels = _from_path(source)
    elif isinstance(source, Image.Image):
        pixels = _rgb(source, "the image")
    else:
        pixels = _from_array(source)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"the image is {width}x{height}, too small to animate: give one of at least"
            f" {SMALLEST_SIDE} pixels a side"
        )
    return pixels


def _from_path(path: str | PathLike) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oversized or oddly tagged files that can still be read
        try:
            with Image.open(path) as image:
                image.load()
                return _rgb(image, f"image {path}")
        except FileNotFoundError as error:
            raise InputError(f"image {path} does not exist: check the path") from error
        except InputError:
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"image {path} cannot be read ({reason}): save it again as PNG or JPEG"
            ) from error


def _rgb(image: Image.Image, what: str) -> Picture:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_array(_deep_grey(image, what))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _deep_grey(image: Image.Image, what: str) -> np.ndarray:
    """Pixels of a grey picture of more than 8 bits: uint16, or floats in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{what} has more than 16 bits a pixel: save it with 8 or 16")
    return values.astype(np.uint16)


def _from_array(source: object) -> Picture:
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(
            "an image array must be [height, width, 3] (or 1 or 4 channels, or none), but"
            f" {array.dtype} of shape {array.shape} came"
        )
    unit = _to_unit(array)
    if array.shape[-1] == 4:
        unit = unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:])
    return np.rint(unit.repeat(3 // unit.shape[-1], axis=-1) * 255).astype(np.uint8)


def _to_unit(array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.uint8, np.uint16):
        return array / np.iinfo(array.dtype).max
    if array.dtype.kind != "f" or not (np.isfinite(array).all() and 0 <= array.min()):
        raise InputError(
            f"image values must be uint8, uint16, or floats in [0, 1], but {array.dtype} came"
            " (or negative or non-finite floats): convert them"
        )
    if array.max() > 1:
        raise InputError(
            f"float image values must lie in [0, 1], but {array.max():g} came: divide by 255"
        )
    return array.astype(np.float64)


def to_unit(image: UInt8[np.ndarray, "*T H W 3"]) -> Float[Tensor, "*T 3 H W"]:
    """uint8 pixels -> float32 in [0, 1], channel first."""
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).float() / 255


def to_uint8(image: Float[Tensor, "*T 3 H W"]) -> UInt8[np.ndarray, "*T H W 3"]:
    """Floats in [0, 1], channel first -> uint8 pixels; values outside are clipped."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()
