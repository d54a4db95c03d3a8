"""Clips on disk: what is written, who can read it, and how training goes through it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import tiny
import torch
import webdataset
from train_hands import asked, job_for

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.bank import Search, write_index
from mofa_nb.media.images import read_image
from mofa_nb.media.video import write_clip
from mofa_nb.paths import data_file
from mofa_nb.train import shards
from mofa_nb.train.__main__ import main
from mofa_nb.train.parts import open_parts
from mofa_nb.train.shards import Shards, full_flow, released_hints
from mofa_nb.train.stages import _stored_scenes

SIZE, FRAMES = 64, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, a folder with one gliding picture, and shards of its clips and of two heads."""
    where = tmp_path_factory.mktemp("shards")
    tiny.write_folder(where / "model")
    (where / "films").mkdir()
    wide = cv2.resize(read_image(data_file("coffee.jpg")), (220, 72))
    glide = np.stack([wide[:, 3 * t : 3 * t + 96] for t in range(40)])
    write_clip(where / "films/glide.mp4", glide, 24)
    cv2.imwrite(str(where / "films/photo.png"), wide)
    write_index(where / "films", Search(FRAMES))
    assert make(where) == 0
    return where


def make(where, *more):
    return shards.main([
        str(where / "films"), str(where / "out"), "--model", str(where / "model"),
        "--frames", str(FRAMES), "--size", str(SIZE), str(SIZE), "--per-shard", "3", "--s2d",
        "--heads", "1", "--device", "cpu", *more,
    ])  # fmt: skip


def test_a_stock_reader_finds_every_array_of_every_clip(place):
    own = Shards(place / "out", 0, "cpu")
    paths = [str(path) for path in sorted((place / "out").glob("*.tar"))]
    stock = list(webdataset.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    assert len(stock) == len(own.clips) == 6
    for number, clip in enumerate(stock):
        mine = own.read(number)
        for name in ("latents", "image_latents", "token", "flow", "s2d_flow"):
            assert np.array_equal(clip[f"{name}.npy"], mine[name].numpy())
        assert mine["first"].shape == (3, SIZE, SIZE) and clip["about.json"] == mine["about"]
    assert mine["latents"].shape[0] == FRAMES and mine["flow"].shape[:2] == (FRAMES - 1, 2)
    assert mine["landmarks"].shape == (FRAMES, 68, 2)  # of the rendered head
    still = own.read(0)["flow"].float()[-1].median(-1).values.median(-1).values
    assert still[0] < -5 and abs(still[1]) < 1  # the picture glides to the left


def test_what_is_kept_of_the_flow_is_all_that_an_adapter_reads():
    flow = torch.randn(1, 2, 2, 128, 192)
    back = full_flow(flow[..., ::8, ::8], 8)
    assert back.shape == flow.shape
    smooth = full_flow(flow[..., ::8, ::8], 8, smooth=True)  # for one that moves pictures
    for stride in (8, 16, 32, 64):
        kept = flow[..., ::stride, ::stride]
        assert torch.equal(back[..., ::stride, ::stride], kept)
        torch.testing.assert_close(smooth[..., ::stride, ::stride], kept)
    between = (smooth[..., ::8, ::8][..., :-1] + smooth[..., ::8, ::8][..., 1:]) / 2
    torch.testing.assert_close(smooth[..., ::8, 4::8][..., :-1], between)


def test_only_missing_shards_are_made(place):
    paths = sorted((place / "out").glob("*.tar"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    content = paths[0].read_bytes()
    paths[0].unlink()
    assert make(place) == 0
    after = {path: path.stat().st_mtime_ns for path in paths}
    assert [p for p in paths if after[p] != before[p]] == paths[:1]
    assert paths[0].read_bytes()[:512] == content[:512]


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--frames", "3"], "clips of --frames 4 --size 64 64 --s2d, but --frames 3 --size"),
        (["--size", "64", "128"], "but --frames 4 --size 64 128 --s2d came: say what"),
        (["--as-released"], "--as-released --s2d came: say what they were made with, or"),
        (["--frames", "1"], "--frames must be a whole number from 2"),
        (["--per-shard", "0"], "--per-shard must be a whole number from 1"),
        (["--heads", "-1"], "--heads must be a whole number from 0"),
        (["--size", "0", "64"], "--size 0 64: both must be multiples of"),
    ],
)
def test_a_folder_of_shards_holds_clips_of_one_kind(place, more, sentence, capsys):
    paths = sorted((place / "out").glob("*.tar"))
    paths[0].rename(place / "aside")  # one is missing and would be made
    assert make(place, *more) == 2
    (place / "aside").rename(paths[0])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and sentence in said[0]
    assert sorted((place / "out").glob("*.tar")) == paths


@pytest.mark.parametrize("first, then", [(1, 2), (2, 1), (1, 1)])
def test_every_clip_comes_once_an_epoch_though_processes_change_on_the_way(
    place, monkeypatch, first, then
):
    data, seen = Shards(place / "out", 3, "cpu"), []
    for processes, turns in ((first, range(2 // first)), (then, range(2 // then, 12 // then))):
        for turn in turns:
            for index in range(processes):
                state = types.SimpleNamespace(num_processes=processes, process_index=index)
                monkeypatch.setattr(shards, "PartialState", lambda state=state: state)
                seen += data.numbers(1, turn)
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6)) and seen[:6] != seen[6:]


def run(place, stage, out, *more):
    return main(asked(stage, place / "model", place / "out", out, "--lr", "1e-3", *more))


SAMPLED = ["--s2d-share", "0.5", "--sample-every", "1"]


@pytest.mark.parametrize(
    ("stage", "warp", "more"),
    [
        ("trajectory", "features", SAMPLED),
        ("trajectory", "picture", []),
        ("landmark", "features", []),
    ],
)
def test_adapters_learn_from_clips_on_disk(place, tmp_path, stage, warp, more, capsys):
    model = shutil.copytree(place / "model", tmp_path / "model")
    config = json.loads((model / "trajectory_adapter/config.json").read_text()) | {"warp": warp}
    (model / "trajectory_adapter/config.json").write_text(json.dumps(config))
    assert run(place, stage, model, "--model", str(model), "--steps", "1", *more) == 0
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert last["loss"] > 0 and ("sample_epe" in last) == (more == SAMPLED)
    assert json.loads((model / "trajectory_adapter/config.json").read_text())["warp"] == warp


def test_hints_are_drawn_anew_where_shards_have_no_flow_of_s2d(place, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RELEASED_GRID", SIZE)
    clip, flow = Shards(place / "out", 0, "cpu").read(0), 8 * torch.randn(3, 2, 16, 16)
    changed = {"first": clip["first"].permute(1, 2, 0), "flow": flow.half()}
    kept = {k: v for k, v in (clip | changed).items() if k not in ("s2d_flow", "about")}
    kept = {name: value.numpy() for name, value in kept.items()} | {"about": clip["about"]}
    shards.write_shard(tmp_path / "one.tar", [kept])
    job = job_for("trajectory", place / "model", tmp_path, batch=1, s2d_share=1.0)
    clips_of, given = _stored_scenes(job, open_parts(job.model, ["trajectory_adapter", "s2d"])), []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        given.append(clips_of(0)["given"])
    assert torch.equal(given[0], given[2]) and not torch.equal(given[0], given[1])
    mask = released_hints(full_flow(flow[None], 4), 4).mask
    assert mask.any() and mask.sum() == mask[..., ::4, ::4].sum()


def test_hints_of_cells_are_as_few_as_those_of_the_flow_itself(monkeypatch):
    monkeypatch.setattr(shards, "RELEASED_GRID", 96)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    zoom = torch.stack([x - 48, y - 48])[None, None] / 8
    torch.manual_seed(0)
    fine, cells = (
        int(released_hints(flow, every).mask.sum())
        for flow, every in ((zoom, 1), (full_flow(zoom[..., ::8, ::8], 8), 8))
    )
    assert 0 < cells <= fine + 2


def test_a_shard_without_a_clip_is_not_written(tmp_path):
    assert shards.write_shard(tmp_path / "none.tar", []) == 0 and not list(tmp_path.iterdir())


LAUNCHED = """
import os, sys
from mofa_nb.train.__main__ import main
os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1]}
other = os.fork()
os.environ |= dict.fromkeys(("RANK", "LOCAL_RANK"), str(int(other == 0)))
ended = main(sys.argv[2:])
ended = ended if other == 0 else ended or os.waitpid(other, 0)[1]
sys.stderr.flush()
os._exit(bool(ended))
"""


def launched(place, stage, out, *more):
    """The same run by two processes that find each other as torchrun's do, from one import."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", LAUNCHED, port]
    command += asked(stage, place / "model", place / "out", out, "--lr", "1e-3", *more)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_are_one_with_twice_the_batches_in_a_step(place, tmp_path):
    """Loss by loss, and also when the run is taken up by another number of processes."""
    plan = ["--steps", "2", "--warmup", "1", "--precision", "no"]
    assert run(place, "trajectory", tmp_path / "one", *plan, "--accumulate", "2") == 0
    launched(place, "trajectory", tmp_path / "two", *plan, "--save-every", "1")
    shutil.rmtree(tmp_path / "two/trajectory_run/step-00000002")
    log = (tmp_path / "two/trajectory_run/log.jsonl").read_text()
    assert run(place, "trajectory", tmp_path / "two", *plan, "--accumulate", "2", "--resume") == 0
    logs = [log, *((tmp_path / n / "trajectory_run/log.jsonl").read_text() for n in ("one", "two"))]
    losses = [[json.loads(line)["loss"] for line in text.splitlines()] for text in logs]
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert losses[2] == pytest.approx(losses[1], abs=2e-5)


def test_clips_that_do_not_fit_are_refused(place, tmp_path, capsys):
    mixed = shutil.copytree(place / "out", tmp_path / "mixed")
    shards.write_shard(mixed / "odd.tar", [{"latents": np.zeros((3, 4, 16, 16), np.float16)}])
    for more, sentence in (
        (["--frames", "5"], "clips of --frames 4 --size 64 64, but --frames 5 --size 64 64 came"),
        (["--as-released"], "64, but --frames 4 --size 64 64 --as-released came"),
        (["--data", str(mixed)], "has clips of several sizes or lengths, but"),
    ):
        assert run(place, "trajectory", tmp_path, *more) == 2
        assert sentence in capsys.readouterr().err
    (tmp_path / "broken.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(InputError, match=r"broken\.tar is damaged"):
        Shards(tmp_path, 0, "cpu")
    with pytest.raises(InputError, match="no clips with depth"):
        Shards(place / "out", 0, "cpu", "depth")
