"""Videos and sounds as people have them: uneven times, odd tags, late or hour-long sound."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from scipy.io import wavfile

from mofa_nb.checks import InputError
from mofa_nb.faces.drive import check_source, drive_face
from mofa_nb.faces.track import track_video
from mofa_nb.media.sound import LONGEST_SECONDS, add_sound, read_sound
from mofa_nb.media.video import read_video, timed_frames, write_clip
from mofa_nb.motion.face import Expression, FaceSource

CASES, DATA = Path(__file__).parent / "cases", Path(__file__).parents[1] / "data"


def film(path, frames, stamps, rate=1000):
    """A video whose frames have these times, in 1/rate seconds; None has none."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": "10", "bf": "0"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, rate)
        for pixels, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, rate)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def sound(path, samples):
    """A sound file of 16 bits, of samples [channels, n]."""
    wavfile.write(path, 16_000, (32_767 * np.asarray(samples)).round().astype(np.int16).T)


TIMES = {  # timestamps in milliseconds -> seconds as they are taken
    "even": ([0, 40, 80, 120], [0, 0.04, 0.08, 0.12]),
    "uneven": ([0, 100, 125, 225], [0, 0.1, 0.125, 0.225]),
    "late": ([5000, 5100, 5200], [0, 0.1, 0.2]),
    "a leap of hours": ([0, 40, 10_000_000, 10_000_040], [0, 0.04, 0.08, 0.12]),
}


@pytest.mark.parametrize("case", TIMES)
def test_frames_come_at_the_times_that_they_were_filmed(case, portrait, tmp_path):
    stamps, seconds = TIMES[case]
    film(tmp_path / "a.mkv", [portrait] * len(stamps), stamps)
    times = [time for time, _ in timed_frames(tmp_path / "a.mkv")]
    np.testing.assert_allclose(times, seconds, atol=0.0011 if case != "a leap of hours" else 0.06)


def test_a_part_of_a_video_is_cut_out_by_time(portrait, tmp_path):
    shades = [np.full((64, 64, 3), 10 * number, np.uint8) for number in range(20)]
    film(tmp_path / "a.mp4", shades, [number * 1000 for number in range(20)])
    part = list(timed_frames(tmp_path / "a.mp4", 12.0, 15.0))
    assert [time for time, _ in part] == pytest.approx([12, 13, 14])
    assert [round(frame.mean() / 10) for _, frame in part] == [12, 13, 14]


def rolled(portrait, degrees):
    import cv2

    turn = cv2.getRotationMatrix2D((150, 150), degrees, 1.0)
    return cv2.warpAffine(portrait, turn, (300, 300), borderMode=cv2.BORDER_REPLICATE)


FILMED = {  # milliseconds at which a head is filmed that rolls by 12 degrees a second
    "constant rate": np.arange(0, 2001, 50),
    "variable rate": np.r_[0:1000:100, 1000:2001:25],
}


@pytest.mark.parametrize("case", FILMED)
def test_a_roll_is_as_quick_as_it_was_filmed_at_any_rate(case, portrait, tmp_path):
    stamps = FILMED[case].tolist()
    film(tmp_path / "a.mp4", [rolled(portrait, 12 * stamp / 1000) for stamp in stamps], stamps)
    marks = drive_face(portrait, tmp_path / "a.mp4", fps=12.5).landmarks.numpy()
    eyes = marks[:, 42:48].mean(1) - marks[:, 36:42].mean(1)
    angles = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    at = np.interp([0.5, 1.0, 1.5, 1.92], np.arange(len(angles)) / 12.5, angles)
    np.testing.assert_allclose(np.diff(at), [-6, -6, -5], atol=0.8)


def test_a_flash_in_a_video_is_no_cut(portrait, tmp_path):
    frames = [portrait[:, t : t + 280].astype(np.float32) for t in range(12)]
    frames[5:7] = [np.clip(frame * 1.6 + 90, 0, 255) for frame in frames[5:7]]
    film(tmp_path / "a.mp4", [f.astype(np.uint8) for f in frames], list(range(0, 1200, 100)))
    check_source(portrait, FaceSource(tmp_path / "a.mp4"))
    assert len(drive_face(portrait, tmp_path / "a.mp4", fps=12.5).landmarks) == 14


def test_a_video_that_changes_its_size_gets_one_sentence():
    with pytest.raises(InputError, match=r"changes its size from \d+x\d+ to \d+x\d+ at"):
        read_video(CASES / "changes_size.mpg")


def test_a_part_with_a_cut_elsewhere_is_followed(portrait, tmp_path):
    panned = [portrait[:, 2 * t : 2 * t + 280] for t in range(6)]
    film(tmp_path / "cut.mp4", [255 - panned[0]] * 5 + panned, [100 * k for k in range(11)])
    with pytest.raises(InputError, match="--face-from"):
        track_video(tmp_path / "cut.mp4")
    part = track_video(tmp_path / "cut.mp4", begin=0.5)
    assert len(part.points) == 6 and part.notes == ()
    short = drive_face(portrait, FaceSource(tmp_path / "cut.mp4", begin=0.5, end=0.9))
    assert len(short.landmarks) == 4
    check_source(portrait, FaceSource(tmp_path / "cut.mp4", begin=0.5))


def test_landmarks_and_sounds_have_parts_too(portrait, tmp_path):
    marks = drive_face(portrait, Expression(mouth=1.0), num_frames=25).landmarks.numpy()
    np.save(tmp_path / "marks.npy", marks)
    part = drive_face(portrait, FaceSource(tmp_path / "marks.npy", begin=0.8, end=1.2))
    part = part.landmarks.numpy()
    np.testing.assert_allclose(part, marks[10:15], atol=1e-4)
    tone = np.sin(np.arange(32_000) / 9)[None] * np.linspace(0, 1, 32_000)
    sound(tmp_path / "a.wav", tone)
    heard = read_sound(tmp_path / "a.wav", 1.0, 1.5).samples
    np.testing.assert_allclose(heard, tone[0, 16_000:24_000], atol=1e-3)


VOICE = np.sin(np.arange(16_000) / 9) * 0.5
CHANNELS = {  # left and right -> what is heard
    "the same": ([VOICE, VOICE], VOICE),
    "in opposite phase": ([VOICE, -VOICE], VOICE),
    "nearly in opposite phase": ([VOICE, -0.9 * VOICE], VOICE),
    "one of them": ([VOICE, 0 * VOICE], VOICE / 2),
    "the other": ([0 * VOICE, VOICE], VOICE / 2),
    "silence": ([0 * VOICE, 0 * VOICE], 0 * VOICE),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_are_mixed_unless_they_cancel(case, tmp_path):
    channels, heard = CHANNELS[case]
    sound(tmp_path / "a.wav", np.stack(channels))
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav").samples, heard, atol=2e-3)


@pytest.mark.parametrize(("version", "told"), [("14.0.0", True), ("19.0.2", False)])
def test_newer_decoders_need_not_be_told_of_odd_tags_and_do_not_take_it(version, told, monkeypatch):
    asked, open_file = [], av.open
    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(av, "open", lambda *f, **how: asked.append(how) or open_file(*f))
    read_sound(DATA / "speech.wav", 0, 0.5)
    assert ("metadata_errors" in asked[0]) == told


@pytest.mark.parametrize(
    "tag", ["Müller".encode("latin-1"), b"\xff\xfe\x00", "мир".encode("cp1251")]
)
def test_tags_in_any_encoding_are_let_pass(tag, tmp_path):
    assert read_sound(CASES / "latin1_tag.wav").seconds > 0.3
    data = (CASES / "latin1_tag.wav").read_bytes()
    assert data.count("Müller".encode("latin-1")) == 1
    (tmp_path / "a.wav").write_bytes(data.replace("Müller".encode("latin-1"), tag.ljust(6, b".")))
    assert read_sound(tmp_path / "a.wav").seconds > 0.3


@pytest.mark.parametrize(
    "name", ["12:30 talk.wav", "http:a.wav", "concat:a|b.wav", "-i.wav", "ü.wav"]
)
def test_a_name_is_never_taken_for_an_address(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "a.wav", VOICE[None])
    (tmp_path / "a.wav").rename(tmp_path / name)
    assert read_sound(name).seconds == 1


def test_what_a_playlist_points_at_is_never_read(tmp_path):
    sound(tmp_path / "a.wav", VOICE[None])
    (tmp_path / "list.mp3").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    with pytest.raises(InputError, match=r"cannot be decoded|holds no sound"):
        read_sound(tmp_path / "list.mp3")


def test_a_sound_that_starts_hours_late_is_bounded(tmp_path):
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    write_clip(tmp_path / "clip.mp4", frames, 12.5)
    sound(tmp_path / "a.wav", VOICE[None])
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", tmp_path / "clip.mp4"]
    late = ["-itsoffset", "50000", "-i", tmp_path / "a.wav", "-map", "0:v", "-map", "1:a"]
    subprocess.run([*ffmpeg, *late, "-c", "copy", tmp_path / "late.mkv"], check=True)
    late = read_sound(tmp_path / "late.mkv")
    assert late.seconds <= LONGEST_SECONDS and late.is_silent
    add_sound(tmp_path / "clip.mp4", tmp_path / "late.mkv", tmp_path / "out.mp4")
    assert read_sound(tmp_path / "out.mp4").seconds < 0.6
