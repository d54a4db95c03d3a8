"""The command line makes a clip's files, and answers wrong input with one sentence and code 2."""

import io
import json
import os
import signal
import subprocess
import sys
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


def test_more_tracks_than_the_hint_grid_has_pixels_get_one_sentence(place, calls, capsys):
    Motion((96, 64), pins=[(1, 1)] * 65).save(place / "many.json")
    sentence = refused(capsys, "photo.png", "many.json")
    assert "65 tracks and pins are more than the 8x8 hint grid has pixels (64): draw" in sentence
    assert not calls


def test_a_file_in_place_of_the_folder_and_a_missing_model_get_one_sentence(place, capsys, calls):
    sentence = refused(capsys, "photo.png", "move.json", "--out", "photo.png")
    assert "photo.png is a file" in sentence and not calls
    (place / "weights" / "mini").rename(place / "weights" / "other")
    assert "the mini model is not at" in refused(capsys, "photo.png", "move.json")


@pytest.fixture
def failing(monkeypatch):
    """Replaces the model by one that fails after a step of its work."""

    def fail(error):
        def animate(*args, progress, **settings):
            progress("denoise", 1, 3)
            raise error

        monkeypatch.setitem(sys.modules, "mofa_nb.animate", types.SimpleNamespace(animate=animate))

    return fail


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("more frames\nthan the model has"), 2, "more frames than the model"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("CUDA out of memory: tried ..."), 2, "not enough memory"),
        (RuntimeError("[...] can't allocate memory: you tried ..."), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted, nothing was written"),
    ],
)
def test_what_ends_a_model_is_one_sentence_and_leaves_nothing(
    error, code, sentence, place, failing, capsys
):
    failing(error)
    assert main(["animate", "photo.png", "move.json"]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (place / "outputs").exists()


def test_another_error_of_a_model_is_no_lack_of_memory(place, failing):
    failing(RuntimeError("a mistake"))
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["animate", "photo.png", "move.json"])


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
import json, sys
from mofa_nb.__main__ import main
for line in json.load(sys.stdin):
    assert main(line.split()) == 2, line
    heavy = {"torch", "diffusers", "transformers", "cv2", "scipy"} & set(sys.modules)
    assert not heavy, (line, heavy)
"""
LONG = "x" * 300  # no file can have such a name
MOVED = "animate photo.png move.json"
DRIVEN = f"{MOVED} --face none.mp4"
REFUSED = [  # what the functions below refuse has more cases in their own tests
    ("animate", "required: IMAGE"),
    ("animate photo.png", "give a MOTION.json or --face FILE"),
    ("animate broken.png move.json", "image broken.png cannot be read"),
    ("animate photo.png outside.json", "outside the 96x64 image"),
    ("animate photo.png --face none.mp4", "video none.mp4 does not exist"),
    ("animate photo.png --face notes.txt", "notes.txt cannot drive a face: use a video"),
    (f"{MOVED} --frames 2.5", "--frames must be a whole number from 2"),
    (f"{MOVED} --control-scale nan", "--trajectory-scale must be finite"),
    (f"{MOVED} --seconds 1 --frames 5", "is --frames or --seconds: leave one of them out"),
    (f"{DRIVEN} --fps 8", "--fps of a clip with a face must lie between 12.5 and 240, but 8"),
    (f"{DRIVEN} --face-scale -1", "--landmark-scale must lie between"),
    (f"{DRIVEN} --mouth-strength 3", "mouth strength must lie between 0 and 2"),
    (f"{MOVED} --choose 1", "--choose was given, but no face follows anything: add --face FILE"),
    (f"{MOVED} --face-scale 1", "but no face: add --face FILE"),
    (f"{MOVED} --mask photo.png", "but no face: add --face FILE"),
    (f"{MOVED} --mask broken.png --face broken.png", "mask broken.png cannot be read"),
    (f"{MOVED} --size 100", "--size (WIDTHxHEIGHT) must be"),
    (f"{MOVED} --size 100000x100000", "must not have more pixels than 2048x2048, but 100000x"),
    (f"{MOVED} --device gpu", "--device must be cpu, cuda"),
    (f"{MOVED} --model maxi", "there is no model 'maxi'"),
    (f"{MOVED} --model {LONG}", "there is no model 'xxx"),
    (f"{MOVED} --base photo.png", "only a released model takes another base"),
    (f"{MOVED} --model release --base nowhere.bin", "the base model nowhere.bin does not exist"),
    (f"{MOVED} --camera fly:1", "a camera move is a name, a strength"),
    (f"{MOVED} --haste 3", "unrecognized arguments: --haste 3"),
    ("sweep photo.png move.json --seed 1,2", "and --out DIR"),
    ("sweep photo.png move.json --seed 1 --out a", "several values of a setting"),
    ("convert move.json", "required: OUT"),
    ("tracks none.mp4", "required: --out"),
    ("tracks move.json --out a.json", "move.json cannot be decoded"),
    ("tracks none.mp4 --out a --points 1,x", "--points: invalid points value: '1,x'"),
    ("batch none.csv --out a", "list of jobs none.csv does not exist"),
    (f"batch {LONG} --out a", "does not exist"),
    ("batch broken.json --out a", "broken.json cannot be read"),
    ("batch jobs.csv", "give --out DIR"),
    ("batch jobs.csv --out a", "a job has no 'sede'"),
    ("batch nameless.csv --out a", "job 1 of nameless.csv must name an image"),
    ("batch empty --out a", "there is no job in empty"),
    ("check --model maxi", "there is no model 'maxi'"),
]


def test_what_cannot_be_used_gets_one_sentence_before_anything_heavy_is_imported(place):
    (place / "weights" / "mini" / "settings.json").write_text("{}")
    (place / "broken.png").write_bytes(b"no picture")
    (place / "broken.json").write_text('{"size": [96,')
    (place / "outside.json").write_text('{"size": [96, 64], "pins": [[96, 0]]}')
    (place / "jobs.csv").write_text("image,sede\nphoto.png,3\n")
    (place / "nameless.csv").write_text("image,motion\n,move.json\n")
    (place / "empty").mkdir()
    lines = json.dumps([line for line, _ in REFUSED])
    command = [sys.executable, "-c", LIGHT]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert done.stdout == "" and len(said) == len(REFUSED)
    for (line, sentence), answer in zip(REFUSED, said, strict=True):
        assert answer.startswith("mofa_nb: ") and sentence in answer, line
    assert not (place / "a").exists()


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
