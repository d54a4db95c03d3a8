"""Unlimited undo and redo of Motions."""

import zlib
from dataclasses import replace

import numpy as np

from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pad.strokes import inside, whole

MASKS = ("brush", "mask")  # the fields of a Motion that are painted
Packed = tuple[Motion, dict[str, bytes]]


class History:
    """What came before the present motion, and what was taken back."""

    def __init__(self):
        self.past: list[Packed] = []
        self.future: list[Packed] = []

    def record(self, present: Motion) -> None:
        """Remember the present before an edit; what was taken back is forgotten."""
        self.past.append(_packed(present))
        self.future.clear()

    def undo(self, present: Motion) -> Motion:
        """The motion before the last edit; the present one itself when there is none."""
        return _step(self.past, self.future, present)

    def redo(self, present: Motion) -> Motion:
        """The motion taken back last; the present one itself when there is none."""
        return _step(self.future, self.past, present)


def tidied(motion: Motion) -> Motion:
    """The motion in hundredths of a pixel, starts and pins clear of the far edge."""
    box = whole(motion.size)

    def tidy_track(track: Track) -> Track:
        rest = tuple((round(x, 2), round(y, 2)) for x, y in track.points[1:])
        return replace(track, points=(inside(*track.points[0], box), *rest))

    return replace(
        motion,
        tracks=tuple(tidy_track(track) for track in motion.tracks),
        pins=tuple(inside(x, y, box) for x, y in motion.pins),
    )


def _step(source: list[Packed], target: list[Packed], present: Motion) -> Motion:
    if not source:
        return present
    target.append(_packed(present))
    plain, masks = source.pop()
    (width, height), painted = plain.size, {}
    for name, data in masks.items():
        bits = np.unpackbits(np.frombuffer(zlib.decompress(data), np.uint8), count=width * height)
        painted[name] = bits.reshape(height, width) * np.uint8(255)
    return replace(plain, **painted)


def _packed(motion: Motion) -> Packed:
    """A motion for the history: its masks shrink to about a kilobyte."""
    masks = {name: getattr(motion, name) for name in MASKS if getattr(motion, name) is not None}
    bits = {name: zlib.compress(np.packbits(mask > 0), 1) for name, mask in masks.items()}
    return replace(motion, **dict.fromkeys(MASKS)), bits
