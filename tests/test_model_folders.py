"""A model folder is used as it should be or refused in one sentence, and no network is asked."""

import json
import shutil
import socket

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from mofa_nb.checks import InputError
from mofa_nb.models import weights
from mofa_nb.models.load import load_models
from mofa_nb.paths import weights_folder


@pytest.fixture
def folder(toy_folder, tmp_path):
    """A copy of it that may be damaged."""
    return shutil.copytree(toy_folder, tmp_path / "copy")


def refusal(folder):
    """The one sentence with which it is refused."""
    with pytest.raises(InputError) as caught:
        load_models(folder, "cpu", tiny.FLOAT32)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_the_network_is_out_of_reach_of_tests(no_network):
    with pytest.raises(PermissionError, match="asked the network for"):
        socket.create_connection(("example.com", 80))
    with pytest.raises(PermissionError), socket.socket() as way_out:
        way_out.connect(("192.0.2.1", 80))
    assert no_network == ["example.com", "192.0.2.1"]
    no_network.clear()


def test_a_folder_without_scheduler_is_told_without_asking_a_hub(folder, monkeypatch):
    shutil.rmtree(folder / "scheduler")
    monkeypatch.chdir(folder.parent)
    assert "copy/scheduler/scheduler_config.json does not exist" in refusal("copy")


# Values of the three kinds of config

CONFIGS = [
    ("settings.json", "steps", "two", "steps must be a whole number, but 'two' came"),
    ("settings.json", "steps", 2.5, "steps must be a whole number, but 2.5 came"),
    ("settings.json", "steps", 0, "steps must lie between 1 and 1000, but 0 came"),
    ("settings.json", "fps", float("nan"), "fps must be finite"),
    ("settings.json", "guidance", 3, "guidance must be a list, but 3 came"),
    ("settings.json", "guidance", [1, 2, 3], "guidance must have 2 values"),
    ("settings.json", "guidance", [1, "x"], "guidance must be a number, but 'x' came"),
    ("settings.json", "num_frames", [4], "num_frames must be a single value"),
    ("settings.json", "num_frames", True, "num_frames must be a whole number, but True came"),
    ("settings.json", "window_fade", 1, "window_fade must be true or false, but 1 came"),
    ("settings.json", "name", 7, "name must be a text, but 7 came"),
    ("settings.json", "noise_aug", True, "noise_aug must be a number, but True came"),
    ("settings.json", "stepps", 2, "Settings has no key 'stepps'"),
    ("s2d/config.json", "grid", 10**6, "grid must lie between 8 and 1024"),
    ("s2d/config.json", "blocks", [1, 1], "blocks must have 4 values"),
    ("s2d/config.json", "estimate", "mode", "mean"),
    ("adapter/config.json", "layers_per_block", 10**6, "layers_per_block must lie between"),
    ("adapter/config.json", "landmark_channels", ["a"], "landmark_channels must be a whole number"),
    ("unet/config.json", "layers_per_block", 10**6, "layers_per_block must lie between 1 and 64"),
    ("unet/config.json", "in_channels", "8", "in_channels must be a whole number, but '8' came"),
    ("unet/config.json", "block_out_channels", [3], "does not describe a unet (ValueError)"),
    ("vae/config.json", "scaling_factor", 0, "scaling_factor must lie between"),
    ("image_encoder/config.json", "image_size", 10**6, "image_size must lie between"),
    ("image_encoder/config.json", "hidden_act", "none", "does not describe a image_encoder"),
    ("scheduler/scheduler_config.json", "beta_start", "low", "beta_start must be a number"),
    ("scheduler/scheduler_config.json", "sigma_max", float("inf"), "sigma_max must be finite"),
    ("scheduler/scheduler_config.json", "sigma_min", 900.0, "its noise levels would be [80.0, 900"),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 10**9, "num_train_timesteps must"),
    ("scheduler/scheduler_config.json", "timestep_type", "odd", 'must be "continuous"'),
    ("scheduler/scheduler_config.json", "prediction_type", "epsilon", 'must be "v_prediction"'),
]


@pytest.mark.parametrize(("file", "name", "value", "sentence"), CONFIGS)
def test_a_wrong_value_is_told_with_its_file(file, name, value, sentence, folder):
    values = json.loads((folder / file).read_text()) | {name: value}
    (folder / file).write_text(json.dumps(values))
    message = refusal(folder)
    assert str(folder / file) in message and sentence in message


@pytest.mark.parametrize("text", ["[1]", "7", "null", "{", "[" * 10**5, "\udce4"])
@pytest.mark.parametrize("file", ["settings.json", "vae/config.json", "s2d/config.json"])
def test_what_is_no_config_at_all_is_told(file, text, folder):
    (folder / file).write_bytes(text.encode(errors="surrogateescape"))
    assert f"{folder / file} " in refusal(folder)


def test_parts_of_different_models_are_refused(folder):
    config = tiny.FOLDER["adapter"] | {"embedder_channels": [8, 16]}
    part = weights.build("adapter", config)
    weights.save_part("adapter", part, config, folder / "adapter", torch.float32)
    assert "the adapter of the toy model does not fit its UNet and VAE" in refusal(folder)


def test_a_folder_without_any_adapter_is_refused(folder):
    for name in ("adapter", "landmark_adapter"):
        shutil.rmtree(folder / name)
    assert "has no adapter with weights: add one" in refusal(folder)


def test_weights_that_do_not_fit_are_told_with_their_file(folder):
    file = weights.weight_file(folder / "vae")
    save_file({k: torch.zeros_like(v) for k, v in load_file(file).items()}, file)
    assert f"the vae weights in {file} are all zero" in refusal(folder)


# The bytes they were


def test_weights_that_are_not_the_recorded_bytes_are_refused(folder):
    files = [weights.weight_file(folder / part) for part in tiny.FOLDER]
    lines = [f"{weights.content_hash(f)}  {f.relative_to(folder)}\n" for f in files]
    (folder / weights.SUMS).write_text("".join(lines))
    assert load_models(folder, "cpu", tiny.FLOAT32).name == "toy"
    file = weights.weight_file(folder / "vae")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the smallest change there is
    file.write_bytes(content)
    message = refusal(folder)
    assert f"{file} is not the file whose SHA-256 is recorded in {folder / 'SHA256SUMS'}" in message


def test_a_part_that_is_stored_anew_is_recorded_anew(folder):
    (folder / weights.SUMS).write_text(f"{'0' * 64}  s2d/model.safetensors\n")
    part = weights.load_part("s2d", folder / "s2d")
    weights.save_part("s2d", part, tiny.FOLDER["s2d"], folder / "s2d", torch.float16)
    assert load_models(folder, "cpu", tiny.FLOAT32).s2d is not None


def test_the_shipped_weights_are_all_recorded():
    mini = weights_folder("mini")
    stored = {str(file.relative_to(mini)) for file in mini.rglob("*.safetensors")}
    assert set(weights.recorded_hashes(mini)) == stored
    for name, digest in weights.recorded_hashes(mini).items():
        assert weights.content_hash(mini / name) == digest
