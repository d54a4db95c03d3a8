"""Which passages of a video are worth training on: inside one shot, lively, not wild."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mofa_nb.checks import InputError
from mofa_nb.media.shots import shot_starts

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
THUMB_HEIGHT = 64
LIVELY = (5.0, 48.0)  # motion over a clip, pixels at 128 px height
WANTED = 20.0  # the stride whose motion comes nearest to this is taken
MAX_STRIDE = 3


@dataclass(frozen=True)
class Window:
    """Frames start, start + stride, ... of one video file (name relative to `videos/`)."""

    video: str
    start: int
    stride: int

    def frames(self, num_frames: int) -> list[int]:
        """The frame numbers of the clip."""
        return [self.start + self.stride * t for t in range(num_frames)]


def video_files(folder: str | Path) -> list[Path]:
    """The videos of a folder in the order of their names; an empty list if there are none."""
    where = Path(folder) / "videos"
    files = where.iterdir() if where.is_dir() else ()
    return sorted(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)


def video_frames(path: Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB frames in order.

    Raises:
        InputError: the file cannot be read as a video.
    """
    video = cv2.VideoCapture(str(path))
    read, frame = video.read()
    if not read:
        raise InputError(f"{path.name} cannot be read as a video: convert it to H.264 mp4")
    while read:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        read, frame = video.read()
    video.release()


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


def find_windows(path: str | Path, num_frames: int = 14, hop: int = 8) -> list[Window]:
    """The lively passages of a video, each inside one shot.

    Args:
        num_frames: of a clip.
        hop: frames between the starts of neighbouring clips.
    """
    path = Path(path)
    change, motion = video_changes(path)
    starts = shot_starts(change)
    travelled = np.concatenate([[0.0], np.cumsum(motion)])
    windows = []
    for first, last in zip(starts, [*starts[1:], len(change) + 1], strict=True):
        for start in range(first, last, hop):
            best = None
            for stride in range(1, MAX_STRIDE + 1):
                end = start + stride * (num_frames - 1)
                if end >= last:
                    break
                length = travelled[end] - travelled[start]
                off = abs(np.log(max(length, 1e-6) / WANTED))
                if LIVELY[0] <= length <= LIVELY[1] and (best is None or off < best[0]):
                    best = (off, Window(path.name, start, stride))
            if best is not None:
                windows.append(best[1])
    return windows


def thinned(windows: list[Window], count: int) -> list[Window]:
    """At most `count` of them, evenly spread."""
    if len(windows) <= count:
        return windows
    return [windows[i] for i in np.linspace(0, len(windows) - 1, count).round().astype(int)]


def write_index(folder: str | Path, clips: int = 600, num_frames: int = 14) -> list[Window]:
    """Find the windows of all videos and write them to `folder`/index.json.

    Raises:
        InputError: the folder has no videos, or one cannot be read.
    """
    files = video_files(folder)
    if not files:
        raise InputError(f"no videos in {Path(folder) / 'videos'}: put mp4 files there")
    windows = [window for file in files for window in find_windows(file, num_frames)]
    windows = thinned(windows, clips)
    target = Path(folder) / "index.json"
    temporary = target.with_suffix(".tmp")
    document = {"version": 1, "num_frames": num_frames, "windows": [asdict(w) for w in windows]}
    temporary.write_text(json.dumps(document))
    os.replace(temporary, target)
    return windows


def read_index(folder: str | Path, num_frames: int) -> list[Window]:
    """The windows of `folder`/index.json, or found anew where there is none that fits."""
    target = Path(folder) / "index.json"
    if target.exists():
        document = json.loads(target.read_text())
        if document["num_frames"] >= num_frames:
            return [Window(**entry) for entry in document["windows"]]
    return [w for file in video_files(folder) for w in find_windows(file, num_frames)]
