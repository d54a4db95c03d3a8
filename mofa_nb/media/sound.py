"""Sound files in, and clips that carry their sound."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float

from mofa_nb.checks import File, InputError, finite, whole_file
from mofa_nb.media.video import Frames, opened, write_clip

SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus")
SPEECH_RATE = 16_000  # samples per second that the phoneme recogniser hears
CLIP_RATE = 44_100  # of the sound in a saved clip
SHORTEST_SECONDS = 0.3
LONGEST_SECONDS = 800.0  # no clip lasts longer
SLOWEST_RATE = 2000  # samples a second of a file
SILENT_PEAK = 1e-3
CANCELLED = 0.25  # of the loudest channel, that a mix has at least unless channels cancel out
_LAYOUTS = "mono", "stereo"

Pieces = Iterator[Float[np.ndarray, "channels n"]]


@dataclass(frozen=True)
class Sound:
    """One channel of sound. samples: [-1, 1] at `rate` per second."""

    samples: Float[np.ndarray, " n"]
    rate: int = SPEECH_RATE

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def is_silent(self) -> bool:
        """Nothing above -60 dB."""
        return float(np.abs(self.samples).max(initial=0.0)) < SILENT_PEAK

    def loudness(self, times: Float[np.ndarray, " T"], window: float = 0.05):
        """Root mean square around each time, [T], 0 where the sound has ended."""
        power = np.concatenate([[0.0], np.cumsum(self.samples.astype(np.float64) ** 2)])
        edges = np.stack([times - window / 2, times + window / 2]) * self.rate
        low, high = np.clip(np.round(edges), 0, len(self.samples)).astype(int)
        return np.sqrt((power[high] - power[low]) / (window * self.rate))


def read_sound(path: File, begin: float = 0.0, end: float | None = None) -> Sound:
    """Speech from wav, mp3, flac or a video's sound track: any rate, channels mixed to one (or the
    loudest, where they cancel each other in opposite phase). `begin` and `end` are seconds; at most
    800 are read. InputError: no such file, no sound in it, damaged, or shorter than 0.3 seconds."""
    pieces = list(_decoded(path, begin, end)) or [np.zeros((1, 0), np.float32)]
    channels = np.concatenate(pieces, 1)
    mixed, loudest = channels.mean(0), channels[(channels**2).sum(1).argmax()]
    cancelled = (mixed**2).sum() < CANCELLED**2 * (loudest**2).sum()
    sound = Sound(np.clip(loudest if cancelled else mixed, -1, 1))
    if sound.seconds < SHORTEST_SECONDS:
        needed = f"speech of at least {SHORTEST_SECONDS:g} seconds is needed"
        raise InputError(f"the sound lasts {sound.seconds:.2f} seconds: {needed}")
    return sound


def check_sound(path: File) -> None:
    """Refuse what `read_sound` does, except for its length, without keeping the samples."""
    for _ in _decoded(path):
        pass


def _decoded(path: File, begin: float = 0.0, end: float | None = None) -> Pieces:
    seconds = LONGEST_SECONDS if end is None else min(end - begin, LONGEST_SECONDS)
    with opened(path, "the sound", "audio") as container:
        for piece in _pieces(container, SPEECH_RATE, begin, seconds):
            yield finite(piece, f"the sound {path}", "save it again")


def add_sound(video: File, sound: File, out: File, begin: float = 0.0) -> None:
    """Copy an mp4's pictures unchanged and put a sound beside them, in sync with its own pictures,
    from `begin` seconds to the clip's end. `out` (which may be `video`) appears complete or not at
    all. InputError: a file is missing or damaged."""
    import av

    with (
        whole_file(out) as partial,
        opened(video, "video", "video") as pictures,
        opened(sound, "the sound", "audio") as voice,
        av.open(str(partial), "w", format="mp4") as target,
    ):
        source, layout = pictures.streams.video[0], _LAYOUTS[voice.streams.audio[0].channels > 1]
        copied = target.add_stream_from_template(source)
        target.metadata.update(pictures.metadata)
        spoken = target.add_stream("aac", rate=CLIP_RATE, layout=layout)
        for packet in pictures.demux(source):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
        at, seconds = 0, float(source.duration * source.time_base)
        for samples in _pieces(voice, CLIP_RATE, begin, seconds):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = CLIP_RATE, at
            at += frame.samples
            target.mux(spoken.encode(frame))
        target.mux(spoken.encode(None))


def clip_bytes(frames: Frames, fps: float, kind: str = "mp4", sound: Path | None = None) -> bytes:
    """A clip as a file's content; with a sound, as an mp4 that plays it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{kind}"
        write_clip(path, frames, fps)
        if sound is not None:
            add_sound(path, sound, path)
        return path.read_bytes()


def _pieces(container, rate: int, begin: float, seconds: float) -> Pieces:
    """So many seconds of a file's sound, or fewer, one channel or two, from `begin` seconds after
    the file's first picture (if it has any): a sound that begins later has silence before it."""
    frames, layout = container.decode(audio=0), _LAYOUTS[container.streams.audio[0].channels > 1]
    if (first := next(frames, None)) is None:
        return
    if first.sample_rate < SLOWEST_RATE:
        few = f"{first.sample_rate} samples a second, too few to hear"
        raise InputError(f"the sound has {few}: save it again")
    late, left = -begin, round(seconds * rate)
    if container.streams.video and first.time is not None:
        pictures = container.streams.video[0]
        late += first.time - float((pictures.start_time or 0) * pictures.time_base)
    late = round(late * rate)
    silence = np.zeros((1 if layout == "mono" else 2, rate), np.float32)
    quiet = (silence[:, : late - at] for at in range(0, late, rate))
    skip = max(0, -late)
    for samples in chain(quiet, _resampled(chain([first], frames), layout, rate)):
        piece = np.ascontiguousarray(samples[:, skip : skip + left])
        skip, left = max(0, skip - samples.shape[1]), left - piece.shape[1]
        if piece.shape[1]:
            yield piece
        if left <= 0:
            return


def _resampled(frames: Iterable, layout: str, rate: int) -> Pieces:
    """The sound may change its kind on the way, as joined mp3 files do."""
    import av

    for _, alike in groupby(frames, lambda f: (f.format.name, f.layout.name, f.sample_rate)):
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        for frame in chain(alike, [None]):
            pieces = resampler.resample(frame)
            yield from (piece.to_ndarray() for piece in pieces if piece is not None)
