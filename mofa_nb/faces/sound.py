"""Sound files in, and clips that carry their sound."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError, existing_file

SPEECH_RATE = 16_000  # samples per second that the phoneme recogniser hears
CLIP_RATE = 44_100  # of the sound in a saved clip
SHORTEST_SECONDS = 0.3
SILENT_PEAK = 1e-3


@dataclass(frozen=True)
class Sound:
    """One channel of sound. samples: [-1, 1] at `rate` per second."""

    samples: Float[np.ndarray, " n"]
    rate: int = SPEECH_RATE

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.rate

    @property
    def is_silent(self) -> bool:
        """Nothing above -60 dB."""
        return float(np.abs(self.samples).max(initial=0.0)) < SILENT_PEAK

    def loudness(self, times: Float[np.ndarray, " T"], window: float | int = 0.05):
        """Root mean square around each time, [T], 0 where the sound has ended."""
        power = np.concatenate([[0.0], np.cumsum(self.samples.astype(np.float64) ** 2)])
        edges = np.stack([times - window / 2, times + window / 2]) * self.rate
        low, high = np.clip(np.round(edges), 0, len(self.samples)).astype(int)
        return np.sqrt((power[high] - power[low]) / (window * self.rate))


def read_sound(path: str | os.PathLike) -> Sound:
    """Speech from wav, mp3, flac or a video's sound track: any rate, channels mixed to one.

    Raises:
        InputError: no such file, no sound in it, damaged, or shorter than 0.3 seconds.
    """
    import av

    path = existing_file(path, "the sound")
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SPEECH_RATE)
    parts = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path} holds no sound: use a wav, mp3 or flac file")
            for frame in container.decode(audio=0):
                parts += [piece.to_ndarray().ravel() for piece in resampler.resample(frame)]
            parts += [piece.to_ndarray().ravel() for piece in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"the sound {path} cannot be decoded ({error.strerror or error}):"
            " save it as wav, mp3 or flac"
        ) from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not np.isfinite(samples).all():
        raise InputError(f"the sound {path} holds NaN or infinite samples: save it again")
    sound = Sound(np.clip(samples, -1, 1).astype(np.float32))
    if sound.seconds < SHORTEST_SECONDS:
        raise InputError(
            f"the sound lasts {sound.seconds:.2f} seconds: speech of at least"
            f" {SHORTEST_SECONDS:g} seconds is needed"
        )
    return sound


def add_sound(video: str | os.PathLike, sound: str | os.PathLike, out: str | os.PathLike) -> None:
    """Copy a clip's pictures unchanged and put a sound beside them, both starting at zero.

    Args:
        video: an mp4. sound: any file that `read_sound` takes; cut at the clip's end.
        out: the new mp4 (may be `video` itself); it appears complete or not at all.
    Raises:
        InputError: a file is missing or cannot be decoded.
    """
    import av

    out = Path(out)
    for path in (Path(video), Path(sound)):
        if not path.is_file():
            raise InputError(f"{path} does not exist: check the path")
    partial = out.with_name(f"{out.stem}.partial.mp4")
    try:
        with contextlib.ExitStack() as stack:
            pictures = stack.enter_context(av.open(str(video)))
            voice = stack.enter_context(av.open(str(sound)))
            target = stack.enter_context(av.open(str(partial), "w"))
            _mux(pictures, voice, target)
        os.replace(partial, out)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{sound} cannot be put beside {video}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _mux(pictures, voice, target) -> None:
    source = pictures.streams.video[0]
    newer = hasattr(target, "add_stream_from_template")  # PyAV 14 and later
    copy = target.add_stream_from_template if newer else _add_stream_like(target)
    copied = copy(source)
    target.metadata.update(pictures.metadata)
    layout = "mono" if voice.streams.audio[0].channels == 1 else "stereo"
    spoken = target.add_stream("aac", rate=CLIP_RATE, layout=layout)
    for packet in pictures.demux(source):
        if packet.dts is not None:
            packet.stream = copied
            target.mux(packet)
    seconds = float(source.duration * source.time_base)
    for piece in _pieces(voice, layout, round(seconds * CLIP_RATE)):
        target.mux(spoken.encode(piece))
    target.mux(spoken.encode(None))


def _add_stream_like(target):
    return lambda source: target.add_stream(template=source)


def _pieces(voice, layout: str, samples: int):
    """Resampled sound in encoder-sized frames, `samples` long or as long as the file is."""
    import av

    resampler = av.AudioResampler(format="fltp", layout=layout, rate=CLIP_RATE)
    fifo = av.AudioFifo()
    for frame in voice.decode(audio=0):
        for piece in resampler.resample(frame):
            piece.pts = None
            fifo.write(piece)
    for piece in resampler.resample(None):
        piece.pts = None
        fifo.write(piece)
    at = 0
    while at < samples and fifo.samples:
        piece = fifo.read(min(1024, samples - at, fifo.samples))
        piece.pts = at
        at += piece.samples
        yield piece
