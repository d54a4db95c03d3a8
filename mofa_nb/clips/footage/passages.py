"""Which passages of a video are worth training on: inside one shot, lively, not wild."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from mofa_nb.media.shots import CUT, shot_starts
from mofa_nb.media.video import frame_rate, video_frames

THUMB_HEIGHT = 64
LIVELY = (5.0, 48.0)  # motion over a clip, pixels at 128 px height
WANTED = 20.0  # the stride whose motion comes nearest to this is taken
MAX_STRIDE = 3


@dataclass(frozen=True)
class Search:
    """What makes a passage of a video a clip.

    Attributes:
        num_frames: of a clip.
        hop: frames between the starts of neighbouring clips.
        motion: over a clip, least and most, in pixels at 128 px height.
        cut: mean change of colour between two frames, [0, 1], from which on it may be a cut.
        rate: frames per second of the clips; 0 takes every first to third frame, by the motion.
    """

    num_frames: int = 14
    hop: int = 8
    motion: tuple[float, float] = LIVELY
    cut: float = CUT
    rate: float = 0.0


@dataclass(frozen=True)
class Window:
    """Frames start, start + stride, ... of one video file (its path in the folder)."""

    video: str
    start: int
    stride: int

    def frames(self, num_frames: int) -> list[int]:
        """The frame numbers of the clip."""
        return [self.start + self.stride * t for t in range(num_frames)]


def video_changes(
    path: Path,
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Mean change of colour ([0, 1]), and motion (pixels at 128 px height), per frame step.

    Motion is the 90th percentile of a coarse flow's length.
    """
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    before, changes, motions = None, [], []
    for frame in video_frames(path):
        width = max(16, round(frame.shape[1] * THUMB_HEIGHT / frame.shape[0]))
        thumb = cv2.resize(frame, (width, THUMB_HEIGHT), interpolation=cv2.INTER_AREA)
        if before is not None:
            changes.append(float(cv2.absdiff(thumb, before).mean()) / 255)
            grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, thumb))
            length = np.linalg.norm(finder.calc(*grey, None), axis=-1)
            motions.append(float(np.percentile(length, 90)) * 128 / THUMB_HEIGHT)
        before = thumb
    return np.array(changes), np.array(motions)


def find_windows(
    path: str | Path, num_frames: int = 14, hop: int = 8, *, search: Search | None = None
) -> list[Window]:
    """The lively passages of a video, each inside one shot.

    Args:
        num_frames: of a clip.
        hop: frames between the starts of neighbouring clips.
        search: further limits.
    Raises:
        InputError: the file cannot be read as a video.
    """
    path, search = Path(path), search or Search()
    change, motion = video_changes(path)
    starts = shot_starts(change, search.cut)
    travelled = np.concatenate([[0.0], np.cumsum(motion)])
    strides = range(1, MAX_STRIDE + 1)
    if search.rate:
        stride = max(1, round(frame_rate(path) / search.rate))
        strides = range(stride, stride + 1)
    windows = []
    for first, last in zip(starts, [*starts[1:], len(change) + 1], strict=True):
        for start in range(first, last, hop):
            steps = {s: start + s * (num_frames - 1) for s in strides}
            lengths = {s: travelled[e] - travelled[start] for s, e in steps.items() if e < last}
            least, most = search.motion
            fit = {s: n for s, n in lengths.items() if least <= n <= most}
            if fit:
                nearest = min(fit, key=lambda s: abs(np.log(max(fit[s], 1e-6) / WANTED)))
                windows.append(Window(path.name, start, nearest))
    return windows


def thinned(windows: list[Window], count: int) -> list[Window]:
    """At most `count` of them, evenly spread."""
    if len(windows) <= count:
        return windows
    return [windows[i] for i in np.linspace(0, len(windows) - 1, count).round().astype(int)]
