"""The command line of training: runs from one end to the other, recipes, and refusals."""

import json
import math

import pytest
import tiny
from train_hands import asked

from mofa_nb.config import Settings
from mofa_nb.media.video import read_video
from mofa_nb.models.checkpoints import SIZES
from mofa_nb.models.load import load_models
from mofa_nb.train import convert
from mofa_nb.train.__main__ import main, parse
from mofa_nb.train.stages import STAGES


def test_one_command_writes_the_published_model_in_our_layout(tmp_path, monkeypatch, capsys):
    published, asked = load_models(tiny.write_folder(tmp_path / "published"), "cpu"), []
    for name in ("trajectory_adapter", "landmark_adapter", "s2d"):
        monkeypatch.setitem(SIZES, name, published.parts[name].config)
    load = lambda model, *_: asked.append(model) or published  # noqa: E731
    monkeypatch.setattr(convert, "load_models", load)
    assert convert.main(["hub", str(tmp_path / "m")]) == 0 and asked == ["release"]
    assert str(tmp_path / "m/landmark_adapter") in capsys.readouterr().out.splitlines()
    assert load_models(tmp_path / "m", "cpu").settings == Settings()
    assert convert.main([str(tmp_path / "m"), str(tmp_path / "again")]) == 2
    assert "has our layout already" in capsys.readouterr().err
    assert not (tmp_path / "again").exists() and len(asked) == 1


def test_a_recipe_gives_defaults_that_options_change():
    common = ["--model", "m", "--data", "d", "--out", "o", "--recipe"]
    first = parse(["trajectory", *common, "paper-stage1"])
    assert (first.schedule.lr, first.schedule.clip, first.size) == (2e-5, 0, (384, 384))
    assert first.from_unet and first.schedule.decay == "constant"
    second = parse(["trajectory", *common, "paper-stage2", "--lr", "1e-5"])
    assert second.schedule.lr == 1e-5 and second.s2d_share == 1 and not second.from_unet
    assert second.schedule.optimizer == "adamw8bit"
    assert "trajectory_adapter.flow_encoder" in second.freeze
    assert parse(["video", *common, "svd-xtend"]).train == ("unet",)


def test_a_run_shows_a_clip_and_its_error_on_the_way(tmp_path, bank, capsys):
    model = tiny.write_configs(tmp_path)
    main(asked(
        "adapter", model, bank, tmp_path / "o", "--frames", "3", "--pool", "1", "--steps", "6",
        "--from-scratch", "all", "--clips-share", "0", "--sample-every", "1",
        "--gradient-checkpointing", "--precision", "bf16", "--lr", "0.1", "--warmup", "1",
    ))  # fmt: skip
    lines = [json.loads(li) for li in capsys.readouterr().err.splitlines() if li[0] == "{"]
    assert lines[0]["step"] == 0 and lines[-1]["sample_epe"] > 0
    pairs = [(line["sample_loss"], line["sample_loss_still"]) for line in lines[1:]]
    assert len(pairs) == 6 and any(moved != still for moved, still in pairs)  # a few digits' worth
    curve = json.loads((tmp_path / "o/curves/trajectory.json").read_text())
    assert [line["step"] for line in curve] == [*range(1, 7)] and curve[0]["loss"] > 0
    film = read_video(tmp_path / "o/trajectory_run/samples/step-00000006.mp4")
    assert film.shape == (3, 64, 128, 3)


def test_all_stages_in_turn_make_a_model_that_loads(tmp_path, bank, capsys):
    model = tiny.write_configs(tmp_path)
    how = "--batch 2 --pool 2 --chunk 2 --steps 1 --clips-share 0 --from-scratch all".split()
    for stage in ("vae", "s2d", "landmark_s2d", "video", "trajectory", "landmark"):
        part = ["--cells", "8"] if stage in ("trajectory", "landmark") else []
        assert main(asked(stage, model, bank, model, *how, *part)) == 0
        assert json.loads((model / "curves" / f"{stage}.json").read_text())[-1]["step"] == 1
    reported = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert len(reported) == 6 and all(math.isfinite(entry["loss"]) for entry in reported)
    models = load_models(model, "cpu")
    assert set(models.adapters) == {"trajectory", "landmark"}
    assert models.landmark_s2d is not models.s2d
    assert models.vae.config.scaling_factor != tiny.FOLDER["vae"]["scaling_factor"]


REFUSED = [
    ("s2d --model nowhere", "nowhere is no model folder (no settings.json): python"),
    ("face_s2d --as-released", "--as-released does nothing in stage landmark_s2d"),
    ("vae --sample-every 1", "--sample-every does nothing in stage vae"),
    ("landmark --sample-every 1", "--sample-every does nothing in stage landmark"),
    ("s2d --train unet", "--train of stage s2d must be one of s2d, but 'unet'"),
    ("s2d --batch 0", "--batch must be a whole number from 1"),
    ("video --frames 1", "--frames must be a whole number from 2"),
    ("video --size 64 70", "--size 64 70 does not fit this model"),
    ("video --s2d-share 1.5", "--s2d-share must lie between 0 and 1"),
    ("video --cells 12", "--cells 12 does not fit: 0, or a multiple of 8 up to"),
    ("vae --minutes -1", "--minutes must be more than 0"),
    ("vae --data empty", "nothing to read in empty"),
    ("vae --from-scratch unet", "vae has no weights: put them there, or say --from"),
    ("vae --log-with abacus", "of what is installed, must be one of"),
    ("vae --resume", "no checkpoint to resume in out/vae_run"),
    ("vae --keep 0", "--keep must be a whole number from 1"),
    ("vae --model broken", "settings.json is not valid JSON"),
]


@pytest.mark.parametrize("words, sentence", REFUSED)
def test_bad_input_gets_one_sentence_and_code_2(
    words, sentence, tmp_path, bank, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model, (stage, *more) = tiny.write_configs(tmp_path / "toy"), words.split()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/settings.json").write_text("{")
    usual = ["--model", str(model), "--data", str(bank), "--out", "out", "--device", "cpu"]
    assert main([stage, *usual, "--from-scratch", "all", *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and sentence in lines[0]


def test_an_unknown_stage_names_the_stages(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["upscale", "--model", "m", "--data", "d", "--out", "o"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "upscale" in last and all(stage in last for stage in STAGES)
