"""Sounds and videos: odd rates, times, sizes, layouts and tags, damaged and not."""

from fractions import Fraction
from functools import cache, partial
from itertools import islice
from pathlib import Path

import av
import numpy as np

from mofa_nb.faces.drive import check_source, drive_face
from mofa_nb.media.images import read_image
from mofa_nb.media.sound import add_sound, check_sound, read_sound
from mofa_nb.media.video import frame_rate, video_frames, write_clip
from mofa_nb.motion.face import FaceSource
from tests.fuzz.bytes import damaged, no_file

DATA = Path(__file__).resolve().parents[2] / "data"
SOUNDS = (("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("wav", "pcm_u8"), ("mp3", "libmp3lame"),
          ("flac", "flac"), ("ogg", "libvorbis"), ("opus", "libopus"), ("m4a", "aac"),
          ("aac", "aac"))  # fmt: skip
VIDEOS = (("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264"), ("avi", "mpeg4"),
          ("gif", "gif"), ("webm", "libvpx"), ("mpg", "mpeg2video"), ("m4v", "libx264"),
          ("mkv", "ffv1"))  # fmt: skip


@cache
def portrait() -> np.ndarray:
    """A picture with a face."""
    return np.ascontiguousarray(read_image(DATA / "astronaut.jpg")[:300, 60:360])


def sound(rng: np.random.Generator, path: Path, codec: str) -> None:
    """Less than a second, sometimes none, of noise, silence or NaN."""
    rates = [8000, 16_000, 44_100, 48_000] if codec in ("libopus", "aac", "libmp3lame") else [
        1, 50, 8000, 11_025, 22_050, 44_100, 96_000, 192_000]  # fmt: skip
    rate = 48_000 if codec == "libopus" else int(rng.choice(rates))
    layouts = {"mono": 1, "stereo": 2} | ({} if codec == "libmp3lame" else {"5.1": 6})
    layout = str(rng.choice([*layouts]))
    channels = layouts[layout]
    length = int(rate * rng.choice([0, 0.05, 0.35, 0.6, 0.9]))
    samples = rng.normal(0, 0.2, (channels, length)).astype(np.float32)
    samples *= float(rng.choice([0, 1, 1, 1, 50, np.nan]))
    if channels == 2 and rng.random() < 0.5:
        samples[1] = -samples[0]
    with av.open(str(path), "w") as target:
        target.metadata["title"] = str(rng.choice(["a", "Müller", "x" * 3000]))
        stream = target.add_stream(codec, rate=rate, layout=layout)
        late = int(rng.choice([0, 0, 10**5, 10**9]))
        _write_sound(target, stream, samples, rate, layout, late)


def _write_sound(target, stream, samples, rate: int, layout: str, late: int) -> None:
    resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
    for at in range(0, samples.shape[1], 1024):
        part = np.ascontiguousarray(samples[:, at : at + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, at + late, Fraction(1, rate)
        for fitting in resampler.resample(frame):
            if len(part[0]) == 1024:
                target.mux(stream.encode(fitting))
    target.mux(stream.encode(None))


def video(rng: np.random.Generator, path: Path, codec: str) -> None:
    """A few frames of a face, at even or uneven times, of one size or changing it."""
    face = portrait()
    sizes = [(160, 160), (96, 200), (301, 299), (32, 32), (2, 2), (640, 36)]
    width, height = sizes[int(rng.integers(len(sizes)))]
    if codec in ("libx264", "mpeg2video", "libvpx"):
        width, height = width + width % 2, height + height % 2
    frames = int(rng.choice([0, 1, 2, 4, 6]))
    rate = int(rng.choice([1, 10, 25, 30, 60]))
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = {"gif": "rgb8", "ffv1": "yuv444p"}.get(codec, "yuv420p")
        spoken = path.suffix in (".mp4", ".mkv") and rng.random() < 0.4
        other = target.add_stream("aac", rate=44_100, layout="stereo") if spoken else None
        time = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(face[:, number : number + 280]))
            frame = frame.reformat(width, height, stream.pix_fmt)
            frame.pts = time if rng.random() < 0.9 else None
            frame.time_base = Fraction(1, rate)
            time += int(rng.choice([1, 1, 1, 2, 30, 100_000]))
            for packet in stream.encode(frame):
                target.mux(packet)
        target.mux(stream.encode(None))
        if other is not None:
            noise = rng.normal(0, 0.1, (2, 20_480)).astype(np.float32)
            _write_sound(target, other, noise, 44_100, "stereo", int(rng.choice([0, 10**6])))


def inputs(rng: np.random.Generator, folder: Path):
    """A name for one input, and what is done with it."""
    heard = rng.random() < 0.5
    suffix, codec = (SOUNDS if heard else VIDEOS)[int(rng.integers(9))]
    path = folder / f"{rng.choice(['take', '12:30 talk', 'a b ü', 'http:take'])}.{suffix}"
    if rng.random() < 0.03:
        kind, path = no_file(rng, folder, f".{suffix}")
        return kind, uses(path, folder)
    try:
        (sound if heard else video)(rng, path, codec)
    except Exception:  # what FFmpeg cannot write is not our question
        pass
    path.touch()
    how, data = damaged(rng, path.read_bytes())
    if rng.random() < 0.03:
        how, data = "playlist", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    path.write_bytes(data)
    if rng.random() < 0.1:
        kinds = [kind for kind, _ in SOUNDS + VIDEOS]
        path = path.rename(path.with_suffix(f".{rng.choice(kinds)}"))
    return f"{path.suffix}, {codec}, {how}", uses(path, folder)


def face_of(path) -> None:
    """What the command line looks at before a model is loaded."""
    check_source(portrait(), FaceSource(path))


def uses(path, folder: Path) -> dict:
    """As a voice, as a driving video, and beside a clip."""

    def looked_at() -> None:
        frame_rate(path)
        for _ in islice(video_frames(path), 8):
            pass

    def beside() -> None:
        clip = folder / "clip.mp4"
        write_clip(clip, np.zeros((6, 32, 32, 3), np.uint8), 12.5)
        add_sound(clip, path, folder / "out.mp4")

    made = {"check": partial(check_sound, path), "voice": partial(read_sound, path)}
    made |= {"source": partial(face_of, path), "video": looked_at, "beside": beside}
    if Path(path).suffix in {f".{kind}" for kind, _ in VIDEOS}:
        made["drive"] = partial(drive_face, portrait(), path, num_frames=4)
    return made
