"""Weights and model folders are used as they should be, or refused in one sentence."""

import json
import pickle
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig, S2DConfig, Settings
from mofa_nb.models import load, weights
from mofa_nb.models.load import load_models
from mofa_nb.paths import model_folder, weights_folder

PARTS = tuple(tiny.FOLDER)


def test_configs_are_written_and_read_without_loss(tmp_path):
    for config in (AdapterConfig(landmark_channels=(8, 16)), S2DConfig(grid=128), Settings()):
        (tmp_path / "c.json").write_text(json.dumps(config.to_dict()))
        assert type(config).load(tmp_path / "c.json") == config


@pytest.mark.parametrize("part", PARTS)
def test_a_part_comes_back_with_the_values_it_was_stored_with(part, toy_folder):
    state = load_file(weights.weight_file(toy_folder / part))
    loaded = weights.load_part(part, toy_folder / part)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_stock_loaders_read_the_stock_parts(toy_folder):
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPVisionModelWithProjection

    classes = {
        "unet": UNetSpatioTemporalConditionModel,
        "vae": AutoencoderKLTemporalDecoder,
        "image_encoder": CLIPVisionModelWithProjection,
    }
    for part, stock in classes.items():
        theirs = stock.from_pretrained(toy_folder / part).state_dict()
        ours = weights.load_part(part, toy_folder / part).state_dict()
        assert set(theirs) == set(ours)
        assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    assert EulerDiscreteScheduler.from_pretrained(toy_folder / "scheduler").config.sigma_max == 80


def test_half_precision_is_stored_and_loaded_but_for_counters_and_its_file_is_preferred(tmp_path):
    config, key = tiny.FOLDER["s2d"], "flow_decoder.head.bias"
    part = weights.build("s2d", config)
    weights.save_part("s2d", part, config, tmp_path, torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.int64}
    weights.save_part("s2d", part, config, tmp_path, torch.float32)
    save_file(stored | {key: torch.full_like(stored[key], 7)}, tmp_path / weights.HALF_NAMES[0])
    full, half = (
        weights.load_part("s2d", tmp_path, dtype).state_dict()
        for dtype in (torch.float32, torch.float16)
    )
    assert torch.equal(full[key], part.state_dict()[key]) and half[key].unique().tolist() == [7]
    assert {value.dtype for value in half.values()} == {torch.float16, torch.int64}
    (tmp_path / weights.WEIGHT_NAMES[0]).unlink()
    assert weights.load_part("s2d", tmp_path).state_dict()[key].dtype == torch.float32


@pytest.mark.parametrize(("coarse", "size", "steps"), [((), 0.7, 127), (("",), 0.5, 7)])
def test_fewer_bits_shrink_the_file_and_change_weights_by_about_half_a_step(
    coarse, size, steps, tmp_path
):
    torch.manual_seed(0)
    config, halves = tiny.FOLDER["trajectory_adapter"], tmp_path / "half"
    part = weights.build("trajectory_adapter", config)
    weights.save_part("trajectory_adapter", part, config, tmp_path, torch.int8, coarse)
    weights.save_part("trajectory_adapter", part, config, halves, torch.float16)
    small, large = (weights.weight_file(f).stat().st_size for f in (tmp_path, halves))
    assert small < size * large
    read = weights.load_part("trajectory_adapter", tmp_path).state_dict()
    for key, value in part.state_dict().items():
        if value.ndim < 2:
            torch.testing.assert_close(read[key], value, rtol=1e-3, atol=1e-6)
            continue
        step = value.abs().flatten(1).amax(1).clamp(min=1e-4) / steps
        off = (read[key] - value).abs().flatten(1).amax(1)
        assert (off <= 0.58 * step).all(), key


def test_no_stock_loader_finds_a_stock_part_in_eight_bits_and_one_file_remains(tmp_path):
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    config = tiny.FOLDER["unet"]
    part = weights.build("unet", config)
    for dtype in (torch.float16, torch.int8):
        weights.save_part("unet", part, config, tmp_path, dtype)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(OSError, match="diffusion_pytorch_model"):
        UNetSpatioTemporalConditionModel.from_pretrained(tmp_path)
    read, written = weights.load_part("unet", tmp_path).state_dict(), part.state_dict()
    assert all(torch.allclose(read[k], written[k], atol=0.01) for k in written)
    weights.save_part("unet", part, config, tmp_path, torch.float16)
    assert weights.weight_file(tmp_path).name == "diffusion_pytorch_model.safetensors"


def test_a_tensor_of_small_integers_without_a_scale_is_left_alone():
    state = {"count": torch.tensor([3], dtype=torch.int8), "other": torch.ones(2, 2)}
    assert all(torch.equal(weights.unpacked(state)[key], value) for key, value in state.items())


# What does not fit: the one check of all that load


HEAD, STATE = "flow_decoder.head.bias", tiny.small_s2d().state_dict()
DIFFERENT = [  # values by name, None for a tensor that is not there
    ({HEAD: None}, f"do not fit: the file lacks {HEAD!r}; use the checkpoint that belongs"),
    (dict.fromkeys([*STATE][:5]), "(4 more differences)"),
    ({"stranger": torch.zeros(2)}, "has an unknown tensor 'stranger'"),
    ({HEAD: torch.zeros(44)}, f"holds {HEAD!r} as [44] instead of [42]"),
    ({HEAD: torch.ones(42)[:, None]}, "as [42, 1] instead of [42]"),
    ({HEAD: torch.ones(42, dtype=torch.int32)}, "as torch.int32"),
    ({HEAD: torch.ones(42, dtype=torch.complex64)}, "as torch.complex64"),
    ({HEAD: torch.full((42,), torch.nan)}, f"hold {HEAD!r} with values that are not finite"),
    ({HEAD: torch.full((42,), -torch.inf)}, "not finite in torch.float16"),
    ({HEAD: torch.full((42,), 1e5)}, "not finite in torch.float16"),
    ({key: value * 0 for key, value in STATE.items()}, "are all zero: fetch"),
]


@pytest.mark.parametrize(("changes", "sentence"), DIFFERENT)
def test_what_does_not_fit_is_named(changes, sentence):
    state = {key: value for key, value in (STATE | changes).items() if value is not None}
    with pytest.raises(InputError) as caught:
        weights.fill("s2d", tiny.SMALL_S2D.to_dict(), state, "a file", torch.float16)
    message = str(caught.value)
    assert message.startswith("the s2d weights in a file ") and sentence in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x00" * 64, None])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_of_something_else_or_cut_short_is_called_damaged(tmp_path, name, content):
    save = save_file if name == "w.safetensors" else torch.save
    save({"weight": torch.ones(99)}, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-100] if content is None else content)
    with pytest.raises(InputError, match=r"is damaged.*fetch it again"):
        weights.read_weights(tmp_path / name)


def test_a_missing_weight_file_is_named(tmp_path):
    with pytest.raises(InputError, match="found no such file"):
        weights.read_weights(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="expected a weight file in"):
        weights.weight_file(tmp_path)


class Trap:
    """Unpickles by running code."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(
    pickle.dumps(value, protocol=2))])  # fmt: skip
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path, write):
    mark = tmp_path / "ran"
    write({"state_dict": {"weight": torch.zeros(1)}, "step": Trap(mark)}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="damaged, or holds more than tensors"):
        weights.read_weights(tmp_path / "bad.pth")
    assert not mark.exists()


# A whole folder


NO_FILE = r"the UNet's weight file .* (does not exist|is a folder)"
UNUSABLE = [
    (("maxi", "cpu"), {}, "choose mini, release, or an existing model folder"),
    (("no/such/folder", "cpu"), {}, "choose mini, release, or an existing model folder"),
    *((("release", "cpu"), {"few_step": f}, NO_FILE) for f in ("nowhere.bin", "x" * 300)),
    (("release", "cpu"), {"few_step": "."}, "expected a weight file in ."),
    (("mini", "cuda"), {}, "device cuda was asked for, but there is none here"),
    (("mini", "mps"), {}, "device mps was asked for, but there is none here"),
    (("mini", "cpu"), {"base": "."}, "only a released model"),
]


@pytest.mark.parametrize(("what", "given", "sentence"), UNUSABLE)
def test_what_is_not_there_is_told_before_anything_is_sought(what, given, sentence, monkeypatch):
    for device in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(device, "is_available", lambda: False)
    with pytest.raises(InputError, match=sentence):
        load_models(*what, **given)


def test_a_folder_becomes_a_model(toy_folder):
    models = load_models(toy_folder, "cpu", tiny.FLOAT32)
    assert models.name == "toy" and models.settings.num_frames == 4 and models.multiple == 32
    assert set(models.adapters) == {"trajectory", "landmark"}
    assert models.scheduler.config.sigma_max == 80 and models.device.type == "cpu"
    assert len(models.hash) == 12 and int(models.hash, 16) > 0


def test_a_folder_may_have_one_adapter_alone(tmp_path):
    parts = [part for part in PARTS if part != "landmark_adapter"]
    models = load_models(tiny.write_folder(tmp_path, parts), "cpu", tiny.FLOAT32)
    assert set(models.adapters) == {"trajectory"}
    with pytest.raises(InputError, match=r"no landmark adapter .*it has trajectory"):
        models.adapter("landmark")


def test_number_formats_are_per_part_and_may_be_chosen(toy_folder):
    chosen = tiny.FLOAT32 | {"unet": torch.bfloat16, "trajectory_adapter": torch.bfloat16}
    models = load_models(toy_folder, "cpu", chosen)
    assert models.unet.dtype == torch.bfloat16 and models.vae.dtype == torch.float32


def test_a_path_is_a_folder_whatever_its_name_and_a_text_is_a_models_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder("release") is None and model_folder(Path("release")) is None
    own = {name: model_folder(name) for name in ("mini", "release")}
    for name, folder in own.items():
        Path(name).mkdir()
        assert model_folder(Path(name)) == Path(name) and model_folder(name) == folder


def test_a_folders_own_scheduler_is_the_only_one_made(toy_folder, monkeypatch):
    made = []
    stock = SimpleNamespace(from_config=made.append)
    monkeypatch.setattr(load, "EulerDiscreteScheduler", stock)
    assert load_models(toy_folder, "cpu", tiny.FLOAT32).scheduler is not None and not made


def test_a_large_files_hash_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "LARGE", 4)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"first content")
    first = weights.content_hash(file)
    (kept,) = (tmp_path / "cache" / "mofa_nb").iterdir()
    kept.write_text("f" * 64)  # read back, not made again
    assert first != weights.content_hash(file) == "f" * 64
    file.write_bytes(b"another content")
    assert weights.content_hash(file) not in (first, "f" * 64)


def test_on_a_cpu_the_decoder_lies_as_its_kernels_want_it():
    decoder = load_models("mini", "cpu").vae.decoder
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    kernels = [value for value in decoder.parameters() if value.ndim in layouts]
    assert {value.ndim for value in kernels} == {4, 5}
    assert all(value.is_contiguous(memory_format=layouts[value.ndim]) for value in kernels)


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
    (
        "trajectory_adapter/config.json",
        "layers_per_block",
        10**6,
        "layers_per_block must lie between",
    ),
    (
        "trajectory_adapter/config.json",
        "landmark_channels",
        ["a"],
        "landmark_channels must be a whole number",
    ),
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
    config = tiny.FOLDER["trajectory_adapter"] | {"embedder_channels": [8, 16]}
    part = weights.build("trajectory_adapter", config)
    weights.save_part(
        "trajectory_adapter", part, config, folder / "trajectory_adapter", torch.float32
    )
    assert "trajectory_adapter of the toy model does not fit its UNet and VAE" in refusal(folder)


def test_a_folder_without_any_adapter_is_refused(folder):
    for name in ("trajectory_adapter", "landmark_adapter"):
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


def test_folders_of_older_names_make_the_same_model(tmp_path):
    new, old = tiny.write_folder(tmp_path / "new"), tmp_path / "old"
    shutil.copytree(new, old)
    for part, older in weights.OLDER_PARTS.items():
        (old / part).rename(old / older)
    ours, older = (load_models(folder, "cpu") for folder in (new, old))
    assert ours.hash == older.hash and ours.parts.keys() == older.parts.keys()
