"""How a picture and its motion are scaled and cropped to a model's grid."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import InputError, clip_size
from mofa_nb.media.images import Picture
from mofa_nb.motion.motion import Motion

SQUARES = 4  # of the short side, that a clip of extreme shape covers at most


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
            image is scaled to cover it and cropped, centred. Without it a picture more than four
            times as long as it is short is scaled to less, so that a clip takes no longer than
            one of four squares, and a still longer one is cropped.
    Raises:
        InputError: a side would be shorter than `multiple`, or the area too large.
    """
    width, height = source
    own, extreme = _own_size(width, height, multiple, short_side)
    wanted = clip_size(own if size is None else size)
    target = wanted[0] // multiple * multiple, wanted[1] // multiple * multiple
    if min(target) < multiple:
        raise InputError(
            f"size {wanted[0]}x{wanted[1]} is too small for this model: each side must be at"
            f" least {multiple} pixels"
        )
    if size is None:
        scaled = wanted
        most = SQUARES * short_side**2 // min(target) // multiple * multiple
        target = (min(target[0], most), min(target[1], most)) if extreme else target
    else:
        cover = max(target[0] / width, target[1] / height)
        scaled = max(target[0], round(width * cover)), max(target[1], round(height * cover))
    offset = round((scaled[0] - target[0]) / 2), round((scaled[1] - target[1]) / 2)
    notes = _fit_notes(scaled, target, None if size is None else wanted, multiple)
    notes = (*extreme, *notes) if size is None else notes
    return Fit(source, scaled, target, offset, notes)


def _own_size(
    width: int, height: int, multiple: int, short_side: int
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Scaled to the short side; a picture of extreme shape to less, which a note says."""
    shorter, longer = sorted((width, height))
    notes = ()
    if longer > SQUARES * shorter and short_side > multiple:
        fitting = short_side * (SQUARES * shorter / longer) ** 0.5
        short_side = max(int(fitting // multiple), 1) * multiple
        shape = "wide as high" if width > height else "high as wide"
        notes = (
            f"the picture is {longer / shorter:.0f} times as {shape}, so the clip shows it smaller"
            " than usual: --size makes it larger, and slower",
        )
    return (round(width * short_side / shorter), round(height * short_side / shorter)), notes


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
    (wide, high), (x, y) = (
        motion.size,
        (m / s for m, s in zip(motion.size, fit.scaled, strict=True)),
    )
    box = left * x, top * y, min((left + width) * x, wide), min((top + height) * y, high)
    scaled = motion.filmed(box).resized(fit.scaled)

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
