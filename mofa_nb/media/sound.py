"""Sound files in, and clips that carry their sound."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError
from mofa_nb.media.container import opened

SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus")


SPEECH_RATE = 16_000  # samples per second that the phoneme recogniser hears
CLIP_RATE = 44_100  # of the sound in a saved clip
SHORTEST_SECONDS = 0.3
LONGEST_SECONDS = 800.0  # no clip lasts longer
SLOWEST_RATE = 2000  # samples a second of a file
SILENT_PEAK = 1e-3
CANCELLED = 0.25  # of the loudest channel, that a mix has at least unless channels cancel out


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


def read_sound(path: str | os.PathLike, begin: float = 0.0, end: float | None = None) -> Sound:
    """Speech from wav, mp3, flac or a video's sound track: any rate, channels mixed to one.

    Channels that cancel each other (in opposite phase) are not mixed: the loudest speaks.

    Args:
        begin, end: seconds of the part that is wanted; at most 800 seconds are read.
    Raises:
        InputError: no such file, no sound in it, damaged, or shorter than 0.3 seconds.
    """
    pieces = [np.zeros((1, 0), np.float32), *_decoded(path, begin, end)]
    channels = np.concatenate(pieces if len(pieces) == 1 else pieces[1:], 1)
    mixed, loudest = channels.mean(0), channels[(channels**2).sum(1).argmax()]
    cancelled = (mixed**2).sum() < CANCELLED**2 * (loudest**2).sum()
    sound = Sound(np.clip(loudest if cancelled else mixed, -1, 1))
    if sound.seconds < SHORTEST_SECONDS:
        raise InputError(
            f"the sound lasts {sound.seconds:.2f} seconds: speech of at least"
            f" {SHORTEST_SECONDS:g} seconds is needed"
        )
    return sound


def check_sound(path: str | os.PathLike) -> None:
    """Refuse what `read_sound` does, except for its length, without keeping the samples."""
    for _ in _decoded(path):
        pass


def _decoded(
    path: str | os.PathLike, begin: float = 0.0, end: float | None = None
) -> Iterator[Float[np.ndarray, "channels n"]]:
    """One channel or two at SPEECH_RATE, piece by piece, of at most LONGEST_SECONDS."""
    wanted = LONGEST_SECONDS if end is None else min(end - begin, LONGEST_SECONDS)
    left = round(wanted * SPEECH_RATE)
    with opened(path, "the sound", "audio") as container:
        for piece in _pieces(container, _layout(container), SPEECH_RATE, begin):
            if not np.isfinite(piece).all():
                raise InputError(f"the sound {path} holds NaN or infinite samples: save it again")
            yield piece[:, :left]
            left -= piece.shape[1]
            if left <= 0:
                return


def _layout(container) -> str:
    return "mono" if container.streams.audio[0].channels == 1 else "stereo"


def add_sound(
    video: str | os.PathLike,
    sound: str | os.PathLike,
    out: str | os.PathLike,
    begin: float = 0.0,
) -> None:
    """Copy a clip's pictures unchanged and put a sound beside them, in sync with its own pictures.

    Args:
        video: an mp4. sound: any file that `read_sound` takes; cut at the clip's end.
        out: the new mp4 (may be `video` itself); it appears complete or not at all.
        begin: seconds of the sound that are left out.
    Raises:
        InputError: a file is missing or cannot be decoded.
    """
    import av

    out = Path(out)
    partial = out.with_name(f"{out.stem}.partial.mp4")
    try:
        with (
            opened(video, "video", "video") as pictures,
            opened(sound, "the sound", "audio") as voice,
            av.open(str(partial), "w") as target,
        ):
            _mux(pictures, voice, target, begin)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def _mux(pictures, voice, target, begin: float) -> None:
    source = pictures.streams.video[0]
    newer = hasattr(target, "add_stream_from_template")  # PyAV 14 and later
    copy = target.add_stream_from_template if newer else _add_stream_like(target)
    copied = copy(source)
    target.metadata.update(pictures.metadata)
    layout = _layout(voice)
    spoken = target.add_stream("aac", rate=CLIP_RATE, layout=layout)
    for packet in pictures.demux(source):
        if packet.dts is not None:
            packet.stream = copied
            target.mux(packet)
    wanted = round(float(source.duration * source.time_base) * CLIP_RATE)
    for piece in _encodable(_pieces(voice, layout, CLIP_RATE, begin), layout, wanted):
        target.mux(spoken.encode(piece))
    target.mux(spoken.encode(None))


def _add_stream_like(target):
    return lambda source: target.add_stream(template=source)


def _encodable(pieces: Iterator[np.ndarray], layout: str, wanted: int):
    """Sound in encoder-sized frames, `wanted` samples long or as long as it lasts."""
    import av

    fifo = av.AudioFifo()
    for samples in pieces:
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = CLIP_RATE
        fifo.write(frame)
        if fifo.samples >= wanted:
            break
    at = 0
    while at < wanted and fifo.samples:
        piece = fifo.read(min(1024, wanted - at, fifo.samples))
        piece.pts = at
        at += piece.samples
        yield piece


def _pieces(
    container, layout: str, rate: int, begin: float = 0.0
) -> Iterator[Float[np.ndarray, "channels n"]]:
    """A file's sound from its first picture on (if it has any), so that both stay in sync.

    A sound that begins later has silence before it, which comes in small pieces; what was heard
    earlier than `begin` seconds after the first picture is left out.
    """
    frames = container.decode(audio=0)
    first = next(frames, None)
    if first is None:
        return
    if first.sample_rate < SLOWEST_RATE:
        raise InputError(
            f"the sound has {first.sample_rate} samples a second, too few to hear: save it again"
        )
    late = round((_lateness(container, first) - begin) * rate)
    silence = np.zeros((1 if layout == "mono" else 2, rate), np.float32)
    for at in range(0, late, rate):
        yield silence[:, : late - at]
    skip = max(0, -late)
    for samples in _resampled(chain([first], frames), layout, rate):
        if skip < samples.shape[1]:
            yield np.ascontiguousarray(samples[:, skip:])
        skip = max(0, skip - samples.shape[1])


def _lateness(container, first) -> float:
    """Seconds from a file's first picture to the `first` piece of its sound."""
    if not container.streams.video or first.time is None:
        return 0.0
    pictures = container.streams.video[0]
    return first.time - float((pictures.start_time or 0) * pictures.time_base)


def _resampled(frames: Iterable, layout: str, rate: int) -> Iterator[np.ndarray]:
    """Floats [channels, n]; the sound may change its kind on the way, as joined mp3 files do."""
    import av

    def kind(frame) -> tuple:
        return frame.format.name, frame.layout.name, frame.sample_rate

    for _, alike in groupby(frames, key=kind):
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        for frame in chain(alike, [None]):
            pieces = resampler.resample(frame)
            yield from (piece.to_ndarray() for piece in pieces if piece is not None)
