"""How fast a clip runs and how long it lasts: one range, one message, wherever it is asked."""

from mofa_nb.checks import finite_number, number_between
from mofa_nb.config import RANGES

SLOWEST, FASTEST = RANGES["fps"]  # frames per second
SLOWEST_FACE = 12.5  # slower, speech falls between the frames
LONG = 4  # times the work of the usual clip, from which on it is said
FEWEST, MOST = RANGES["num_frames"]  # frames of a clip


def long_note(size: tuple[int, int], frames: float, steps: int, usual: tuple[int, int, int]) -> str:
    """About how long a clip takes that is much more work than the usual one; "" if it is not.
    `size`: (width, height); `usual`: the shorter side (of 3:2), frames and steps of the model's."""
    side, own_frames, own_steps = usual
    area = size[0] * size[1]
    work = area / (1.5 * side**2 or area) * frames / own_frames * steps / own_steps
    if work < LONG:
        return ""
    lasting = f"{work:.0f} minutes" if work < 100 else f"{work / 60:.0f} hours"
    times = f"about {work:.0f} times the work of the model's usual one"
    return f"this clip is {times}: where that takes a minute, it takes about {lasting}"


def clip_rate(fps: object, has_face: bool, what: str = "fps") -> float:
    """Frames per second; InputError for a rate at which no clip, or none with a face, runs."""
    if has_face:
        return number_between(fps, SLOWEST_FACE, FASTEST, f"{what} of a clip with a face")
    return number_between(fps, SLOWEST, FASTEST, what)


def own_rate(fps: float, has_face: bool) -> float:
    """Frames per second where nothing is said, from those of the model."""
    return max(fps, SLOWEST_FACE) if has_face else fps


def frames_in(seconds: object, fps: float, what: str = "seconds") -> int:
    """Frames of a clip of so many seconds; InputError when it would be none or far too many."""
    finite_number(seconds, what)
    what = f"{what} at {fps:g} frames per second"
    return max(FEWEST, round(number_between(seconds, FEWEST / fps, MOST / fps, what) * fps))
