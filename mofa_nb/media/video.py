"""Clips on disk: mp4, GIF and WebP out; any video in, whatever its name and claims; its cuts."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mofa_nb.checks import File, InputError, existing_file, refusing, shown, whole_file

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg")

Frame = UInt8[np.ndarray, "H W 3"]
TimedFrame = tuple[float, Frame]  # seconds, pixels
Frames = UInt8[np.ndarray, "T H W 3"]
SUFFIXES = (".mp4", ".gif", ".webp")
LONGEST_STEP = 10.0  # seconds between two frames that a timestamp is believed
SEEK_FROM = 5.0  # seconds; what lies before is skipped without decoding
USUAL_RATE = 25.0  # frames per second where a file does not say
LARGEST_FRAME = 2**26  # pixels
THUMBNAIL = 32
FLASH = 6  # frames over which a flash may last
CUT = 0.06  # change of colour from which on a step may be a cut
_MISSING = {
    "video": "holds no pictures: choose another, or if it holds sound, name it .wav or .m4a",
    "audio": "holds no sound: use a wav, mp3 or flac file",
}
_SAVED = {"video": "save it again as h264 mp4", "audio": "save it again as wav, mp3 or flac"}


@contextmanager
def opened(path: File, what: str, kind: str) -> Iterator["InputContainer"]:
    """A file that holds "video" or "audio"; what cannot be decoded is one sentence on `what`. Only
    that file is read, never what it may point at; tags in any encoding are let pass."""
    import av

    path = existing_file(path, what)
    options = {"protocol_whitelist": "file", "max_pixels": str(LARGEST_FRAME)}
    wrong = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)
    old = int(av.__version__.split(".")[0]) < 19  # later ones let them pass by themselves
    tags = {"metadata_errors": "replace"} if old else {}
    with (
        refusing(f"{what} {path} cannot be decoded", _SAVED[kind], *wrong),
        av.open(os.path.abspath(path), options=options, **tags) as container,
    ):
        if not getattr(container.streams, kind):
            raise InputError(f"{what} {path} {_MISSING[kind]}")
        yield container


def ready_mediapy() -> ModuleType:
    """mediapy, told to use the bundled ffmpeg where the system has none."""
    import mediapy

    if shutil.which("ffmpeg") is None:
        import imageio_ffmpeg

        mediapy.set_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    return mediapy


def write_clip(path: File, frames: Frames, fps: float, title: str = "") -> None:
    """Save frames as a video, complete or not at all: .mp4 (h264, `title` in its metadata; an odd
    side is made even by repeating its last row), .gif or .webp (both endless loops). InputError:
    another suffix, or no frames; OSError: the file cannot be written."""
    if (suffix := Path(path).suffix.lower()) not in SUFFIXES:
        came = f"{shown(Path(path).name)} came"
        raise InputError(f"a clip is saved as {', '.join(SUFFIXES)}, but {came}")
    if len(frames) == 0:
        raise InputError("a clip needs at least one frame, but none came")
    with whole_file(path) as partial:
        if suffix == ".mp4":
            _write_mp4(partial, frames, fps, title)
            return
        first, *rest = (Image.fromarray(frame) for frame in frames)
        duration = max(20, round(1000 / fps))  # viewers slow down what is shorter
        how = {"save_all": True, "append_images": rest, "duration": duration, "loop": 0}
        first.save(partial, **how, quality=85)


def _write_mp4(path: Path, frames: Frames, fps: float, title: str) -> None:
    _, height, width, _ = frames.shape
    even = np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    arguments = ["-movflags", "+faststart", "-metadata", f"title={title}"]
    try:
        ready_mediapy().write_video(path, even, fps=fps, crf=16, ffmpeg_args=arguments)
    except (RuntimeError, OSError) as error:  # the encoder tells only that it failed
        free = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free"
        raise OSError(f"the video encoder could not write the clip ({free})") from error


def read_video(path: File, *, max_frames: int | None = None, begin: float = 0.0) -> Frames:
    """Decode a video (or GIF) to RGB frames, turned upright as players show them, at most so many,
    from `begin` seconds on. InputError: no such file, or nothing to decode."""
    frames = [frame for _, frame in islice(timed_frames(path, begin), max_frames)]
    if not frames:
        raise InputError(f"video {path} holds no frames: choose another")
    return np.stack(frames)


def video_frames(path: File) -> Iterator[Frame]:
    """The frames of `read_video` one by one, so that a long video needs no memory."""
    return (frame for _, frame in timed_frames(path))


def timed_frames(path: File, begin: float = 0, end: float = math.inf) -> Iterator[TimedFrame]:
    """Frames from `begin` to before `end` with their times in seconds, 0 at the video's beginning.

    Phones and webcams film at a rate that varies, so a frame's number tells no time. Where a
    timestamp is missing, goes back or leaps by 10 seconds and more, the usual rate fills in.
    InputError: as `read_video`, and when the frames change their size."""
    with opened(path, "video", "video") as container:
        size = None
        for time, frame in _stamped(container, begin):
            if time >= end - 1e-6:
                return
            if time < begin - 1e-6:
                continue
            turns = round(frame.rotation / 90)  # anticlockwise
            pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            now = f"{pixels.shape[1]}x{pixels.shape[0]}"
            size = size or now
            if now != size:
                sizes = f"from {size} to {now} at {time:.2f} seconds"
                raise InputError(f"video {path} changes its size {sizes}: save it again at one")
            yield time, pixels


def _stamped(container, begin: float) -> Iterator[tuple]:
    """(seconds, frame), from a little before `begin`."""
    import av

    stream = container.streams.video[0]
    usual = 1 / float(stream.average_rate or USUAL_RATE)
    first = None if stream.start_time is None else float(stream.start_time * stream.time_base)
    if first is not None and begin > SEEK_FROM:
        with suppress(av.FFmpegError):  # what cannot be searched is decoded from its beginning
            container.seek(int((first + begin) * 1e6))
    time = None
    for frame in container.decode(stream):
        stamp = frame.time
        first = stamp if first is None else first
        if stamp is None:
            time = 0.0 if time is None else time + usual
        elif time is None:
            time = max(stamp - first, 0.0)
            first = stamp - time
        else:
            if not 0 < stamp - first - time < LONGEST_STEP:
                first = stamp - time - usual
            time = stamp - first
        yield time, frame


def frame_rate(path: File) -> float:
    """Frames per second of a video, 25 where the file does not say; fails as `read_video` does."""
    with opened(path, "video", "video") as container:
        return float(container.streams.video[0].average_rate or USUAL_RATE)


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


def first_cut(frames: Frames) -> int | None:
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
