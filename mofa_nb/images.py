"""Photographs in: read from anything, fitted to a model's grid together with their motion."""

import warnings
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mofa_nb.checks import InputError, clip_size
from mofa_nb.motion import Motion

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


@dataclass(frozen=True)
class Fit:
    """How an image was scaled and cropped to a model's grid; the same is done to its motion.

    Attributes:
        source: (width, height) of the image as read.
        scaled: (width, height) after scaling, before cropping.
        size: (width, height) of the result.
        offset: (left, top) of the result inside the scaled image.
        notes: what a user should know, one sentence each.
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    offset: tuple[int, int]
    notes: tuple[str, ...] = ()


def plan_fit(
    source: tuple[int, int], multiple: int, *, short_side: int = 0, size: object = None
) -> Fit:
    """Decide how an image of `source` (width, height) comes onto a grid of `multiple` pixels.

    Args:
        multiple: both sides of the result are multiples of it.
        short_side: without `size`: the shorter side is scaled to this, then each side is cropped,
            centred, down to a multiple (the release: 512 and 64). The longer side is rounded;
            the release cuts it to whole pixels, which can cost a multiple.
        size: (width, height) wanted instead; cropped down to multiples, which `notes` says. The
            image is scaled to cover it and cropped, centred.
    Raises:
        InputError: a side would be shorter than `multiple`, or the area too large.
    """
    width, height = source
    shorter = min(width, height)
    own = round(width * short_side / shorter), round(height * short_side / shorter)
    wanted = clip_size(own if size is None else size)
    target = wanted[0] // multiple * multiple, wanted[1] // multiple * multiple
    if min(target) < multiple:
        raise InputError(
            f"size {wanted[0]}x{wanted[1]} is too small for this model: each side must be at"
            f" least {multiple} pixels"
        )
    if size is None:
        scaled = wanted
    else:
        cover = max(target[0] / width, target[1] / height)
        scaled = max(target[0], round(width * cover)), max(target[1], round(height * cover))
    offset = round((scaled[0] - target[0]) / 2), round((scaled[1] - target[1]) / 2)
    notes = _fit_notes(scaled, target, None if size is None else wanted, multiple)
    return Fit(source, scaled, target, offset, notes)


def _fit_notes(
    scaled: tuple[int, int],
    target: tuple[int, int],
    wanted: tuple[int, int] | None,
    multiple: int,
) -> tuple[str, ...]:
    """Say that a size was changed, and that margins were cut off."""
    notes = []
    if wanted is not None and wanted != target:
        notes.append(
            f"size {wanted[0]}x{wanted[1]} became {target[0]}x{target[1]}: both sides must be"
            f" multiples of {multiple}"
        )
    if scaled != target:
        cut = scaled[0] - target[0], scaled[1] - target[1]
        notes.append(
            f"the picture was scaled to {scaled[0]}x{scaled[1]} and cropped to"
            f" {target[0]}x{target[1]} ({cut[0]} pixels of width, {cut[1]} of height cut off)"
        )
    return tuple(notes)


def apply_fit(image: Picture, fit: Fit) -> UInt8[np.ndarray, "h w 3"]:
    """Scale (bilinear, antialiased when shrinking) and crop an image as planned."""
    scaled = Image.fromarray(image)
    if fit.scaled != fit.source:
        scaled = scaled.resize(fit.scaled, Image.Resampling.BILINEAR)
    (left, top), (width, height) = fit.offset, fit.size
    return np.array(scaled.crop((left, top, left + width, top + height)))


def fit_image(
    image: Picture, multiple: int, *, short_side: int = 0, size: object = None
) -> tuple[UInt8[np.ndarray, "h w 3"], Fit]:
    """Scale and crop an image to a model's grid; see `plan_fit` for the arguments."""
    height, width = image.shape[:2]
    fit = plan_fit((width, height), multiple, short_side=short_side, size=size)
    return apply_fit(image, fit), fit


def fit_motion(motion: Motion, fit: Fit) -> tuple[Motion, tuple[str, ...]]:
    """The motion on the fitted image, and notes on what was left out.

    A motion drawn on another size is first rescaled to the image's. Pins in the cropped margins
    are left out (a note says so).

    Raises:
        InputError: a track starts in the cropped margin, where there is nothing to move.
    """
    (left, top), (width, height) = fit.offset, fit.size
    scaled = motion.resized(fit.scaled)

    def seen(x: float, y: float) -> bool:
        return 0 <= x - left < width and 0 <= y - top < height

    for number, track in enumerate(scaled.tracks, start=1):
        if not seen(*track.points[0]):
            raise InputError(
                f"track {number} starts in the margin that is cropped off to make the picture"
                f" {width}x{height}: start it further inside, or ask for another size"
            )
    kept = replace(scaled, pins=[pin for pin in scaled.pins if seen(*pin)])
    notes, drawn_pins = [], len(scaled.pins)
    if len(kept.pins) < drawn_pins:
        lost = drawn_pins - len(kept.pins)
        notes.append(f"{lost} of {drawn_pins} pins lie in the cropped margin and are left out")
    if not 0.98 < motion.size[0] * fit.source[1] / (motion.size[1] * fit.source[0]) < 1.02:
        drawn, found = "x".join(map(str, motion.size)), "x".join(map(str, fit.source))
        notes.append(f"the motion was drawn on {drawn} and is stretched to the {found} image")
    fitted = kept.mapped(
        lambda x, y: (x - left, y - top),
        fit.size,
        lambda area: area[top : top + height, left : left + width],
    )
    return fitted, tuple(notes)


def to_unit(image: UInt8[np.ndarray, "*T H W 3"]) -> Float[Tensor, "*T 3 H W"]:
    """uint8 pixels -> float32 in [0, 1], channel first."""
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).float() / 255


def to_uint8(image: Float[Tensor, "*T 3 H W"]) -> UInt8[np.ndarray, "*T H W 3"]:
    """Floats in [0, 1], channel first -> uint8 pixels; values outside are clipped."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()
