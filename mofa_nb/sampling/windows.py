"""Periodic sampling: a long clip is denoised in overlapping windows that share frame 0."""

from dataclasses import dataclass

from mofa_nb.checks import InputError


@dataclass(frozen=True)
class Window:
    """Frame 0 and the frames [start, stop) of a clip, seen by the model at once."""

    start: int  # at least 1
    stop: int
    first: bool  # whether its frame 0 is the clip's; the other windows' are thrown away
    around: int = 0  # so many frames from 1 on follow, in a clip that ends where it began

    @property
    def frames(self) -> list[int]:
        """Indices of the frames the model is given."""
        return [0, *range(self.start, self.stop), *range(1, self.around + 1)]

    @property
    def own(self) -> slice:
        """Which of them count."""
        return slice(0 if self.first else 1, None)

    def weights(self, fade: bool) -> list[int]:
        """How much each of `own` counts in the average with other windows: all alike (paper,
        release), or fading towards both ends, so that none ends with a jump."""
        count = self.stop - self.start + self.around
        inner = [min(k + 1, count - k) if fade else 1 for k in range(count)]
        return [1, *inner] if self.first else inner


def periodic_windows(
    num_frames: int,
    window: int,
    stride: int | None = None,
    *,
    as_released: bool = False,
    wrap: bool = False,
) -> list[Window]:
    """Windows of `window` frames (frame 0 among them), `stride` apart, the last one at the end.

    The paper: window 14, stride 7 (half a window, the default); the release: 25 and 12, and
    (`as_released`) the last window is added even where it repeats the one before it. To `wrap`, one
    more of several windows joins the clip's end to its beginning. InputError: a window of fewer
    than two frames, or a stride that leaves frames out."""
    stride = window // 2 if stride is None else stride
    if window < 2 or not 1 <= stride < window:
        expected = "windows need at least 2 frames and a stride from 1 to window - 1"
        raise InputError(f"{expected}, but window {window} and stride {stride} came")
    if num_frames < window or (num_frames == window and not as_released):
        return [Window(1, num_frames, True)]
    last = num_frames - window + 1
    starts = list(range(1, last + 1, stride))
    if as_released or starts[-1] != last:
        starts.append(last)
    windows = [Window(a, a + window - 1, k == 0) for k, a in enumerate(starts)]
    before = window // 2
    around = [Window(num_frames - before, num_frames, False, window - 1 - before)]
    return windows + around if wrap else windows
