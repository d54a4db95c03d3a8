"""Clips on disk: mp4, GIF and WebP out, any video in."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import InputError, existing_file, shown

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg")


if TYPE_CHECKING:
    from av.container import InputContainer

Frames = UInt8[np.ndarray, "T H W 3"]
SUFFIXES = (".mp4", ".gif", ".webp")
USUAL_RATE = 25.0  # frames per second where a file does not say


def ready_mediapy() -> ModuleType:
    """mediapy, told to use the bundled ffmpeg where the system has none."""
    import mediapy

    if shutil.which("ffmpeg") is None:
        import imageio_ffmpeg

        mediapy.set_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    return mediapy


def write_clip(path: str | os.PathLike, frames: Frames, fps: float | int, title: str = "") -> None:
    """Save frames as a video; the file appears complete or not at all.

    Args:
        path: .mp4 (h264; an odd side is made even by repeating its last row), .gif or .webp (both
            endless loops).
        fps: frames per second.
        title: stored in an mp4's metadata, for example the model's name.
    Raises:
        InputError: another suffix, or no frames.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"a clip is saved as {', '.join(SUFFIXES)}, but {shown(path.name)} came")
    if len(frames) == 0:
        raise InputError("a clip needs at least one frame, but none came")
    partial = path.with_name(f"{path.stem}.partial{suffix}")
    try:
        if suffix == ".mp4":
            _write_mp4(partial, frames, fps, title)
        else:
            _write_animation(partial, frames, fps)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def clip_bytes(
    frames: Frames, fps: float | int, kind: str = "mp4", sound: Path | None = None
) -> bytes:
    """A clip as a file's content; with a sound, as an mp4 that plays it."""
    from mofa_nb.media.sound import add_sound

    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{kind}"
        write_clip(path, frames, fps)
        if sound is not None:
            add_sound(path, sound, path)
        return path.read_bytes()


def _write_mp4(path: Path, frames: Frames, fps: float | int, title: str) -> None:
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    even = np.pad(frames, odd, mode="edge")
    arguments = ["-movflags", "+faststart", "-metadata", f"title={title}"]
    try:
        ready_mediapy().write_video(path, even, fps=fps, crf=16, ffmpeg_args=arguments)
    except (RuntimeError, OSError) as error:  # the encoder tells only that it failed
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"the video encoder could not write the clip ({free / 1e6:.0f} MB are free)"
        ) from error


def _write_animation(path: Path, frames: Frames, fps: float | int) -> None:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    duration = max(20, round(1000 / fps))  # viewers slow down what is shorter
    options = {"quality": 85} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0, **options)


def read_video(path: str | os.PathLike, *, max_frames: int | None = None) -> Frames:
    """Decode a video (or GIF) to RGB frames, turned upright as players show them.

    Args:
        max_frames: stop after so many.
    Raises:
        InputError: no such file, or nothing that can be decoded.
    """
    frames = list(islice(video_frames(path), max_frames))
    if not frames:
        raise InputError(f"video {path} holds no frames: choose another")
    return np.stack(frames)


def video_frames(path: str | os.PathLike) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of `read_video` one by one, so that a long video needs no memory."""
    with _opened(path) as container:
        for frame in container.decode(video=0):
            turns = round(getattr(frame, "rotation", 0) / 90)  # anticlockwise; PyAV 14 and later
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def frame_rate(path: str | os.PathLike) -> float:
    """Frames per second of a video, 25 where the file does not say; fails as `read_video` does."""
    with _opened(path) as container:
        return float(container.streams.video[0].average_rate or USUAL_RATE)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator["InputContainer"]:
    """A file with pictures; whatever cannot be decoded in the block is one sentence."""
    import av

    path = existing_file(path, "video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(
                    f"video {path} holds no pictures: choose another, or if it holds sound, name"
                    " it .wav or .m4a"
                )
            yield container
    except InputError:
        raise
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"video {path} cannot be decoded ({reason}): save it again as h264 mp4"
        ) from error
