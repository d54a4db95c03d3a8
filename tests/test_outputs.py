"""A clip's files come out complete or not at all, and say how to make it again."""

import errno
import json
import os
import resource
import subprocess
import tempfile
from dataclasses import replace

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nb.checks import InputError
from mofa_nb.media.video import read_video, write_clip
from mofa_nb.motion.fit import fit_image
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file, output_folder_for, repository, weights_folder
from mofa_nb.pipeline import outputs
from mofa_nb.pipeline.outputs import (
    FILES,
    Clip,
    free_folder,
    image_fingerprint,
    load_card,
    new_folder,
    write_outputs,
)


def moving_square(frames=6, height=64, width=96):
    clip = np.full((frames, height, width, 3), 40, np.uint8)
    for t in range(frames):
        clip[t, 20:44, 10 + 8 * t : 34 + 8 * t] = (230, 60, 30)
    return clip


@pytest.fixture
def clip():
    photo = np.full((100, 150, 3), 90, np.uint8)
    image, fit = fit_image(photo, 32, size=(96, 64))
    return Clip(
        frames=moving_square(),
        flow=torch.ones(5, 2, 64, 96),
        image=image,
        motion=Motion((300, 200), [[(60, 60), (100, 80)]], [(290, 10)]),
        settings={"num_frames": 6, "fps": 8, "steps": 3, "seed": 7, "trajectory_scale": 1.0},
        seconds={"load": 0.12345, "denoise": 2},
        model="mini",
        model_hash="0123abcd",
        fit=fit,
        notes=("a note",),
        image_name="photo.jpg",
    )


def test_four_files_come_out_and_are_what_they_say(clip, tmp_path):
    folder = write_outputs(clip, tmp_path / "outputs" / "square")
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert [p.name for p in folder.parent.iterdir()] == ["square"]
    frames = read_video(folder / "clip.mp4")
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4
    for name in ("filmstrip.png", "flow.png"):
        with Image.open(folder / name) as picture:
            assert picture.mode == "RGB" and min(picture.size) > 100


def test_a_card_comes_back_with_all_that_redoes_the_clip(clip, tmp_path):
    folder = write_outputs(clip, tmp_path / "square")
    card, text = load_card(folder), (folder / "card.json").read_text("utf-8")
    assert list(json.loads(text))[:3] == ["card", "model", "settings"]  # for people to read
    assert card == load_card(folder / "card.json")
    (folder / "utf16.json").write_text(text, "utf-16")
    assert load_card(folder / "utf16.json") == card  # as an editor may save it again
    assert card["model"] == {"name": "mini", "hash": "0123abcd"} and card["motion"] == clip.motion
    assert card["settings"] == clip.settings and card["notes"] == ["a note"] and "face" not in card
    assert card["image"]["name"] == "photo.jpg" and card["image"]["size"] == [96, 64]
    assert card["image"]["sha256"] == image_fingerprint(clip.image)
    assert card["seconds"] == {"load": 0.123, "denoise": 2.0}
    assert {"python", "torch", "diffusers", "numpy"} <= set(card["versions"])


def test_a_clip_with_a_face_carries_its_sound_and_names_its_file(clip, tmp_path):
    voice = data_file("speech.wav")
    spoken = replace(
        clip,
        motion=clip.motion.with_face(voice),
        sound=voice,
        landmarks=torch.rand(6, 68, 2) * 60,
        settings={**clip.settings, "fps": 12.5, "landmark_scale": 0.5},
    )
    folder = write_outputs(spoken, tmp_path / "spoken")
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    with av.open(str(folder / "clip.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.video[0].average_rate == 12.5
        assert container.metadata["title"] == spoken.title
    card = load_card(folder)
    assert card["settings"] == spoken.settings and card["motion"] == spoken.motion
    assert card["face"]["name"] == "speech.wav" and len(card["face"]["sha256"]) == 64


def test_the_title_names_the_model_and_the_fitted_motion_lies_on_the_fitted_image(clip):
    assert clip.title == "mini model · 6 frames · 3 steps · seed 7 · trajectory scale 1.0"
    assert clip.fitted_motion.size == (96, 64)
    start = clip.fitted_motion.tracks[0].points[0]
    assert start == (pytest.approx(19.2), pytest.approx(19.2, abs=0.5))


NO_VIDEO = r"^video [^ ]*a.mp4 cannot be decoded \(Invalid data found when .*\): save"
REFUSED = [
    (load_card, "card.json", b"{", r"card .*card.json is not valid JSON \(.*line 1 column 2"),
    (load_card, "card.json", b"[1]", "is not a card"),
    (load_card, "card.json", b'{"card": 9}', "has version 9"),
    (load_card, "card.json", b'{"card": 1, "model": {"name": "mini"}}', "it lacks 'hash'"),
    (read_video, "a.mp4", b"not a video" * 50, NO_VIDEO),
    (read_video, "a.mp4", data_file("speech.wav").read_bytes(), r"holds no pictures: .* \.m4a"),
]


@pytest.mark.parametrize(("read", "name", "content", "sentence"), REFUSED)
def test_what_is_no_card_or_no_video_is_refused(read, name, content, sentence, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / name)


def test_an_earlier_clip_is_replaced_only_when_asked_for_and_other_files_are_left_alone(
    clip, tmp_path
):
    folder = write_outputs(clip, tmp_path / "out")
    (folder / "diary.txt").write_text("mine")
    earlier = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match=r"/out holds a clip already: .* --overwrite"):
        write_outputs(replace(clip, model="other"), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == earlier
    written = write_outputs(replace(clip, model="other"), folder, overwrite=True)
    assert load_card(written)["model"]["name"] == "other"
    assert (folder / "diary.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing_and_keeps_the_old_results(stop, tmp_path):
    with pytest.raises(stop), new_folder(tmp_path / "deep" / "out") as partial:
        (partial / "clip.mp4").write_bytes(b"half")
        raise stop
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip.mp4").write_bytes(b"old")
    with pytest.raises(stop), new_folder(tmp_path / "out", overwrite=True) as partial:
        (partial / "clip.mp4").write_bytes(b"half")
        raise stop
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "clip.mp4"]
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == b"old"


def test_two_runs_do_not_mix_their_files(clip, tmp_path):
    with new_folder(tmp_path / "out") as partial:
        for how in ({}, {"overwrite": True}):
            with pytest.raises(InputError, match=r"another run is writing to .*/out: wait for it"):
                write_outputs(clip, tmp_path / "out", **how)
        assert free_folder(tmp_path / "out") == tmp_path / "out-2"
        (partial / "card.json").write_text("mine")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["card.json"]


def test_what_a_killed_run_left_is_cleared_by_the_next(clip, tmp_path):
    left = tmp_path / "out" / ".partial-abc"
    left.mkdir(parents=True)
    (left / "clip.partial.mp4").write_bytes(b"half")
    assert free_folder(tmp_path / "out") == tmp_path / "out"
    assert sorted(p.name for p in write_outputs(clip, tmp_path / "out").iterdir()) == sorted(FILES)


def test_the_next_free_folder_is_numbered(tmp_path):
    assert free_folder(tmp_path / "out", first="-1") == tmp_path / "out-1"
    for taken in ("out", "out-2"):
        (tmp_path / taken).mkdir()
        (tmp_path / taken / "motion.json").write_text("{}")
    (tmp_path / "out-3").write_text("a file")
    assert free_folder(tmp_path / "out") == tmp_path / "out-4"


def test_a_video_that_does_not_fit_leaves_nothing(clip, tmp_path, rng):
    noise = replace(clip, frames=rng.integers(0, 256, (20, 64, 96, 3), dtype=np.uint8))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = pytest.raises(InputError, match=r"cannot write to .*/out \(the video encoder .*MB are")
    try:  # of this process and those it starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with told:
            write_outputs(noise, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("place", [(tempfile, "mkdtemp"), (outputs, "write_clip")])
def test_a_full_or_read_only_disk_gets_one_sentence(number, place, clip, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    sentence = rf"/a/out \({os.strerror(number)}\): free some space or choose another --out folder"
    monkeypatch.setattr(*place, refuse)
    with pytest.raises(InputError, match=sentence):
        write_outputs(clip, tmp_path / "a" / "out")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder_is_refused(clip, tmp_path):
    (tmp_path / "out").write_text("a file")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name, sentence in (
        ("out", "out is a file: choose another"),
        ("out/deeper/still", r"still cannot be made, as .*/out is a file: choose"),
        ("gone", r"gone \(File exists\): .*choose another"),
        ("n" * 300, r"\(File name too long\): .*another --out folder"),
    ):
        with pytest.raises(InputError, match=sentence):
            write_outputs(clip, tmp_path / name)


def test_a_folder_in_the_way_of_a_file_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "out" / "clip.mp4").mkdir(parents=True)
    told = pytest.raises(InputError, match=r"holds a folder named clip.mp4, where a file is to go")
    with told, new_folder(tmp_path / "out"):
        pytest.fail("worked")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_only_the_folder_itself_needs_to_be_writable_and_that_is_tried_first(
    clip, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    make, places = tempfile.mkdtemp, []

    def note(*args, dir=None, **options):
        places.append(dir)
        return make(*args, dir=dir, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", note)
    with new_folder(tmp_path / "out") as partial:
        assert partial.resolve().parent == tmp_path / "elsewhere"
        assert places == [tmp_path / "out"]
        (partial / "card.json").write_text("new")
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["card.json"]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_keep_their_frames(suffix, tmp_path):
    frames = moving_square()
    write_clip(tmp_path / f"a.{suffix}", frames, fps=10)
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        assert picture.n_frames == len(frames)
        picture.seek(3)
        shown = np.array(picture.convert("RGB")).astype(int)
        assert np.abs(shown - frames[3]).mean() < 6
        assert picture.info["duration"] == 100
    if suffix == "gif":
        assert read_video(tmp_path / "a.gif").shape == (6, 64, 96, 3)


def test_an_odd_side_is_made_even(tmp_path):
    write_clip(tmp_path / "a.mp4", moving_square(4, 63, 95), fps=10)
    assert read_video(tmp_path / "a.mp4").shape == (4, 64, 96, 3)
    assert read_video(tmp_path / "a.mp4", max_frames=2).shape == (2, 64, 96, 3)


@pytest.mark.parametrize(
    ("name", "frames", "sentence"),
    [("a.avi", 6, r"saved as .mp4, .gif, .webp"), ("a.mp4", 0, "at least one frame")],
)
def test_what_can_be_no_video_is_not_written(name, frames, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        write_clip(tmp_path / name, moving_square(frames), fps=10)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_video_filmed_on_its_side_is_turned_upright_as_players_do(degrees, tmp_path):
    frames = moving_square()
    write_clip(tmp_path / "level.mp4", frames, fps=10)
    turn = ["-display_rotation", str(degrees), "-i", tmp_path / "level.mp4", "-c", "copy"]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    subprocess.run([*ffmpeg, *turn, tmp_path / "turned.mp4"], check=True)
    upright = read_video(tmp_path / "turned.mp4")
    np.testing.assert_array_equal(
        upright, np.rot90(read_video(tmp_path / "level.mp4"), degrees // 90, axes=(1, 2))
    )


def test_the_repository_is_found_from_below_and_by_its_variable(tmp_path, monkeypatch):
    root = repository()
    assert weights_folder("mini") == root / "weights" / "mini"
    assert data_file("README.md").is_file()
    monkeypatch.setenv("MOFA_NB_ROOT", str(tmp_path))
    assert repository() == tmp_path


def test_output_folders_are_named_after_image_and_motion():
    assert output_folder_for("data/cat.jpg", "cat_jumps.json").as_posix() == "outputs/cat_jumps"
    assert output_folder_for("a/cat.jpg", "wave.json").as_posix() == "outputs/cat-wave"
