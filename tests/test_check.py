"""`python -m mofa_nb check`, on a toy model, and the benchmarks for a card, run dry."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mofa_nb import check
from mofa_nb.__main__ import main
from mofa_nb.animate import Session
from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.weights import WEIGHT_NAMES
from mofa_nb.sampling import denoise

ADAPTERS = ("trajectory", "landmark")


def tried(models, short=True):
    return check.tried(models, torch.device("cpu"), {}, short, {}, [])


def test_the_check_tries_ways_motions_and_speeds_and_writes_a_page(
    toy_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(check, "MOTIONS", check.MOTIONS[:1])
    monkeypatch.setattr(check, "STEPS", 3)
    assert (
        main(["check", "--model", str(toy_folder), "--out", str(tmp_path), "--device", "cpu"]) == 0
    )
    found = json.loads((tmp_path / "check.json").read_text())
    assert all(found[f"memory {way}"]["levels_of_255_apart"] <= 1 for way in WAYS)
    assert found["scale 0 beside plain SVD"]["same"] is True
    assert all(found[f"speed {speed}"]["seconds"] > 0 for speed in SPEEDS)
    both = found[check.MOTIONS[0]]
    for pixels in ("pixels in [-1, 1]", "pixels in [0, 1]"):
        assert both[pixels]["epe_share_of_still"] > 0
        assert f"{pixels}: EPE {both[pixels]['epe_px']} px" in both["says"]
    assert set(found["left out"]["names"]) >= {"faces", "the card's memory"}
    height, title = Image.open(tmp_path / "check.png").height, 60
    assert height > title + 2 * 150  # a row for each range of pixels
    said = capsys.readouterr().err
    assert "left out: faces" in said and "check.json" in said


def test_every_part_tells_its_format_and_tensors(toy_folder):
    models = Session(toy_folder, "cpu").models
    parts = check.described(models)[2]["parts"]
    assert parts.keys() == models.parts.keys()
    assert parts["unet"]["tensors"] == len(load_file(toy_folder / "unet" / WEIGHT_NAMES[1]))
    assert {part["number_format"] for part in parts.values()} <= {"float32", "bfloat16"}


def test_speeds_differ_in_steps_and_pace_on_a_model_of_one_step(toy_folder, monkeypatch):
    assert check.STEPS == 25
    monkeypatch.setattr(check, "STEPS", 10)
    models = Session(toy_folder, "cpu").models
    one_step = replace(models, settings=replace(models.settings, steps=1))
    monkeypatch.setattr(check, "both_pixels", lambda *_: ("", {}))
    found = {name: values for name, _, values in tried(one_step, short=False)}
    steps = [found[f"speed {speed}"]["steps"] for speed in SPEEDS]
    assert steps == [10, 6, 3]
    assert found["speed draft"]["times_as_fast"] > found["speed exact"]["times_as_fast"] == 1


def test_a_way_that_ran_out_of_memory_says_so(toy_folder, monkeypatch):
    encode, begun = denoise.encode_start, []

    def short_of_memory(*given):
        begun.append(given)
        if len(begun) == 1:
            raise torch.OutOfMemoryError("no room")
        return encode(*given)

    monkeypatch.setattr(denoise, "encode_start", short_of_memory)
    says = {name: sentence for name, sentence, _ in tried(Session(toy_folder, "cpu").models)}
    assert "memory ran out, so the clip went on in the way 'balanced'" in says["memory full"]
    assert "ran out" not in says["memory balanced"]


def test_where_a_model_cannot_be_loaded_the_reason_is_kept_and_mini_is_tried(
    toy_folder, tmp_path, monkeypatch, capsys
):
    mini, broken, out = tmp_path / "weights/mini", tmp_path / "broken", tmp_path / "out"
    for folder in (mini, broken):
        shutil.copytree(toy_folder, folder)
    (broken / "unet" / WEIGHT_NAMES[1]).write_bytes(b"no weights")
    monkeypatch.setattr("mofa_nb.paths.weights_folder", lambda name: tmp_path / "weights" / name)
    arguments = ["check", "--short", "--device", "cpu", "--model", str(broken)]
    assert main([*arguments, "--out", str(out)]) == 2
    found = json.loads((out / "check.json").read_text())
    assert next(iter(found)) == "machine" and "is damaged" in found[f"loading {broken}"]["says"]
    assert found["model"]["name"] == "toy" and "memory low" in found
    assert "was not loaded: " in capsys.readouterr().err.splitlines()[-1]


def test_the_machine_is_told_in_numbers():
    values = check.machine(torch.device("cpu"))[2]
    assert values["memory_free_gib"] > 0 and values["disk_free_gib"] > 0
    assert {"torch", "accelerate", "huggingface_hub"} <= values["versions"].keys()


def test_a_base_goes_with_a_released_model_only(toy_folder, tmp_path, capsys):
    arguments = ["check", "--model", str(toy_folder), "--base", "svd.safetensors"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "only a released model takes another base" in capsys.readouterr().err


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
    assert "speed fast" not in found and "motions and speeds" in found["left out"]["names"]
    assert not (tmp_path / "check.png").exists()


def test_what_was_measured_stands_where_a_later_check_fails(toy_folder, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("a card fell out")

    monkeypatch.setattr(check, "both_pixels", fails)
    arguments = ["check", "--model", str(toy_folder), "--device", "cpu", "--out"]
    with pytest.raises(RuntimeError, match="a card fell out"):
        main([*arguments, str(tmp_path)])
    found = json.loads((tmp_path / "check.json").read_text())
    assert next(iter(found)) == "machine" and found["scale 0 beside plain SVD"]["same"]


def test_a_folder_that_cannot_be_made_is_told(toy_folder, capsys):
    arguments = ["check", "--model", str(toy_folder), "--device", "cpu", "--out", "x" * 300]
    assert main(arguments) == 2
    assert "cannot be written (File name too long): choose" in capsys.readouterr().err
