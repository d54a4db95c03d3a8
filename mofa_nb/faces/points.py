"""478 landmarks to the 68 that drive the adapter; smoothing, short gaps, and landmark files."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import find_objects, label

from mofa_nb.checks import File, InputError, Size, existing_file, shown

# The detector's vertex for each of the 68 points in the usual order (jaw 0-16, brows 17-26, nose
# 27-35, eyes 36-47, mouth 48-67); the ends of the jaw line (0-2, 14-16) are approximate.
VERTEX_OF_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
# Those that AniPortrait draws: other spots of lips and nose, and the jaw line from ear to ear.
ANIPORTRAIT_68 = (
    *(234, 93, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 323, 454),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 6, 195, 4, 239, 241, 19, 461, 459),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178),
)
EYE_CORNERS = (33, 133, 362, 263)
LONGEST_GAP = 0.4  # seconds
LONGEST = 10_000  # frames that a face is driven for, unless a clip asks for fewer
# One-Euro filter (Casiez, Roussel, Vogel 2012): cutoff at rest in Hz, and how fast it opens with
# speed, measured in distances between the eyes per second
REST_CUTOFF, SPEED_GAIN, SPEED_CUTOFF = 1.5, 3.0, 1.0
SMALLEST, SMALLEST_SHARE = 4.0, 0.02  # pixels, or of the picture's side, that a face spans
OUTSIDE_SHARE = 0.25  # of the picture's side that landmark files may lie outside

Points = Float[np.ndarray, "T P C"]
Marks = Float[np.ndarray, "T 68 2"]
Times, Found = Float[np.ndarray, " T"], Bool[np.ndarray, " T"]


def to_68(points: Float[np.ndarray, "*batch P C"]) -> Float[np.ndarray, "*batch 68 2"]:
    """The 68 points (x, y) out of the detector's 478 (or the mesh's 468)."""
    return points[..., list(VERTEX_OF_68), :2]


def eye_distance(points: Float[np.ndarray, "*batch P C"]) -> Float[np.ndarray, "*batch"]:
    """Pixels between the middles of the eyes; `points` are 478 (468) or 68 of them."""
    corners = (36, 39, 42, 45) if points.shape[-2] == 68 else EYE_CORNERS
    right, left = points[..., corners[:2], :2].mean(-2), points[..., corners[2:], :2].mean(-2)
    return np.asarray(np.linalg.norm(left - right, axis=-1))


def smooth(points: Points, fps: float | np.ndarray) -> Points:
    """One-Euro filter, forwards and backwards, averaged: still points stop trembling, fast ones
    hardly lag. `fps` is one number, or the momentary ones [T - 1] from frame to frame."""
    if not np.min(fps) > 0:
        raise InputError(f"frames per second must be positive, but {shown(fps)} came")
    unit = max(float(eye_distance(points).mean()), 1e-6)
    rates = np.broadcast_to(fps, len(points) - 1)
    back = _one_euro(points[::-1], rates[::-1], unit)[::-1]
    return (_one_euro(points, rates, unit) + back) / 2


def _one_euro(points: np.ndarray, rates: np.ndarray, unit: float) -> np.ndarray:
    def alpha(cutoff):
        return 1 / (1 + fps / (2 * np.pi * cutoff))

    out = np.empty_like(points, dtype=np.float64)
    out[0] = points[0]
    speed = np.zeros_like(out[0])
    for t, fps in enumerate(rates, start=1):
        latest = (points[t] - points[t - 1]) * fps / unit
        speed += alpha(SPEED_CUTOFF) * (latest - speed)
        cutoff = REST_CUTOFF + SPEED_GAIN * np.abs(speed)
        out[t] = out[t - 1] + alpha(cutoff) * (points[t] - out[t - 1])
    return out


def resampled(
    points: Points, fps: float | np.ndarray, wanted: float, count: int = 0, most: int = 0
) -> Points:
    """Points read off at another frame rate, straight lines in between; `fps` may be the frames'
    times, seconds, from 0. They last as long, at least two frames, at most `most` or `LONGEST`
    (InputError); of `count` frames those beyond the points stand still."""
    times = fps if isinstance(fps, np.ndarray) else np.arange(len(points)) / fps
    lasting = max(2, int(np.floor(times[-1] * wanted + 1e-6)) + 1)
    if not (count or most) and lasting > LONGEST:
        ends = f"must end within {LONGEST / wanted:.0f} s, but it lasts {times[-1]:.0f} s"
        raise InputError(f"what drives the face {ends}: follow a part of it")
    frames = np.arange(count or min(lasting, most or lasting))
    at = np.interp(frames / wanted, times, np.arange(len(points)))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(points) - 1)
    weight = (at - low)[:, None, None]
    return points[low] * (1 - weight) + points[high] * weight


def bridge_gaps(points: Points, found: Found, times: Times) -> tuple[Points, tuple[str, ...]]:
    """Frames without a face, filled by a straight line between their neighbours, and a note for
    each gap. In one of more than 0.4 seconds the last pose is held until as long before the face
    comes back; at both ends the nearest one stands still. InputError: no face at all."""
    if not found.any():
        raise InputError("no face was found in any frame of the driving video: use another")
    notes, filled, end = [], points.copy(), len(points)
    for (gap,) in find_objects(label(~found)[0]):
        first, stop = gap.start, gap.stop
        seconds = times[min(stop, end - 1)] - times[first]
        is_short = stop == first + 1 or seconds <= LONGEST_GAP + 1e-6
        if first == 0 or stop == end:
            filled[gap] = points[stop if first == 0 else first - 1]
        else:
            moving = times[stop] - times[first - 1] if is_short else LONGEST_GAP
            weight = (1 + (times[gap] - times[stop]) / moving).clip(0)[:, None, None]
            filled[gap] = points[first - 1] + weight * (points[stop] - points[first - 1])
        held = f"its {'first' if first == 0 else 'last'} pose is held"
        until = "the end" if stop == end else f"{times[stop]:.2f} seconds"
        hidden = f"the driving face is hidden from {times[first]:.2f} seconds to {until}"
        notes.append(f"{hidden}: {'its landmarks are bridged' if is_short else held}")
    return filled, tuple(notes)


def read_landmarks(path: File, size: Size | None = None) -> Marks:
    """A landmark file (.npy) as SadTalker or AniPortrait writes it: [T, 68, 2] pixels, or 468 or
    478 points, of which AniPortrait's 68 are taken; a third coordinate is left out. `size`: (width,
    height) of their picture."""
    path = existing_file(path, "the landmark file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # shape and type before values
    except Exception as error:  # a damaged header can make the reader stumble in any way
        wrong = f"{path} must be one whole array of numbers, but something else, or less, came"
        raise InputError(f"{wrong}: save [frames, 68, 2] with numpy.save") from error
    return check_landmarks(array, size, f"the landmarks in {path}")


def check_landmarks(array: Any, size: Size | None = None, what: str = "landmarks") -> Marks:
    """The 68 points, float64; refused if not finite, or no face in the picture."""
    is_array = isinstance(array, np.ndarray)
    shape = array.shape if is_array and array.dtype.kind in "fiu" else ()
    if len(shape) != 3 or shape[1] not in (68, 468, 478) or shape[2] not in (2, 3):
        came = f"{array.dtype.name} {list(array.shape)}" if is_array else shown(array)
        wanted = "real numbers in the shape [frames, 68, 2] (or 468 or 478 points)"
        raise InputError(f"{what} must be {wanted}, but {came} came: save the points' pixels alone")
    if len(array) < 2:
        raise InputError(f"{what} must cover at least 2 frames, but {len(array)} came")
    points = slice(None) if array.shape[1] == 68 else list(ANIPORTRAIT_68)
    array = array[:, points, :2].astype(np.float64)
    bad = ~np.isfinite(array).all((1, 2))
    _refuse_frames(bad, f"{what} hold NaN or infinite values", "fill or remove them")
    smallest = max(SMALLEST, SMALLEST_SHARE * min(size or (0,)))
    if size is not None:
        far = np.abs(array / size - 0.5).max((1, 2)) > 0.5 + OUTSIDE_SHARE
        outside = (np.abs(array / size - 0.5) > 0.5).any(-1).mean(1) > 0.5
        wrong = f"{what} lie far or mostly outside the {size[0]}x{size[1]} picture"
        _refuse_frames(far | outside, wrong, "give them in that picture's pixels")
    wrong = f"{what} must be pixels (x, y) of the photograph, but span less than {smallest:.0f}"
    small = np.ptp(array, axis=1).min(-1) < smallest
    _refuse_frames(small, f"{wrong} pixels", "scale them, or leave out frames without a face")
    return array


def _refuse_frames(bad: np.ndarray, sentence: str, remedy: str) -> None:
    if bad.any():
        raise InputError(f"{sentence}, first in frame {int(bad.argmax())}: {remedy}")
