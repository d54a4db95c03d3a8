"""Clips on disk: mp4, GIF and WebP out, any video in."""

import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mofa_nb.checks import InputError, existing_file, shown

Frames = UInt8[np.ndarray, "T H W 3"]
SUFFIXES = (".mp4", ".gif", ".webp")


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
    """Decode a video (or GIF) to RGB frames.

    Args:
        max_frames: stop after so many.
    Raises:
        InputError: no such file, or nothing that can be decoded.
    """
    import av

    path = existing_file(path, "video")
    frames = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                if max_frames is not None and len(frames) >= max_frames:
                    break
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InputError(
            f"video {path} cannot be decoded ({error}): convert it to h264 mp4"
        ) from error
    if not frames:
        raise InputError(f"video {path} holds no frames: choose another")
    return np.stack(frames)
