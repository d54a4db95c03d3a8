"""The command line makes a clip's files, and answers wrong input with one sentence and code 2."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nb.__main__ import main
from mofa_nb.checks import InputError
from mofa_nb.face_source import FaceSource
from mofa_nb.faces.retarget import Strengths
from mofa_nb.motion import Motion
from mofa_nb.outputs import Clip, load_card
from mofa_nb.video import write_clip

DATA = Path(__file__).resolve().parents[1] / "data"
GOOD = {"size": [96, 64], "tracks": [[[20, 20], [60, 30]]]}


def still_clip(image, motion, *, model, progress=None, num_frames=5, fps=8, **settings):
    """Stands in for the model: repeats the image, and tells of its progress."""
    for done in range(3):
        progress("denoise", done + 1, 3)
    return Clip(
        frames=np.repeat(image[None], num_frames, axis=0),
        flow=torch.zeros(num_frames - 1, 2, *image.shape[:2]),
        image=image,
        motion=motion,
        settings={"num_frames": num_frames, "fps": fps, **settings},
        seconds={"denoise": 1.0},
        model=model,
        model_hash="00",
        notes=("the picture was cropped",),
    )


@pytest.fixture
def calls(monkeypatch):
    """Replaces the model by `still_clip`; collects what it was called with."""
    seen = []

    def animate(image, motion, **settings):
        seen.append({"image": image, "motion": motion, **settings})
        return still_clip(image, motion, **settings)

    module = types.ModuleType("mofa_nb.animate")
    module.animate = animate
    monkeypatch.setitem(sys.modules, "mofa_nb.animate", module)
    return seen


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a photograph, a motion file and a model folder."""
    Image.new("RGB", (96, 64), (90, 120, 60)).save(tmp_path / "photo.png")
    (tmp_path / "move.json").write_text(json.dumps(GOOD))
    (tmp_path / "weights" / "mini" / "s2d").mkdir(parents=True)
    (tmp_path / "weights" / "mini" / "s2d" / "config.json").write_text('{"grid": 8}')
    monkeypatch.setenv("MOFA_NB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments):
    """The one sentence that `animate` answers with."""
    assert main(["animate", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mofa_nb: ")
    return lines[0]


def test_animate_writes_its_four_files_and_names_the_model(place, calls, capsys):
    assert main(["animate", "photo.png", "move.json"]) == 0
    folder = place / "outputs" / "photo-move"
    assert sorted(os.listdir(folder)) == ["card.json", "clip.mp4", "filmstrip.png", "flow.png"]
    out, err = capsys.readouterr()
    assert out.startswith("mini model") and "outputs/photo-move/clip.mp4" in out
    assert "the picture was cropped" in err and "denoise" in err
    card = load_card(folder)
    assert card.image["name"] == "photo.png" and card.motion == Motion.from_json(GOOD)


def test_every_option_reaches_the_model(place, calls):
    options = "--frames 6 --fps 12 --steps 3 --seed 5 --control-scale 0.5 --size 64x32"
    (place / "other").mkdir()
    rest = ["--device", "cpu", "--model", "other", "--out", "there"]
    assert main(["animate", "photo.png", "move.json", *options.split(), *rest]) == 0
    call = {key: calls[0][key] for key in calls[0] if key not in ("image", "motion", "progress")}
    assert call == {
        "num_frames": 6,
        "fps": 12,
        "steps": 3,
        "seed": 5,
        "control_scale": 0.5,
        "size": (64, 32),
        "device": "cpu",
        "model": "other",
    }
    assert (place / "there" / "clip.mp4").is_file()


def test_what_is_not_given_is_left_to_the_model(place, calls):
    assert main(["animate", "photo.png", "move.json"]) == 0
    assert set(calls[0]) == {"image", "motion", "model", "progress"}


def test_an_empty_motion_runs_free_and_says_so(place, calls, capsys):
    (place / "move.json").write_text('{"size": [96, 64]}')
    assert main(["animate", "photo.png", "move.json"]) == 0
    assert "the motion is empty, so the clip runs free" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "P", "L", "I;16"])
def test_unusual_photographs_are_taken(mode, place, calls):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (96, 64)).save(place / f"odd.{suffix}")
    assert main(["animate", f"odd.{suffix}", "move.json"]) == 0
    assert calls[0]["image"].shape == (64, 96, 3)


def test_an_exif_rotated_photograph_is_turned_upright(place, calls):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 96)).save(place / "turned.jpg", exif=exif)
    assert main(["animate", "turned.jpg", "move.json"]) == 0
    assert calls[0]["image"].shape == (64, 96, 3)


BAD_IMAGES = {
    "none.png": (None, "does not exist"),
    "text.png": (b"no picture", "cannot be read"),
    "empty.jpg": (b"", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_unreadable_image_gets_one_sentence(name, place, calls, capsys):
    content, sentence = BAD_IMAGES[name]
    if content is not None:
        (place / name).write_bytes(content)
    assert sentence in refused(capsys, name, "move.json")
    assert not calls


def test_a_tiny_image_gets_one_sentence(place, calls, capsys):
    Image.new("RGB", (20, 90)).save(place / "tiny.png")
    assert "20x90, too small" in refused(capsys, "tiny.png", "move.json")


BAD_MOTIONS = [
    ("{", "not valid JSON"),
    ("", "not valid JSON"),
    ('{"size": [96, 64], "tracks": [[[200, 20], [60, 30]]]}', "outside the 96x64 image"),
    ('{"size": [96, 64], "tracks": [[[20, 20], [9000, 30]]]}', "shorten it"),
    ('{"size": [96, 64], "tracks": [[[NaN, 20], [60, 30]]]}', "must be finite"),
    ('{"size": [96, 64], "tracks": [[["left", 20], [60, 30]]]}', "must be a number"),
    ('{"size": [96, 64], "tracks": [[[20, 20]]]}', "two or more points"),
    (
        '{"size": [96, 64], "pins": [' + ", ".join(["[1, 1]"] * 65) + "]}",
        "65 tracks and pins are more than the 8x8 hint grid has pixels (64): draw fewer",
    ),
    ('{"version": 3, "size": [96, 64]}', "version must be 1 or 2"),
    ("[" * 100_000, "cannot be read"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_MOTIONS)
def test_a_bad_motion_file_gets_one_sentence(text, sentence, place, calls, capsys):
    (place / "move.json").write_text(text)
    assert sentence in refused(capsys, "photo.png", "move.json")
    assert not calls


BAD_OPTIONS = [
    ("--frames 0", "--frames must be a whole number from 2"),
    ("--frames -3", "--frames must be a whole number from 2"),
    ("--frames 2.5", "--frames must be a whole number"),
    ("--frames many", "--frames must be a number"),
    ("--steps 0", "--steps must be a whole number from 1"),
    ("--steps -1", "--steps must be a whole number from 1"),
    ("--fps 0", "--fps must lie between 1 and 240"),
    ("--fps 300", "--fps must lie between 1 and 240"),
    ("--fps 8 --face none.mp4", "--fps of a clip with a face must lie between 12.5 and 240, but 8"),
    ("--fps 0 --face none.mp4", "--fps of a clip with a face must lie between 12.5 and 240, but 0"),
    ("--seconds -2", "--seconds at 20 frames per second must lie between 0.1 and 500, but -2"),
    ("--seconds 0 --fps 10", "--seconds at 10 frames per second must lie between 0.2 and 1000"),
    ("--seconds soon", "--seconds must be a number"),
    ("--seconds 1 --frames 5", "a clip's length is --frames or --seconds: leave one of them out"),
    ("--face-scale -1", "--face-scale must lie between"),
    ("--mask-softness soft", "--mask-softness must be a number"),
    ("--mouth-strength 3", "--mouth-strength must lie between 0 and 2"),
    ("--mouth-strength 1", "no face follows anything: add --face FILE"),
    ("--choose 1", "--choose was given, but no face follows anything: add --face FILE"),
    ("--choose -1 --face none.mp4", "--choose must be a whole number from 0"),
    ("--face-scale 1", "but no face: add --face FILE"),
    ("--face-anchor 1", "but no face: add --face FILE"),
    ("--anchor 1.5", "--anchor must lie between 0 and 1"),
    ("--mask photo.png", "but no face: add --face FILE"),
    ("--mask none.png", "mask none.png does not exist"),
    ("--mask move.json", "mask move.json is not a readable PNG"),
    ("--after jump", "after must be one of stop, continue, ease, loop"),
    ("--face notes.txt", "notes.txt cannot drive a face: use a video"),
    ("--face none.mp4", "video none.mp4 does not exist"),
    ("--face none.wav", "the sound none.wav does not exist"),
    ("--face none.npy", "the landmark file none.npy does not exist"),
    ("--seed -1", "--seed must be a whole number from 0"),
    ("--control-scale nan", "--control-scale must be finite"),
    ("--control-scale -1", "--control-scale must lie between"),
    ("--size 100", "--size must be WIDTHxHEIGHT"),
    ("--size 100000x100000", "--size must not have more pixels than 2048x2048, but 100000x"),
    ("--size 0x64", "width in --size must be"),
    ("--device gpu", "--device must be cpu, cuda"),
    ("--model maxi", "there is no model 'maxi'"),
    ("--speed 3", "unrecognized arguments: --speed 3"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS)
def test_a_bad_option_gets_one_sentence(options, sentence, place, calls, capsys):
    assert sentence in refused(capsys, "photo.png", "move.json", *options.split())
    assert not calls


@pytest.fixture
def portrait(place):
    """A photograph with a face, and landmarks that fit it."""
    face = Image.open(DATA / "astronaut.jpg").crop((60, 0, 360, 300))
    face.save(place / "face.png")
    networks = DATA.parent / "weights" / "face_landmarker.task"
    (place / "weights" / networks.name).symlink_to(networks)
    spread = np.linspace(60, 160, 68)[:, None].repeat(2, 1)
    np.save(place / "marks.npy", np.stack([spread] * 4))
    return face


def test_a_face_and_all_that_belongs_to_it_reach_the_model(portrait, place, calls):
    Image.new("L", (150, 150), 255).save(place / "mask.png")
    options = (
        "--face marks.npy --mouth-strength 1.5 --pose-strength 0 --face-scale 0.5 --seconds 0.5"
        " --mask mask.png --mask-softness 8 --after loop"
    )
    assert main(["animate", "face.png", *options.split()]) == 0
    (call,) = calls
    motion = call["motion"]
    assert motion.face == FaceSource("marks.npy", strengths=Strengths(pose=0, mouth=1.5))
    assert motion.size == (300, 300) and motion.mask.all() and motion.after == "loop"
    wanted = {"face_scale": 0.5, "seconds": 0.5, "mask_softness": 8}
    assert {key: call[key] for key in wanted} == wanted
    assert (place / "outputs" / "face-marks" / "clip.mp4").is_file()


def test_a_face_in_the_motion_file_is_found_beside_it_and_takes_strengths(portrait, place, calls):
    (place / "moves").mkdir()
    (place / "marks.npy").rename(place / "moves" / "marks.npy")
    Motion((300, 300)).with_face("moves/marks.npy").save(place / "moves" / "m.json")
    assert main(["animate", "face.png", "moves/m.json", "--eyes-strength", "2"]) == 0
    face = calls[0]["motion"].face
    assert Path(face.source).is_file() and face.strengths == Strengths(eyes=2)


def test_another_face_file_keeps_what_the_motion_file_says_of_the_face(portrait, place, calls):
    face = FaceSource("other.wav", strengths=Strengths(mouth=1.5), choose=1)
    Motion((300, 300)).with_face(face).save(place / "m.json")
    both = ["animate", "face.png", "m.json", "--face", "marks.npy"]
    assert main(both) == main([*both, "--choose", "0", "--mouth-strength", "1"]) == 0
    kept, given = (call["motion"].face for call in calls)
    assert kept == FaceSource("marks.npy", strengths=Strengths(mouth=1.5), choose=1)
    assert given == FaceSource("marks.npy")


def test_an_empty_name_for_a_face_is_refused(portrait, calls, capsys):
    assert "a face's source is empty: name a video" in refused(capsys, "face.png", "--face", "")
    assert not calls


def test_the_chosen_face_must_be_in_the_picture(portrait, place, calls, capsys):
    silence(place / "long.wav", 0.5)
    sentence = refused(capsys, "face.png", "--face", "long.wav", "--choose", "1")
    assert "face 1 was asked for, but the picture shows 1 face, counted from 0" in sentence
    assert not calls


def silence(path, seconds):
    """A wav file of 16 bits."""
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * int(16_000 * seconds)))


BAD_FACES = [  # picture, what drives it, sentence
    ("photo.png", "long.wav", "no face was found in the picture"),
    ("cut.png", "long.wav", "the face is cut by the picture's border"),
    ("face.png", "short.wav", "the sound lasts 0.10 seconds"),
    ("face.png", "broken.wav", "cannot be decoded"),
    ("face.png", "long.mp4", "video long.mp4 holds no pictures"),
    ("face.png", "broken.mp4", "video broken.mp4 cannot be decoded (Invalid data found"),
    ("face.png", "nan.npy", "hold NaN or infinite values"),
    ("face.png", "shape.npy", "must have the shape [frames, 68, 2]"),
    ("face.png", "outside.npy", "lie far outside the 300x300 picture"),
    ("face.png", "broken.npy", "must be one array as numpy.save writes it"),
    ("face.png", "norm.npy", "must be pixels (x, y) of the photograph"),
    ("face.png", "folder.wav", "folder.wav is a folder"),
    ("face.png", "folder.mp4", "folder.mp4 is a folder"),
]


@pytest.mark.parametrize(("picture", "source", "sentence"), BAD_FACES)
def test_a_face_that_cannot_be_driven_gets_one_sentence(
    picture, source, sentence, portrait, place, calls, capsys
):
    portrait.crop((0, 0, 300, 110)).save(place / "cut.png")
    silence(place / "long.wav", 0.5)
    silence(place / "long.mp4", 0.5)
    silence(place / "short.wav", 0.1)
    for name in ("broken.wav", "broken.mp4", "broken.npy"):
        (place / name).write_bytes(b"nonsense" * 20)
    for name in ("folder.wav", "folder.mp4"):
        (place / name).mkdir()
    np.save(place / "norm.npy", np.load("marks.npy") / 300)
    np.save(place / "nan.npy", np.full((4, 68, 2), np.nan))
    np.save(place / "shape.npy", np.zeros((4, 478, 3)))
    np.save(place / "outside.npy", np.full((4, 68, 2), 900.0))
    assert sentence in refused(capsys, picture, "--face", source)
    assert not calls


def test_the_models_own_rate_tells_how_long_a_clip_may_be(portrait, place, calls, capsys):
    (place / "weights" / "mini" / "settings.json").write_text('{"fps": 8}')
    sentence = refused(capsys, "face.png", "--face", "marks.npy", "--seconds", "0")
    assert "--seconds at 12.5 frames per second must lie between 0.16 and 800" in sentence
    assert "between 0.25 and 1250" in refused(capsys, "photo.png", "move.json", "--seconds", "0")


def test_a_driving_video_is_looked_at_before_the_model_is_loaded(portrait, place, calls, capsys):
    write_clip("still.mp4", np.zeros((1, 64, 64, 3), np.uint8), 10)
    (place / "broken.mp4").write_bytes(b"nonsense" * 20)
    assert "at least 2 frames, but 1 came" in refused(capsys, "face.png", "--face", "still.mp4")
    assert "cannot be decoded" in refused(capsys, "face.png", "--face", "broken.mp4")
    top = np.asarray(portrait)[:110]
    write_clip("cut.mp4", np.stack([top, top]), 10)
    sentence = refused(capsys, "face.png", "--face", "cut.mp4")
    assert "the face is cut by the driving video's border" in sentence
    assert not calls


def test_a_voice_asks_for_the_recogniser_before_the_model_is_loaded(
    portrait, calls, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "hama", None)
    sentence = refused(capsys, "face.png", "--face", str(DATA / "speech.wav"))
    assert "pip install .[speech]" in sentence and not calls


def test_missing_arguments_get_one_sentence(capsys):
    assert "required: IMAGE" in refused(capsys)
    assert "give a MOTION.json or --face FILE" in refused(capsys, "photo.png")


def test_a_missing_mini_model_says_where_it_was_sought(place, calls, capsys):
    (place / "weights" / "mini").rename(place / "weights" / "other")
    assert "the mini model is not at" in refused(capsys, "photo.png", "move.json")


def test_what_the_model_refuses_is_one_sentence_and_leaves_nothing(place, monkeypatch, capsys):
    def animate(*args, **settings):
        raise InputError("more frames\nthan the model has")

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    assert "more frames than the model" in refused(capsys, "photo.png", "move.json")
    assert not (place / "outputs").exists()


def test_too_little_memory_gets_one_sentence(place, monkeypatch, capsys):
    def animate(*args, **settings):
        raise MemoryError

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    assert "not enough memory" in refused(capsys, "photo.png", "move.json")


def test_a_read_only_folder_is_noticed_before_the_model_runs(place, calls, monkeypatch, capsys):
    def refuse(**options):
        raise OSError(errno.EROFS, "no")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert "read-only disk" in refused(capsys, "photo.png", "move.json")
    assert not calls and not (place / "outputs").exists()


def test_a_file_in_place_of_the_output_folder_is_refused(place, calls, capsys):
    sentence = refused(capsys, "photo.png", "move.json", "--out", "photo.png")
    assert "photo.png is a file" in sentence
    assert not calls


def test_an_interrupt_ends_with_130_and_leaves_nothing(place, monkeypatch, capsys):
    def animate(*args, progress, **settings):
        progress("denoise", 1, 3)
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    assert main(["animate", "photo.png", "move.json"]) == 130
    assert "interrupted, nothing was written" in capsys.readouterr().err
    assert not (place / "outputs").exists()


def test_as_a_program_wrong_input_gives_one_line_and_code_2(place):
    command = [sys.executable, "-m", "mofa_nb", "animate", "none.png", "move.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "mofa_nb: image none.png does not exist: check the path\n"


SLOW = """
import runpy, signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
def animate(*args, **settings):
    open("started", "w").close()
    time.sleep(60)
sys.modules["mofa_nb.animate"] = types.SimpleNamespace(animate=animate)
sys.argv[1:] = ["animate", "photo.png", "move.json"]
runpy.run_module("mofa_nb", run_name="__main__")
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_as_a_program_ctrl_c_or_its_end_leaves_nothing_half_written(sent, place):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if Path("started").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert list((place / "outputs").iterdir()), "a run keeps its unfinished files in the folder"
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in stderr and "Traceback" not in stderr
    assert not (place / "outputs").exists()
