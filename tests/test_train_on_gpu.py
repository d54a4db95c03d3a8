"""The run for a GPU, dry: all of it with three steps a stage on the CPU."""

import json

import cv2
import pytest
import tiny
from train_hands import script_of

from mofa_nb.models.load import load_models

DRY = "--steps 3 --batch 2 --size 64 64 --frames 4 --pool 2 --chunk 2 --log-every 1 --device cpu"


@pytest.fixture(scope="module")
def script():
    return script_of("train_on_gpu")


def test_one_command_trains_a_whole_model_with_a_small_decoder(script, tmp_path, capsys):
    model, data, out = (tmp_path / name for name in ("model", "data", "out"))
    tiny.write_folder(model)
    (data / "photos").mkdir(parents=True)
    for number, photo in enumerate(tiny.photos()):
        cv2.imwrite(str(data / "photos" / f"{number}.png"), photo.permute(1, 2, 0).numpy())
    assert script.main([str(model), str(data), str(out), "--", *DRY.split()]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [1, 2, 3] * len(script.STAGES)
    before, after = load_models(model, "cpu"), load_models(out, "cpu")
    assert before.adapters["trajectory"].config.warp == "features"
    assert after.adapters["trajectory"].config.warp == "picture"
    assert after.small_decoder is not None
    assert before.hash != after.hash
    assert not list(out.glob("*_run")) and not list(tmp_path.rglob("bank.pt"))


def test_the_minutes_fit_and_what_comes_too_late_is_left_out(script, monkeypatch):
    assert sum(minutes for _, minutes, _ in script.STAGES) < script.MINUTES < 9
    asked, clock = [], iter([0, 60, 60 * (script.MINUTES - 0.5), 60 * script.MINUTES])
    monkeypatch.setattr(script, "prepare", lambda *folders: None)
    monkeypatch.setattr(script.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(script, "train", lambda call: asked.append(call) or 0)
    assert script.main(["m", "d", "o"]) == 0
    minutes = [float(call[call.index("--minutes") + 1]) for call in asked]
    assert minutes == [script.STAGES[0][1], 0.5]
