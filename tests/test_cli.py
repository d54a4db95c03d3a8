"""The command line makes a clip's files, and answers wrong input with one sentence and code 2."""

import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_hands import GOOD, refused
from PIL import Image

from mofa_nb.__main__ import main
from mofa_nb.checks import InputError
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.outputs import load_card


def test_animate_writes_its_four_files_and_names_the_model(place, calls, capsys):
    assert main(["animate", "photo.png", "move.json"]) == 0
    folder = place / "outputs" / "photo-move"
    assert sorted(os.listdir(folder)) == ["card.json", "clip.mp4", "filmstrip.png", "flow.png"]
    out, err = capsys.readouterr()
    assert out.startswith("mini model") and "outputs/photo-move/clip.mp4" in out
    assert "the picture was cropped" in err and "denoise   : " in err  # bars stand in a column
    card = load_card(folder)
    assert card["image"]["name"] == "photo.png" and card["motion"] == Motion.from_json(GOOD)


def test_every_option_reaches_the_model_and_what_is_not_given_is_left_to_it(place, calls):
    options = "--frames 6 --fps 12 --steps 3 --seed 5 --control-scale 0.5 --size 64x32"
    (place / "other").mkdir()
    rest = ["--device", "cpu", "--model", "other", "--out", "there"]
    assert main(["animate", "photo.png", "move.json"]) == 0
    assert set(calls[0]) == {"image", "motion", "model", "progress"}
    assert main(["animate", "photo.png", "move.json", *options.split(), *rest]) == 0
    call = {key: calls[1][key] for key in calls[1] if key not in ("image", "motion", "progress")}
    assert str(call.pop("model")) == "Session('other', 'cpu', {})"
    assert call == {
        "num_frames": 6, "fps": 12, "steps": 3, "seed": 5, "trajectory_scale": 0.5,
        "size": (64, 32),
    }  # fmt: skip
    assert (place / "there" / "clip.mp4").is_file()


def test_an_earlier_clip_is_kept_unless_overwriting_is_asked_for(place, calls, capsys):
    command = ["animate", "photo.png", "move.json"]
    assert main(command) == main(command) == 0
    outputs = place / "outputs"
    assert sorted(os.listdir(outputs)) == ["photo-move", "photo-move-2"]
    assert "outputs/photo-move-2/clip.mp4" in capsys.readouterr().out
    sentence = refused(capsys, *command[1:], "--out", "outputs/photo-move")
    assert "outputs/photo-move holds a clip already" in sentence and len(calls) == 2
    assert main([*command, "--frames", "7", "--overwrite"]) == 0
    assert sorted(os.listdir(outputs)) == ["photo-move", "photo-move-2"]
    assert load_card(outputs / "photo-move")["settings"]["num_frames"] == 7


@contextmanager
def stdout_that_is(kind, monkeypatch):
    """A standard output to which little or nothing can be written; gives what was."""
    if kind == "ascii":
        with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            yield stream.buffer
        return
    stream = None if kind == "none" else open("/dev/full", "w")
    monkeypatch.setattr(sys, "stdout", stream)
    if kind == "closed":
        stream.close()
    yield io.BytesIO()
    if kind == "full":
        stream.close()  # as the interpreter does at its end


@pytest.mark.parametrize(
    ("kind", "said"),
    [("full", b""), ("closed", b""), ("none", b""), ("ascii", rb"mini model \xb7 5 frames")],
)
def test_an_odd_stdout_does_not_make_a_finished_clip_fail(kind, said, place, calls, monkeypatch):
    with stdout_that_is(kind, monkeypatch) as written:
        assert main(["animate", "photo.png", "move.json", "--out", "out"]) == 0
        assert said in written.getvalue()
    assert (place / "out" / "clip.mp4").is_file()


def test_an_empty_motion_and_an_extreme_shape_are_said(place, calls, capsys):
    (place / "move.json").write_text('{"size": [96, 64]}')
    assert main(["animate", "photo.png", "move.json"]) == 0
    assert "the motion is empty, so the clip runs free" in capsys.readouterr().err
    Image.new("RGB", (1600, 100)).save(place / "wide.png")
    Motion((1600, 100), [[(20, 20), (60, 30)]]).save(place / "m.json")
    assert main(["animate", "wide.png", "m.json"]) == 0
    assert capsys.readouterr().err.count("is 16 times as wide as high") == 1


BAD_IMAGES = {
    "none.png": (None, "does not exist"),
    "text.png": (b"no picture", "cannot be read"),
    "tiny.png": (None, "20x90, too small"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_unreadable_image_gets_one_sentence(name, place, calls, capsys):
    content, sentence = BAD_IMAGES[name]
    if content is not None:
        (place / name).write_bytes(content)
    Image.new("RGB", (20, 90)).save(place / "tiny.png")
    assert sentence in refused(capsys, name, "move.json")
    assert not calls


BAD_MOTIONS = [  # the others: test_motion.py
    ("{", "not valid JSON"),
    ('{"size": [96, 64], "tracks": [[[20, 20], [9000, 30]]]}', "shorten it"),
    (
        '{"size": [96, 64], "pins": [' + ", ".join(["[1, 1]"] * 65) + "]}",
        "65 tracks and pins are more than the 8x8 hint grid has pixels (64): draw fewer",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_MOTIONS)
def test_a_bad_motion_file_gets_one_sentence(text, sentence, place, calls, capsys):
    (place / "move.json").write_text(text)
    assert sentence in refused(capsys, "photo.png", "move.json")
    assert not calls


BAD_OPTIONS = [
    ("--frames 0", "--frames must be a whole number from 2"),
    ("--frames 2.5", "--frames must be a whole number"),
    ("--frames many", "--frames must be a number"),
    ("--steps 0", "--steps must be a whole number from 1"),
    ("--fps 0", "--fps must lie between 1 and 240"),
    ("--fps 8 --face none.mp4", "--fps of a clip with a face must lie between 12.5 and 240, but 8"),
    ("--fps 0 --face none.mp4", "--fps of a clip with a face must lie between 12.5 and 240, but 0"),
    ("--seconds -2", "--seconds at 20 frames per second must lie between 0.1 and 500, but -2"),
    ("--seconds 0 --fps 10", "--seconds at 10 frames per second must lie between 0.2 and 1000"),
    ("--seconds soon", "--seconds must be a number"),
    ("--seconds 1 --frames 5", "a clip's length is --frames or --seconds: leave one of them out"),
    ("--face-scale -1 --face none.mp4", "--landmark-scale must lie between"),
    ("--mask-softness soft --face none.mp4", "--mask-softness must be a number"),
    ("--mouth-strength 3 --face none.mp4", "mouth strength must lie between 0 and 2"),
    ("--mouth-strength 1", "no face follows anything: add --face FILE"),
    ("--choose 1", "--choose was given, but no face follows anything: add --face FILE"),
    ("--choose -1 --face none.mp4", "choose must be a whole number from 0"),
    ("--face-scale 1", "but no face: add --face FILE"),
    ("--control-scale 101", "--trajectory-scale must lie between 0 and 100"),
    ("--mask photo.png", "but no face: add --face FILE"),
    ("--mask none.png", "mask none.png does not exist"),
    ("--mask move.json", "mask move.json cannot be read (no picture)"),
    ("--after jump", "after must be one of stop, continue, ease, loop"),
    ("--face notes.txt", "notes.txt cannot drive a face: use a video"),
    ("--face none.mp4", "video none.mp4 does not exist"),
    ("--face none.wav", "the sound none.wav does not exist"),
    ("--face none.npy", "the landmark file none.npy does not exist"),
    ("--seed -1", "--seed must be a whole number from 0"),
    ("--control-scale nan", "--trajectory-scale must be finite"),
    ("--control-scale -1", "--trajectory-scale must lie between"),
    ("--size 100", "--size (WIDTHxHEIGHT) must be"),
    (
        "--size 100000x100000",
        "--size (WIDTHxHEIGHT) must not have more pixels than 2048x2048, but 100000x",
    ),
    ("--size 0x64", "width in --size (WIDTHxHEIGHT) must be"),
    ("--device gpu", "--device must be cpu, cuda"),
    ("--model maxi", "there is no model 'maxi'"),
    ("--base nowhere.safetensors", "the base model nowhere.safetensors does not exist"),
    ("--few-step nowhere.bin", "the UNet's weight file nowhere.bin does not exist"),
    ("--few-step weights", "the UNet's weight file weights is a folder"),
    ("--base LONG", "does not exist"),
    ("--few-step LONG", "does not exist"),
    ("--model LONG", "there is no model 'xxx"),
    ("--select 5,5 --select-with LONG", "is no folder of SAM 2's weights"),
    ("--haste 3", "unrecognized arguments: --haste 3"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS)
def test_a_bad_option_gets_one_sentence(options, sentence, place, calls, capsys):
    options = options.replace("LONG", "x" * 300).split()  # no file can have such a name
    assert sentence in refused(capsys, "photo.png", "move.json", *options)
    assert not calls


def test_missing_arguments_and_a_file_in_place_of_the_folder_get_one_sentence(place, capsys, calls):
    assert "required: IMAGE" in refused(capsys)
    assert "give a MOTION.json or --face FILE" in refused(capsys, "photo.png")
    sentence = refused(capsys, "photo.png", "move.json", "--out", "photo.png")
    assert "photo.png is a file" in sentence and not calls


def test_a_missing_mini_model_says_where_it_was_sought(place, calls, capsys):
    (place / "weights" / "mini").rename(place / "weights" / "other")
    assert "the mini model is not at" in refused(capsys, "photo.png", "move.json")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("more frames\nthan the model has"), "more frames than the model"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory: tried ..."), "not enough memory"),
        (RuntimeError("[...] can't allocate memory: you tried ..."), "not enough memory"),
    ],
)
def test_what_the_model_refuses_is_one_sentence_and_leaves_nothing(
    error, sentence, place, monkeypatch, capsys
):
    def animate(*args, **settings):
        raise error

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    assert sentence in refused(capsys, "photo.png", "move.json")
    assert not (place / "outputs").exists()


def test_another_error_of_a_model_is_no_lack_of_memory(place, monkeypatch):
    def animate(*args, **settings):
        raise RuntimeError("a mistake")

    monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["animate", "photo.png", "move.json"])


def test_a_read_only_folder_is_noticed_before_the_model_runs(place, calls, monkeypatch, capsys):
    def refuse(**options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert "Read-only file system" in refused(capsys, "photo.png", "move.json")
    assert not calls and not (place / "outputs").exists()


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


def test_a_clip_that_takes_long_says_about_how_long_before_it_is_begun(place, calls, capsys):
    (place / "weights" / "mini" / "settings.json").write_text(
        '{"num_frames": 14, "steps": 2, "short_side": 160}'
    )
    for options, sentence in (
        ("--frames 140 --steps 4", "it takes about 19 minutes"),
        ("--frames 10000 --steps 4 --size 480x320", "it takes about 95 hours"),
        ("--frames 28 --steps 2", ""),
        ("--frames 14 --steps 2 --size 64x480", ""),  # cropped: what is made counts
    ):
        assert main(["animate", "photo.png", "move.json", *options.split()]) == 0
        told = capsys.readouterr().err
        assert sentence in told and bool(sentence) == ("times the work" in told)


LIGHT = """
import sys
from mofa_nb.__main__ import main
for line in sys.argv[1:]:
    assert main(line.split()) == 2, line
heavy = {"torch", "diffusers", "transformers", "cv2", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
ANIMATE = [
    "none.png move.json", "broken.png move.json", "photo.png none.json", "photo.png broken.json",
    "photo.png outside.json", "photo.png --face none.mp4", "photo.png --face notes.txt",
    "photo.png move.json --mask none.png --face broken.png", "photo.png move.json --steps 0",
    "photo.png", "photo.png move.json --model maxi", "photo.png move.json --after jump",
    "photo.png move.json --mask photo.png", "photo.png move.json --base photo.png",
]  # fmt: skip
UNUSABLE = [  # refused before torch is imported
    *(f"animate {line}" for line in ANIMATE),
    "sweep none.png move.json --seed 1,2 --out a", "sweep photo.png move.json --seed 1",
    "check --model maxi", "check --device gpu", "tracks none.mp4 --out a.json",
    "tracks move.json --out a.json", "batch none.csv --out a", "batch broken.json --out a",
]  # fmt: skip


def test_what_cannot_be_used_is_told_before_anything_heavy_is_imported(place):
    (place / "weights" / "mini" / "settings.json").write_text("{}")
    (place / "broken.png").write_bytes(b"no picture")
    (place / "broken.json").write_text('{"size": [96,')
    (place / "outside.json").write_text('{"size": [96, 64], "pins": [[96, 0]]}')
    command = [sys.executable, "-c", LIGHT, *UNUSABLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == len(UNUSABLE)


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
