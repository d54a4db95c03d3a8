"""Commands beside `animate`: other tools' tracks, a film's motion, sweeps and lists of jobs."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from cli_hands import GOOD, refused, still_clip
from PIL import Image

from mofa_nb import commands
from mofa_nb import sweep as sweep_module
from mofa_nb.__main__ import main
from mofa_nb.media.video import write_clip
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.outputs import load_card


def test_tracks_are_converted_there_and_back(place, capsys):
    assert main("convert move.json tracks.npy".split()) == 0
    assert "1 tracks, 0 pins: tracks.npy" in capsys.readouterr().out
    assert main("convert tracks.npy back.json --image photo.png".split()) == 0
    assert "81 frames at 16 per second" in capsys.readouterr().err
    back = Motion.load("back.json")
    assert back.size == (96, 64) and back.tracks[0].points == ((20, 20), (60, 30))
    Image.new("RGB", (48, 32)).save("small.png")
    assert main("convert move.json small.json --image small.png".split()) == 0
    assert Motion.load("small.json").size == (48, 32)


def test_animate_takes_tracks_of_another_tool_and_adds_a_camera_and_a_loop(place, calls, capsys):
    main("convert move.json tracks.npy".split())
    options = ["--camera", "zoom_in 0.2", "--loop", "--out", "there"]
    assert main(["animate", "photo.png", "tracks.npy", *options]) == 0
    motion = calls[0]["motion"]
    assert len(motion.tracks) == 1 and str(motion.camera[0]) == "zoom_in 0.2"
    assert motion.after == "close"
    assert {"clip.gif", "clip.webp"} <= set(os.listdir("there"))
    assert "fill the clip" in capsys.readouterr().err


def test_a_camera_or_a_flow_is_motion_enough(place, calls, capsys):
    np.save("flow.npy", np.ones((4, 2, 64, 96), np.float32))
    assert main(["animate", "photo.png", "--camera", "pan_left 0.1"]) == 0
    assert os.path.exists("outputs/photo-camera/clip.mp4")
    assert main(["animate", "photo.png", "--flow", "flow.npy", "--out", "b"]) == 0
    assert calls[1]["flow"] == "flow.npy"
    assert "runs free" not in capsys.readouterr().err


@pytest.fixture
def film(place):
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    picture = np.array(Image.fromarray(noise).resize((120, 80), Image.Resampling.BICUBIC))
    write_clip("film.mp4", np.stack([picture[:64, t : 96 + t] for t in range(4)]), 8)


def test_a_films_motion_is_written_as_a_motion_file(film, capsys):
    line = ["tracks", "film.mp4", "--points", "40,30 60,20", "--out", "taken.json"]
    assert main(line) == 0
    taken = Motion.load("taken.json")
    assert taken.size == (96, 64) and taken.tracks[0].points[0] == (40, 30)
    assert taken.tracks[1].path(4)[-1] == pytest.approx([57, 20], abs=0.7)
    assert "4 frames at 8 per second" in capsys.readouterr().err


LONG = "x" * 300  # no file can have such a name
REFUSED = [  # after torch is imported; before: test_cli
    ("convert tracks.npy back.json", "do not name the picture's size"),
    ("convert none.npy back.json", "none.npy does not exist"),
    ("convert move.json back.txt", "saved as .json, .pth or .npy"),
    ("convert move.json none/back.npy", "cannot be written"),
    ("tracks film.mp4 --out a.json --points 0", "points must be a whole number from 1"),
    ("tracks film.mp4 --out a.json --frames 1", "num_frames must be a whole number from 2"),
    ("sweep photo.png move.json --seed 1,x --out a", "--seed must be a number"),
    (f"animate photo.png move.json --select 5,5 --select-with {LONG}", "no folder of SAM 2's"),
    ("animate photo.png move.json --flow move.json", "is no .flo, .npy or .npz"),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSED)
def test_what_a_command_cannot_use_gets_one_sentence(line, sentence, film, calls, capsys):
    main("convert move.json tracks.npy".split())
    capsys.readouterr()
    assert sentence in refused(capsys, *line.split(), command=())
    assert not calls


@pytest.fixture
def swept(calls, monkeypatch):
    """The model of a sweep replaced; collects what it was called with."""
    monkeypatch.setattr(sweep_module, "animate", sys.modules["mofa_nb.animate"].animate)
    return calls


def test_a_sweep_makes_every_combination_and_one_picture(place, swept, capsys):
    line = "sweep photo.png move.json --seed 1,2 --trajectory-scale 0.5,1 --steps 3 --out there"
    assert main(line.split()) == 0
    made = [(one["seed"], one["trajectory_scale"], one["steps"]) for one in swept]
    assert made == [(1, 0.5, 3), (1, 1.0, 3), (2, 0.5, 3), (2, 1.0, 3)]
    assert "4 clips: there/sweep.png" in capsys.readouterr().out
    width, height = Image.open("there/sweep.png").size
    assert width > 2 * 96 and height > 2 * 64
    card = load_card("there/seed-2_trajectory_scale-0.5")
    assert (card["settings"]["seed"], card["settings"]["trajectory_scale"]) == (2, 0.5)


def test_a_sweep_in_python_plays_in_a_notebook(place, swept):
    image = np.zeros((64, 96, 3), np.uint8)
    made = sweep_module.sweep(image, Motion.from_json(GOOD), seed=[1, 2, 3])
    assert made.captions == ["seed 1", "seed 2", "seed 3"] and made.columns == 1
    page = made._repr_html_()
    assert page.count("<img") == 3 and "seed 3" in page


def batch(*more):
    return main(["batch", "jobs.csv", "--out", "there", "--seed", "7", *more])


@pytest.fixture
def jobs(place, calls):
    with open("jobs.csv", "w", encoding="utf-8-sig") as file:
        file.write("image,motion,seed,control-scale,loop\nphoto.png,move.json,,,\n")
        file.write("none.png,move.json,,,\nphoto.png,move.json,8,0.5,yes\n")
    return calls


def test_a_batch_makes_all_it_can_and_lists_the_rest(jobs, capsys):
    assert batch() == 0
    out, err = capsys.readouterr()
    assert "2 of 3 clips: there" in out
    assert "mofa_nb: none.png: image none.png does not exist" in err and "denoise" not in err
    assert [(call["seed"], call.get("trajectory_scale")) for call in jobs] == [(7, None), (8, 0.5)]
    assert [call["motion"].after for call in jobs] == ["stop", "close"]
    assert jobs[0]["model"] is jobs[1]["model"], "the model is loaded once"
    folders = [name for name in os.listdir("there") if name.startswith("photo-move-")]
    assert len(folders) == 2
    assert {load_card(f"there/{name}")["settings"]["seed"] for name in folders} == {7, 8}
    failed = [json.loads(line) for line in open("there/failed.jsonl")]
    assert len(failed) == 1 and "does not exist" in failed[0]["error"]


def test_a_clip_that_does_not_fit_into_memory_is_told_and_the_batch_goes_on(
    jobs, monkeypatch, capsys
):
    def animate(image, motion, *, seed, **settings):
        if seed == 7:
            raise RuntimeError("CUDA out of memory: tried to allocate")
        return still_clip(image, motion, seed=seed, **settings)

    monkeypatch.setattr(sys.modules["mofa_nb.animate"], "animate", animate)
    assert batch() == 0
    out, err = capsys.readouterr()
    assert "1 of 3 clips: there" in out
    assert "photo.png: there is not enough memory for this clip: ask for fewer --frames" in err


@pytest.mark.parametrize("out", ["photo.png", "x" * 300])
def test_a_batch_into_what_can_be_no_folder_is_told(out, jobs, capsys):
    assert main(["batch", "jobs.csv", "--out", out]) == 2
    assert "cannot be written" in capsys.readouterr().err and not jobs


def test_a_batch_of_which_nothing_was_made_fails(jobs):
    os.remove("photo.png")
    assert batch() == 1


@pytest.mark.parametrize("clicks", ["10,20 30,40", ["10,20", "30,40"]])
def test_a_job_selects_by_one_or_more_clicks(clicks, place, calls, monkeypatch):
    picked = []
    monkeypatch.setattr(
        commands, "brush_thing", lambda m, _, on, off, by: picked.extend([on, off]) or m
    )
    job = {"image": "photo.png", "motion": "move.json", "select": clicks, "select-not": "1,2"}
    with open("jobs.jsonl", "w") as file:
        file.write(json.dumps(job))
    assert main("batch jobs.jsonl --out there".split()) == 0
    assert [*map(list, picked)] == [[(10, 20), (30, 40)], [(1, 2)]]


def test_a_batch_goes_on_where_it_was_and_takes_the_list_of_failures(jobs, capsys):
    batch()
    shutil.move("there/failed.jsonl", "again.jsonl")
    shutil.copy("photo.png", "none.png")
    batch()
    assert len(jobs) == 3 and jobs[2]["image"].shape == (64, 96, 3)
    assert not os.path.exists("there/failed.jsonl")
    batch("--overwrite")
    assert len(jobs) == 6
    capsys.readouterr()
    assert main("batch again.jsonl --out more".split()) == 0
    assert "1 of 1 clips" in capsys.readouterr().out


def test_each_process_of_a_launch_takes_its_share(jobs, monkeypatch, capsys):
    for rank in ("0", "1"):
        for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, value)
        assert batch() == 0
    assert [call["seed"] for call in jobs] == [7, 8]
    assert os.path.exists("there/failed-1.jsonl") and not os.path.exists("there/failed-0.jsonl")


def test_a_folder_of_pictures_is_a_list_with_the_motions_named_after_them(place, calls):
    os.mkdir("many")
    for name in ("a.png", "ab.png"):
        shutil.copy("photo.png", f"many/{name}")
    for name in ("a_one.json", "a_two.json", "ab_one.json"):
        shutil.copy("move.json", f"many/{name}")
    assert main("batch many --out there".split()) == 0
    assert len(calls) == 3
    assert sorted(name[:-9] for name in os.listdir("there")) == [
        "a-a_one", "a-a_two", "ab-ab_one",
    ]  # fmt: skip


def test_another_base_and_a_few_step_unet_reach_the_session(place, calls):
    parts = {"base": "svd_xt.safetensors", "few_step": "lcm.safetensors"}
    for file in parts.values():
        (place / file).touch()
    options = ["--base", parts["base"], "--few-step", parts["few_step"], "--model", "release"]
    assert main(["animate", "photo.png", "--camera", "pan_left 0.1", *options]) == 0
    assert calls[0]["model"]._parts == parts


def test_a_face_on_the_line_of_a_batch_is_every_jobs(jobs, capsys):
    np.save("marks.npy", np.linspace(20, 50, 68)[:, None].repeat(2, 1)[None].repeat(3, 0))
    batch("--face", "marks.npy")
    assert [call["motion"].face.source for call in jobs] == ["marks.npy"] * 2
    assert len([name for name in os.listdir("there") if "-marks-" in name]) == 2
    capsys.readouterr()
    assert batch("--face", "marks.npy", "--face", "marks.npy") == 2
    assert "a batch takes one --face" in capsys.readouterr().err
