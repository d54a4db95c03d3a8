"""`python -m mofa_nb check`, on a toy model, and the benchmarks for a card, run dry."""

import json
import re

import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

from mofa_nb import check
from mofa_nb.__main__ import main
from mofa_nb.animate import Session
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.weights import WEIGHT_NAMES
from tests.benchmarks import gpu


def test_the_check_tries_ways_motions_and_speeds_and_writes_a_page(
    toy_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(check, "MOTIONS", check.MOTIONS[:1])
    assert (
        main(["check", "--model", str(toy_folder), "--out", str(tmp_path), "--device", "cpu"]) == 0
    )
    found = json.loads((tmp_path / "check.json").read_text())
    assert all(re.search(r"at most [01] of 255", found[f"memory {way}"]) for way in WAYS)
    assert found["scale 0 beside plain SVD"] == "the same"
    assert all(found[f"speed {speed}"]["seconds"] > 0 for speed in SPEEDS)
    assert found[check.MOTIONS[0]]["EPE"] >= 0
    assert found[check.MOTIONS[0]]["EPE / still, pixels in [0, 1]"] >= 0
    unet = found["model"]["parts"]["unet"]
    assert unet["format"].startswith("torch.")
    assert unet["tensors"] == len(load_file(toy_folder / "unet" / WEIGHT_NAMES[1]))
    assert "the published weights" in found["left out"]
    assert Image.open(tmp_path / "check.png").width > 300
    said = capsys.readouterr().err
    assert "left out: faces" in said and "check.json" in said


def test_adapters_see_pixels_as_in_training_only_while_that_is_tried(toy_folder):
    session, seen = Session(toy_folder, "cpu"), []
    nets = [adapter.controlnet_cond_embedding for adapter in session.models.adapters.values()]
    for net in nets:
        net.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    picture = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32).to(nets[0].conv_in.weight)
    with torch.no_grad():
        with check.pixels_as_trained(session):
            nets[0](picture)
        nets[0](picture)
    torch.testing.assert_close(seen, [(picture + 1) / 2, picture])


def test_its_short_form_leaves_motions_and_speeds_out_and_says_so(toy_folder, tmp_path):
    arguments = ["check", "--model", str(toy_folder), "--out", str(tmp_path), "--short"]
    assert main([*arguments, "--device", "cpu"]) == 0
    found = json.loads((tmp_path / "check.json").read_text())
    assert "speed fast" not in found and "motions and speeds" in found["left out"]
    assert not (tmp_path / "check.png").exists()


def test_what_was_measured_stands_where_a_later_check_fails(toy_folder, tmp_path, monkeypatch):
    def fails(session, name, **settings):
        raise RuntimeError("a card fell out")

    monkeypatch.setattr(check, "shipped", fails)
    arguments = ["check", "--model", str(toy_folder), "--device", "cpu", "--out"]
    with pytest.raises(RuntimeError, match="a card fell out"):
        main([*arguments, str(tmp_path)])
    found = json.loads((tmp_path / "check.json").read_text())
    assert next(iter(found)) == "machine" and found["scale 0 beside plain SVD"] == "the same"


def test_a_folder_that_cannot_be_made_is_told(toy_folder, capsys):
    arguments = ["check", "--model", str(toy_folder), "--device", "cpu", "--out", "x" * 300]
    assert main(arguments) == 2
    assert "cannot be written (File name too long): choose" in capsys.readouterr().err


def test_the_run_for_a_card_runs_dry(toy_folder, tmp_path):
    file = tmp_path / "gpu.json"
    dry = ["--model", str(toy_folder), "--device", "cpu", "--steps", "1", "--rounds", "1"]
    found = gpu.main([*dry, "--json", str(file)])
    assert json.loads(file.read_text()).keys() == found.keys()
    assert {"original", *SPEEDS} <= set(found["arms"]) and found["roofline"]["share"] > 0
    assert {f"{gpu.TIMED}, {way}" for way in WAYS} <= set(found)


def test_the_originals_loop_gives_what_ours_gives(toy_folder):
    models = gpu.load_models(toy_folder, "cpu", dict.fromkeys(tiny.FOLDER, torch.float32))
    models = gpu.replace(models, adapters={"trajectory": models.adapter("trajectory")})
    with torch.no_grad():
        clip = gpu.Clip(models, 3, (64, 64))
        ours = clip.denoised(2)
        with gpu.stock_attention(models):
            theirs = clip.as_originally(2)
    assert float((ours - theirs).abs().max() / ours.abs().max()) < 1e-4
