"""The prepared run for a card, dry, and the count without one: on the CPU, with toy networks."""

import itertools
import json
import subprocess
import sys
import time

import pytest
import tiny
import torch

from mofa_nb.config import WAYS
from mofa_nb.models.load import load_models
from mofa_nb.models.memory import Memory
from mofa_nb.sampling import speed
from tests.benchmarks import card_clip, gpu, without_card

TRACKS = (4, (64, 64), "tracks")
ENOUGH = ["--device", "cpu", "--steps", "1", "--rounds", "1", "--minutes", "99"]


@pytest.fixture
def dry(toy_folder, tmp_path):
    """Runs dry with more arguments; what is returned must be what the file holds."""

    def run(*more):
        file = tmp_path / "gpu.json"
        found = gpu.main([*ENOUGH, "--model", str(toy_folder), "--json", str(file), *more])
        written = json.loads(file.read_text())
        assert written.keys() == found.keys()
        return written

    return run


def test_everything_is_measured_beside_the_originals_loop(dry, capsys):
    found = dry("--compile-minutes", "0")
    assert {"torch", "diffusers", "python"} <= set(found["machine"])
    assert [*found["ours"]] == ["original", "exact"] and "compile" not in found
    assert {"original", "exact, unguided", "fast", "draft"} < set(found["others"])
    for entry in (*found["ours"].values(), *found["others"].values()):
        assert len(entry["samples"]) == 1 and entry["times as fast"] > 0
        parts = ["S2D", "image", "conditioning", "denoising", "decoding"]
        assert [*entry["samples"][0]["stages"]] == parts
        assert sum(entry["samples"][0]["stages"].values()) <= entry["samples"][0]["clip"]
    assert len(found["memory"]) == 2 * len(WAYS)
    assert {entry["way"] for entry in found["memory"].values()} == set(WAYS)
    assert found["roofline"]["share"] > 0 and found["roofline"]["step"]["GB"] > 0
    assert "both, low" in capsys.readouterr().out


def test_a_bare_machine_has_all_that_the_run_imports(tmp_path):
    lacks = ("av", "mediapy", "imageio", "imageio_ffmpeg", "orjson", "ipycanvas", "ipywidgets")
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({lacks})); sys.argv[0] = 'gpu'; "
    code += "runpy.run_module('tests.benchmarks.gpu', run_name='__main__')"
    file = tmp_path / "out" / "gpu.json"
    more = ["--device", "cpu", "--minutes", "0", "--json", str(file)]
    assert subprocess.run([sys.executable, "-c", code, *more], cwd=gpu.ROOT).returncode == 0
    assert json.loads(file.read_text())["ours"]["exact"] == {"left out": "no time was left"}


def test_without_time_nothing_begins_and_all_is_written(dry, monkeypatch):
    monkeypatch.setattr(gpu, "measured", None)
    monkeypatch.setattr(gpu.subprocess, "Popen", None)
    found = dry("--minutes", "0")
    entries = [e for group in ("ours", "memory", "others") for e in found[group].values()]
    assert len(entries) > 10
    assert all(entry == {"left out": "no time was left"} for entry in entries)


def test_what_fails_is_a_sentence_and_the_rest_is_measured(dry, monkeypatch, capsys):
    real = gpu.run_clip

    def broken(models, frames, size, stage, new, *, loop, memory, **how):
        if loop == gpu.LOOPS["fast"] or memory.way == "balanced":
            raise RuntimeError("a card fell out. It lies there")
        return real(models, frames, size, stage, new, loop=loop, memory=memory, **how)

    monkeypatch.setattr(gpu, "run_clip", broken)
    found = dry("--compile-minutes", "0")
    failed = {"failed": "RuntimeError: a card fell out"}
    assert found["others"]["fast"] == failed
    assert found["memory"][f"{gpu.TIMED}, balanced"] == failed
    assert found["others"]["draft"]["times as fast"] > 0
    assert found["memory"]["both, low"]["clip"] > 0
    out = capsys.readouterr().out
    assert any(line.startswith("others, fast") and "fell out" in line for line in out.splitlines())


def test_every_sample_is_written_before_the_next_one_begins(dry, monkeypatch, tmp_path):
    seen, real = [], gpu.measured

    def watched(*args):
        file = tmp_path / "gpu.json"
        entry = json.loads(file.read_text()).get("ours", {}).get("exact", {})
        seen.append(len(entry.get("samples", ())))
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(gpu, "measured", watched)
    with pytest.raises(KeyboardInterrupt):
        dry("--rounds", "2")
    assert seen == [0, 0, 0, 0, 1, 2]  # two warm-ups, then A B B A


def test_compiled_loops_have_their_own_group(dry, monkeypatch):
    monkeypatch.setattr(speed, "_COMPILED", ("TransformerSpatioTemporalModel",))
    compile_eagerly = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda block: compile_eagerly(block, backend="eager")
    )
    found = dry("--compiled")
    for name in ("exact, compiled", "fast, compiled"):
        group = found[f"compiled: {name}"]
        assert group[name]["times as fast"] > 0 and group[name]["frames"]["ok"] > 0


def test_compiled_loops_that_hang_are_stopped_and_what_they_wrote_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(
        '#!/bin/sh\nwhile [ "$1" != --json ]; do shift; done\n'
        'echo \'{"compiled: exact": {"original": {}}}\' > "$2"\nsleep 60\n'
    )
    (tmp_path / "python").chmod(0o755)
    record, begin = gpu.Record(tmp_path / "gpu.json", 1), time.monotonic()
    ended = gpu.compiled_apart(record, [], 1)
    assert ended == {"process": "was stopped after 1 s"} and time.monotonic() - begin < 30
    assert record.found == {"compiled: exact": {"original": {}}}


def test_the_originals_loop_gives_what_ours_gives_and_makes_all_in_every_step(toy_folder):
    models = load_models(toy_folder, "cpu", dict.fromkeys(tiny.FOLDER, torch.float32))
    stage, made, embedded = gpu.Timer(models.device), [], []
    embedder = models.adapter("trajectory").controlnet_cond_embedding
    embedder.register_forward_pre_hook(lambda net, args: embedded.append(len(args[0])))
    for loop in (card_clip.Loop(), card_clip.Loop(original=True)):
        draw = torch.Generator().manual_seed(0)
        new = lambda *shape, d=draw: torch.randn(*shape, generator=d)  # noqa: E731
        with torch.no_grad():
            how = {"steps": 2, "loop": loop, "memory": Memory(models)}
            made.append(card_clip.run_clip(models, *TRACKS[:2], stage, new, **how))
    assert float((made[0] - made[1]).abs().max() / made[0].abs().max()) < 1e-4
    assert embedded == [1, 2, 2]


COUNT = """
import sys
from tests.benchmarks import card_clip, without_card
card_clip.CLIPS["toy"] = (3, (64, 64), "tracks")
without_card.BOUNDS["toy", "balanced"] = 1e-6
sys.exit(1 if without_card.main(sys.argv[1:])["missed"] else 0)
"""


def test_peaks_of_a_toy_clip_are_counted_judged_and_made_the_readmes_table(
    toy_folder, tmp_path, capsys
):
    file, rows = tmp_path / "peaks.json", ["--clips", "toy", "--ways", "full", "balanced"]
    rows += ["--loops", "original", "exact", "fast", "--no-flops", "--json", str(file)]
    # In a process of its own, since a pretended card stays registered.
    command = [sys.executable, "-c", COUNT, "--model", str(toy_folder), *rows]
    assert subprocess.run(command, capture_output=True, cwd=gpu.ROOT).returncode == 1
    found = json.loads(file.read_text())
    assert found["missed"] == ["toy, exact, balanced", "toy, fast, balanced"]
    peaks = found["GiB"]["toy"]
    kept = {name: ways["full"] for name, ways in peaks.items()}
    assert 0 < kept["original"]["conditioning"] < kept["exact"]["conditioning"]
    assert kept["exact"]["denoising"] < kept["fast"]["denoising"]
    assert max(peaks["exact"]["balanced"].values()) < max(kept["exact"].values())
    without_card.main(["--readme", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| clip, GiB | original | `full` | `balanced` | `low` |" and len(lines) == 3
    assert lines[2] == "| toy | 0.0 | 0.0 / 0.0 / - | 0.0 / 0.0 / - | - / - / - |"


def test_a_clips_work_is_counted_for_every_loop_and_card(toy_folder, tmp_path, capsys):
    file = tmp_path / "work.json"
    code = COUNT.replace("sys.exit", "without_card.TIMED = 'toy'; sys.exit")
    command = [sys.executable, "-c", code, "--model", str(toy_folder), "--clips"]
    assert subprocess.run([*command, "--json", str(file)], cwd=gpu.ROOT).returncode == 0
    work = json.loads(file.read_text())["work"]
    assert [*work] == [*without_card.LOOPS]
    for more, less in itertools.pairwise(("original", "exact", "fast")):
        assert all(work[more][key] > work[less][key] > 0 for key in ("TFLOP", "GB"))
        assert work[more]["H200, times"] < work[less]["H200, times"]
    without_card.main(["--readme", str(file)])
    assert capsys.readouterr().out.count("| exact | ") == 1
