"""How a picture and its motion are scaled and cropped to a model's grid."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import LARGEST_CLIP, InputError, Size, image_size
from mofa_nb.media.images import Picture
from mofa_nb.motion.motion import Motion

SQUARES = 4  # of the short side, that a clip of extreme shape covers at most


@dataclass(frozen=True)
class Fit:
    """How an image was scaled and cropped to a model's grid; the same is done to its motion."""

    source: Size  # (width, height) of the image as read
    scaled: Size  # likewise, before cropping
    size: Size  # of the result
    offset: tuple[int, int]  # (left, top) at which it lies
    notes: tuple[str, ...] = ()  # what a user should know, one sentence each


def plan_fit(source: Size, multiple: int, *, short_side: int = 0, size: object = None) -> Fit:
    """Decide how an image of `source` (width, height) comes onto a grid of `multiple` pixels.

    It is scaled to the shorter side, then each side is cropped, centred, to a multiple (the
    release: 512 and 64, the longer side cut to whole pixels, not rounded). One more than four times
    as long as short is scaled to less, so that a clip covers four squares at most. `size`: (width,
    height) to cover instead. InputError: too short a side, or too large an area."""
    (shorter, longer), notes = sorted(source), []
    extreme = longer > SQUARES * shorter and short_side > multiple
    side = short_side * (SQUARES * shorter / longer) ** 0.5
    side = max(int(side // multiple), 1) * multiple if extreme else short_side
    own = round(source[0] * side / shorter), round(source[1] * side / shorter)
    wanted = scaled = image_size(own if size is None else size, largest=LARGEST_CLIP)
    target = wanted[0] // multiple * multiple, wanted[1] // multiple * multiple
    if min(target) < multiple:
        small = f"size {_named(wanted)} is too small for this model"
        raise InputError(f"{small}: each side must be at least {multiple} pixels")
    if size is not None:
        cover = max(t / s for t, s in zip(target, source, strict=True))
        scaled = tuple(max(t, round(s * cover)) for t, s in zip(target, source, strict=True))
        if wanted != target:
            became = f"size {_named(wanted)} became {_named(target)}"
            notes.append(f"{became}: both sides must be multiples of {multiple}")
    elif extreme:
        longest = SQUARES * short_side**2 // min(target) // multiple * multiple
        target = min(target[0], longest), min(target[1], longest)
        shape = "wide as high" if source[0] > source[1] else "high as wide"
        smaller = "the clip shows it smaller than usual: --size makes it larger, and slower"
        notes.append(f"the picture is {longer / shorter:.0f} times as {shape}, so {smaller}")
    cut = scaled[0] - target[0], scaled[1] - target[1]
    if any(cut):
        lost = f"({cut[0]} pixels of width, {cut[1]} of height cut off)"
        cropped = f"scaled to {_named(scaled)} and cropped to {_named(target)}"
        notes.append(f"the picture was {cropped} {lost}")
    return Fit(source, scaled, target, (round(cut[0] / 2), round(cut[1] / 2)), tuple(notes))


def _named(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def fit_image(
    image: Picture, multiple: int, *, short_side: int = 0, size: object = None
) -> tuple[UInt8[np.ndarray, "h w 3"], Fit]:
    """An image scaled (bilinear, antialiased) and cropped to a model's grid as `plan_fit` says."""
    fit = plan_fit(image.shape[1::-1], multiple, short_side=short_side, size=size)
    scaled = Image.fromarray(image).resize(fit.scaled, Image.Resampling.BILINEAR)
    (left, top), (width, height) = fit.offset, fit.size
    return np.array(scaled.crop((left, top, left + width, top + height))), fit


def fit_motion(motion: Motion, fit: Fit) -> tuple[Motion, tuple[str, ...]]:
    """The motion rescaled to the fitted image, and notes on what was left out: pins in the cropped
    margin. InputError: a track starts there, where there is nothing to move."""
    (left, top), (width, height) = fit.offset, fit.size
    (wide, high), (x, y) = motion.size, np.divide(motion.size, fit.scaled).tolist()
    box = left * x, top * y, min((left + width) * x, wide), min((top + height) * y, high)
    scaled = motion.filmed(box).resized(fit.scaled)

    def seen(x: float, y: float) -> bool:
        return 0 <= x - left < width and 0 <= y - top < height

    for number, track in enumerate(scaled.tracks, start=1):
        if not seen(*track.points[0]):
            margin = f"the margin that is cropped off to make the picture {width}x{height}"
            raise InputError(f"track {number} starts in {margin}: start it further inside")
    pins = [pin for pin in scaled.pins if seen(*pin)]
    notes, total = [], len(scaled.pins)
    if lost := total - len(pins):
        notes.append(f"{lost} of {total} pins lie in the cropped margin and are left out")
    if not 0.98 < wide * fit.source[1] / (high * fit.source[0]) < 1.02:
        stretched = f"stretched to the {_named(fit.source)} image"
        notes.append(f"the motion was drawn on {_named(motion.size)} and is {stretched}")
    fitted = replace(scaled, pins=pins).mapped(
        lambda x, y: (x - left, y - top),
        fit.size,
        lambda area: area[top : top + height, left : left + width],
    )
    return fitted, tuple(notes)
