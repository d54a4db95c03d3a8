"""From a voice to a face: sound files, phonemes, curves, and clips that carry their sound."""

import subprocess
import sys
from dataclasses import replace

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from mofa_nb.checks import InputError
from mofa_nb.faces import speech
from mofa_nb.faces.drive import drive_face
from mofa_nb.faces.mesh import EXPRESSIONS
from mofa_nb.faces.speech import Phoneme, phonemes_in, shape_of, speech_curves
from mofa_nb.media.sound import Sound, add_sound, read_sound
from mofa_nb.media.video import read_video, write_clip
from mofa_nb.motion.face import Strengths
from mofa_nb.paths import data_file
from mofa_nb.show.charts import speech_picture

VOICE = data_file("speech.wav")  # "he was not an ill disposed young man"


def saved(path, codec, samples, rate, layout="mono", **options):
    """Write samples [n] in [-1, 1] at 16 kHz to a file of another kind."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
        whole = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "flt", "mono")
        whole.sample_rate = 16_000
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def voice():
    return read_sound(VOICE)


@pytest.fixture(scope="module")
def phonemes(voice):
    pytest.importorskip("hama")
    return phonemes_in(voice)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("low.wav", "pcm_s16le", 8_000, "mono"),
        ("high.flac", "flac", 48_000, "stereo"),
        ("usual.mp3", "libmp3lame", 44_100, "stereo"),
    ],
)
def test_sound_is_read_at_any_rate_and_from_any_kind(tmp_path, voice, name, codec, rate, layout):
    again = read_sound(saved(tmp_path / name, codec, voice.samples, rate, layout))
    assert again.rate == 16_000 and abs(again.seconds - voice.seconds) < 0.1
    times = np.arange(0.1, 2.9, 0.05)
    assert np.corrcoef(again.loudness(times), voice.loudness(times))[0, 1] > 0.95


def test_unusable_sound_is_refused(tmp_path, voice):
    saved(tmp_path / "short.wav", "pcm_s16le", voice.samples[:1600], 16_000)
    write_clip(tmp_path / "mute.mp4", np.zeros((3, 32, 32, 3), np.uint8), 10)
    (tmp_path / "corrupt.mp3").write_bytes(b"\x07" * 4000)
    for name, sentence in (
        ("short.wav", r"lasts 0\.1. seconds"),
        ("mute.mp4", "holds no sound"),
        ("corrupt.mp3", "cannot be decoded"),
        ("none.wav", "does not exist"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_sound(tmp_path / name)


def test_loudness_is_the_root_mean_square_around_a_time():
    sound = Sound(np.concatenate([np.zeros(1600), np.full(1600, 0.5)]).astype(np.float32))
    near = sound.loudness(np.array([0.05, 0.1, 0.15, 9.0]), 0.05)
    np.testing.assert_allclose(near, [0, 0.5 / np.sqrt(2), 0.5, 0], atol=1e-6)


def test_the_spoken_sounds_are_heard_in_their_order(phonemes):
    heard = "".join(p.symbol for p in phonemes)
    assert heard.startswith("hiw") and heard.endswith("mæn")
    times = [p.time for p in phonemes]
    assert times == sorted(times) and 0 <= times[0] and times[-1] < 3


def test_a_missing_recogniser_is_asked_for_by_name(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "hama", None)
    speech._recogniser.cache_clear()
    with pytest.raises(InputError, match=r"pip install .\[speech\]"):
        phonemes_in(voice)
    speech._recogniser.cache_clear()


def test_silence_is_not_an_error():
    curves = speech_curves(Sound(np.zeros(16_000, np.float32)), 12.5)
    assert curves.opening.max() == 0 and len(curves.notes) == 1
    assert curves.strengths.shape == (13, len(EXPRESSIONS))


def loud(seconds):
    """A steady hum."""
    times = np.arange(int(seconds * 16_000)) / 16_000
    return Sound(0.3 * np.sin(2 * np.pi * 150 * times).astype(np.float32))


def test_open_sounds_open_the_mouth_and_closed_ones_close_it():
    sounds = (Phoneme("ɑ", 0.6), Phoneme("m", 1.0), Phoneme("ɑ", 1.4), Phoneme("u", 2.0))
    curves = speech_curves(loud(3), 25, phonemes=sounds)
    assert curves.opening[15] > 0.6 and curves.opening[35] > 0.6
    assert curves.opening[25] < 0.1 and curves.opening[70] < 0.02
    assert curves.rounding[50] > 0.5 > 0.2 > curves.rounding[15]


def test_a_longer_sound_has_its_own_shape_and_an_unknown_one_a_middling_shape():
    assert shape_of("aɪː") == shape_of("aɪ") and shape_of("?") == speech.OTHER_SHAPE


def test_curves_start_at_rest_and_stay_in_range(voice, phonemes):
    curves = speech_curves(voice, 12.5, phonemes=phonemes)
    assert len(curves.opening) == 38  # 2.99 seconds
    assert curves.strengths[0].abs().max() == 0 and curves.degrees[0].abs().max() == 0
    assert curves.strengths.min() >= 0 and curves.strengths.max() <= 1
    assert 0.5 < curves.opening.max() <= 1 and curves.degrees.abs().max() < 8


def test_the_mouth_follows_the_voice(voice, phonemes):
    curves = speech_curves(voice, 25, phonemes=phonemes)
    times = np.arange(len(curves.opening)) / 25
    assert np.corrcoef(curves.opening, voice.loudness(times, 0.12))[0, 1] > 0.4


def test_blinks_and_sway_come_from_the_seed(voice, phonemes):
    first, again, other = (speech_curves(loud(8), 25, seed=s, phonemes=phonemes) for s in (1, 1, 2))
    assert (first.strengths == again.strengths).all() and (first.degrees == again.degrees).all()
    assert (first.degrees != other.degrees).any()
    blink = first.strengths[:, EXPRESSIONS.index("blink_left")]
    assert blink.max() > 0.7 and (blink > 0.3).float().mean() < 0.2


def test_each_strength_governs_its_own_part_of_speech(voice, phonemes):
    parts = {
        "mouth": ("jaw_open", "stretch", "pucker", "upper_lip"),
        "brows": ("brows_up",),
        "eyes": ("blink_right", "blink_left"),
    }
    whole = speech_curves(voice, 12.5, phonemes=phonemes)
    for name in ("pose", *parts):
        without = speech_curves(voice, 12.5, phonemes=phonemes, strengths=Strengths(**{name: 0}))
        still = [EXPRESSIONS.index(column) for column in parts.get(name, ())]
        moving = [i for i in range(len(EXPRESSIONS)) if i not in still]
        assert whole.strengths[:, still].any(0).all() and not without.strengths[:, still].any()
        assert torch.equal(without.strengths[:, moving], whole.strengths[:, moving])
        assert torch.equal(without.degrees, whole.degrees * (name != "pose"))


def test_a_clip_carries_its_sound_in_sync(tmp_path, voice):
    frames = np.zeros((38, 32, 32, 3), np.uint8)
    write_clip(tmp_path / "mute.mp4", frames, 12.5, title="who made it")
    add_sound(tmp_path / "mute.mp4", VOICE, tmp_path / "spoken.mp4")
    with av.open(str(tmp_path / "spoken.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        assert container.metadata["title"] == "who made it"
    assert len(read_video(tmp_path / "spoken.mp4")) == 38
    heard = read_sound(tmp_path / "spoken.mp4")
    times = np.arange(0.1, 2.9, 0.01)
    shifted = [
        np.corrcoef(heard.loudness(times + lag, 0.02), voice.loudness(times, 0.02))[0, 1]
        for lag in np.arange(-0.08, 0.09, 0.02)
    ]
    assert int(np.argmax(shifted)) == 4  # no lag


def beep_seconds(path):
    """When the one beep of a file is heard."""
    return int(np.argmax(np.abs(read_sound(path).samples) > 0.3)) / 16_000


@pytest.mark.parametrize(("late", "heard"), [("sound", 1.1), ("pictures", 0.3)])
def test_a_sound_that_begins_apart_from_its_pictures_keeps_in_sync(late, heard, tmp_path):
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    write_clip(tmp_path / "mute.mp4", frames, 10)
    beep = np.zeros(32_000, np.float32)
    beep[11_200:12_800] = np.sin(np.arange(1600) / 5) * 0.8  # at 0.7 seconds
    saved(tmp_path / "beep.wav", "pcm_s16le", beep, 16_000)
    add_sound(tmp_path / "mute.mp4", tmp_path / "beep.wav", tmp_path / "both.mp4")
    assert abs(beep_seconds(tmp_path / "both.mp4") - 0.7) < 0.01
    both = ["-i", tmp_path / "both.mp4"]
    first, second = ("0:v", "1:a") if late == "sound" else ("0:a", "1:v")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    shift = [*both, "-itsoffset", "0.4", *both, "-map", first, "-map", second, "-c", "copy"]
    subprocess.run([*ffmpeg, *shift, tmp_path / "apart.mp4"], check=True)
    assert abs(beep_seconds(tmp_path / "apart.mp4") - heard) < 0.03
    add_sound(tmp_path / "mute.mp4", tmp_path / "apart.mp4", tmp_path / "clip.mp4")
    assert abs(beep_seconds(tmp_path / "clip.mp4") - heard) < 0.03


def test_a_sound_that_changes_its_kind_on_the_way_is_heard_to_its_end(tmp_path, voice):
    joined, start = tmp_path / "joined.mp3", voice.samples[:16_000]
    bare = {"write_xing": "0", "id3v2_version": "0"}
    for layout in ("mono", "stereo"):
        part = saved(tmp_path / "part.mp3", "libmp3lame", start, 16_000, layout, **bare)
        joined.write_bytes((joined.read_bytes() if joined.exists() else b"") + part.read_bytes())
    assert read_sound(joined).seconds > 2
    write_clip(tmp_path / "mute.mp4", np.zeros((20, 32, 32, 3), np.uint8), 10)
    add_sound(tmp_path / "mute.mp4", joined, tmp_path / "clip.mp4")
    assert read_sound(tmp_path / "clip.mp4").seconds > 1.9


def test_a_driving_video_whose_sound_is_damaged_still_drives(portrait, tmp_path):
    video = tmp_path / "drive.mp4"
    write_clip(video, np.stack([portrait] * 3), 12.5)
    assert drive_face(portrait, video).sound is None
    add_sound(video, VOICE, video)
    whole = drive_face(portrait, video)
    assert whole.sound == video and whole.notes == ()
    with av.open(str(video)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    content = bytearray(video.read_bytes())
    for start, size in places:
        content[start : start + size] = b"\x07" * size
    video.write_bytes(content)
    motion = drive_face(portrait, video)
    assert motion.sound is None and len(motion.landmarks) == 3
    assert "sound of the driving video is damaged, so the clip is silent" in motion.notes[-1]


def test_a_sound_longer_than_the_clip_is_cut(tmp_path):
    write_clip(tmp_path / "clip.mp4", np.zeros((10, 32, 32, 3), np.uint8), 10)
    add_sound(tmp_path / "clip.mp4", VOICE, tmp_path / "clip.mp4")
    assert abs(read_sound(tmp_path / "clip.mp4").seconds - 1.0) < 0.1
    with pytest.raises(InputError, match="does not exist"):
        add_sound(tmp_path / "none.mp4", VOICE, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*partial*"))


def test_a_voice_drives_a_portrait(phonemes, portrait):
    motion = drive_face(portrait, VOICE)
    assert motion.landmarks.shape == (38, 68, 2) and motion.sound == VOICE
    gap = motion.landmarks[:, 66, 1] - motion.landmarks[:, 62, 1]  # between the lips
    opening = speech_curves(read_sound(VOICE), 12.5).opening
    assert np.corrcoef(gap.numpy(), opening)[0, 1] > 0.9


def test_the_phoneme_picture_shows_curves_in_colour(voice, phonemes):
    curves = speech_curves(voice, 12.5, phonemes=phonemes)
    picture = speech_picture(voice, curves, width=700)
    assert picture.shape[1] == 700 and picture.dtype == np.uint8
    red = (picture[..., 0] > 180) & (picture[..., 1] < 90)
    assert red.sum() > 200
    samples = np.zeros_like(voice.samples)
    samples[len(samples) // 2 :][:2] = 1, -1  # a click of two samples is as high as it is loud
    click = speech_picture(replace(voice, samples=samples), curves, width=700)
    (above, *_, below), (still, *_) = (
        np.flatnonzero((click[:110, columns] < 200).any((1, 2)))
        for columns in (slice(340, 360), slice(100, 120))
    )
    assert above + 20 < still < below - 20
