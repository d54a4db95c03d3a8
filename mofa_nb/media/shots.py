"""Where a film cuts from one shot to the next."""

import numpy as np
from jaxtyping import Float, UInt8

THUMBNAIL = 32
FLASH = 6  # frames over which a flash may last
CUT = 0.06  # change of colour from which on a step may be a cut


def shot_starts(change: Float[np.ndarray, " steps"], cut: float = CUT) -> list[int]:
    """First frames of the shots, from the mean change between neighbouring frames ([0, 1]): a cut
    changes much more than the frames around it do."""
    starts = [0]
    for i, value in enumerate(change):
        around = np.concatenate([change[max(i - 5, 0) : i], change[i + 1 : i + 6]])
        usual = float(np.median(around)) if len(around) else 0.0
        if value > max(cut, 3.5 * usual):
            starts.append(i + 1)
    return starts


def first_cut(frames: UInt8[np.ndarray, "T H W 3"]) -> int | None:
    """The frame with which a second shot begins, if there is one; a flash is none."""
    import cv2

    side = (THUMBNAIL, THUMBNAIL)
    small = [cv2.resize(frame, side, interpolation=cv2.INTER_AREA).mean(-1) for frame in frames]
    small = np.stack(small) / 255
    change = np.abs(np.diff(small, axis=0)).mean((1, 2))
    for start in shot_starts(change)[1:]:
        before, after = small[max(start - FLASH, 0) : start], small[start : start + FLASH]
        if np.abs(before[:, None] - after).mean((2, 3)).min() > change[start - 1] / 2:
            return start
    return None
