"""The published model, loaded strictly from a folder in any of its layouts; full size, too."""

import os
import shutil
from pathlib import Path
from unittest import mock

import pytest
import released
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.models import checkpoints, single_file
from mofa_nb.models.checkpoints import CMP_FILE, CMP_FOLDER, find_release
from mofa_nb.models.load import load_models
from mofa_nb.models.models import model_dtypes

FULL = model_dtypes("cpu") | dict.fromkeys(model_dtypes("cpu"), torch.float32)
HALF = FULL | dict.fromkeys(("unet", "vae", "image_encoder", "trajectory_adapter"), torch.float16)
CMP_PATH = f"{CMP_FOLDER}/{CMP_FILE}"
ADAPTER = "ckpts/mofa/traj_controlnet/diffusion_pytorch_model.safetensors"
UNET = f"ckpts/mofa/{released.SVD_FOLDER}/unet"
SCHEDULER = f"{UNET}/../scheduler/scheduler_config.json"
UNET_FILE = f"{UNET}/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture(scope="module", autouse=True)
def tiny_sizes():
    """The release's sizes are the tiny ones in this file; gives the published ones."""
    full = dict(checkpoints.SIZES)
    with mock.patch.dict(checkpoints.SIZES, released.TINY_SIZES):
        yield full


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tiny published model, not to be changed."""
    folder = tmp_path_factory.mktemp("published")
    released.write_tiny(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def models(published):
    """It, loaded; not to be changed either."""
    return load_models(published, "cpu", HALF)


@pytest.fixture
def folder(published, tmp_path):
    """A copy of it whose files may be replaced."""
    return Path(shutil.copytree(published, tmp_path / "copy", copy_function=os.link))


def changed(path, change):
    """Replace a safetensors file by what `change` makes of its tensors."""
    state = load_file(path)
    change(state)
    save_file({k: v.clone() for k, v in state.items()}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("layout", released.LAYOUTS)
def test_every_layout_is_found(tmp_path, layout):
    places = released.write_tiny(tmp_path, layout)
    found = find_release(tmp_path, FULL).weights
    places |= {part: places["svd"] / part for part in ("unet", "vae", "image_encoder")}
    del places["svd"]
    assert {part: file.parent for part, file in found.items()} == places
    if (tmp_path / "ckpts").is_dir():  # the folder inside may be named, too
        assert find_release(tmp_path / "ckpts", FULL).weights["s2d"].samefile(found["s2d"])


def test_half_precision_files_and_safetensors_are_preferred(folder):
    unet, encoder = "unet/diffusion_pytorch_model", "image_encoder/model"
    pickled = (f"{unet}.bin", f"{unet}.fp16.bin", "image_encoder/pytorch_model.bin")
    for name in (*pickled, f"{unet}.safetensors", f"{encoder}.safetensors"):
        (folder / UNET / ".." / name).touch()
    full, half = (find_release(folder, dtypes).weights for dtypes in (FULL, HALF))
    assert full["unet"].name == "diffusion_pytorch_model.safetensors"
    assert half["unet"].name == "diffusion_pytorch_model.fp16.safetensors"
    assert half["image_encoder"].name == "model.fp16.safetensors"
    (folder / ADAPTER).rename((folder / ADAPTER).with_suffix(".bin"))
    assert find_release(folder, FULL).weights["trajectory_adapter"].suffix == ".bin"


def test_loaded_parts_hold_the_files_values_in_the_format_asked_for(models, published):
    assert models.settings == Settings() and models.name == "release"
    assert {p.dtype for p in models.unet.parameters()} == {torch.float16}
    assert {p.dtype for p in models.s2d.parameters()} == {torch.float32}
    stored = load_file(published / ADAPTER)
    loaded = models.adapter("trajectory").state_dict()
    assert all(torch.equal(loaded[key], stored[key]) for key in stored)
    assert set(models.adapters) == {"trajectory", "landmark"} and models.multiple == 64
    assert dict(models.scheduler.config)["sigma_max"] == 700 and models.notes == ()


def test_heads_are_the_releases_own_whatever_the_stored_config_says(models, tiny_sizes):
    def heads(net):
        blocks = [*net.down_blocks[:3], net.mid_block]
        return [block.attentions[0].transformer_blocks[0].attn1.heads for block in blocks]

    assert heads(models.adapter("trajectory")) == [2, 4, 4, 8]
    assert heads(models.adapter("landmark")) == [2, 4, 4, 8]
    assert heads(models.unet) == [2, 4, 8, 8]  # from its own config
    published_heads = [
        tiny_sizes[part].num_attention_heads for part in ("trajectory_adapter", "landmark_adapter")
    ]
    assert published_heads == [(5, 10, 10, 20)] * 2


@pytest.mark.parametrize("zipped", [True, False])
def test_a_cmp_checkpoint_of_old_pytorch_lacks_counters_and_loads(folder, zipped):
    net = tiny.small_s2d().state_dict()
    old = {key: value for key, value in net.items() if not key.endswith("num_batches_tracked")}
    (folder / CMP_PATH).unlink()
    unused = {"loss.weight": torch.ones(3)}
    released.write_cmp(folder / CMP_FOLDER, old | unused, _use_new_zipfile_serialization=zipped)
    models = load_models(folder, "cpu", HALF)
    loaded = models.s2d.state_dict()
    assert models.notes == (f"{CMP_FILE} holds 1 unused tensors, for example 'loss.weight'",)
    assert loaded.keys() == net.keys()
    assert all(torch.equal(loaded[key], net[key]) for key in old)


def test_a_constant_that_old_transformers_stored_is_passed_over(folder):
    path = folder / f"ckpts/mofa/{released.SVD_FOLDER}/image_encoder/model.fp16.safetensors"
    changed(path, lambda s: s.update({"vision_model.embeddings.position_ids": torch.arange(50)}))
    loaded = load_models(folder, "cpu", HALF).image_encoder.state_dict()
    assert torch.equal(
        loaded["visual_projection.weight"], load_file(path)["visual_projection.weight"]
    )


def without(path, name):
    """Damages a safetensors file."""
    return lambda folder: changed(folder / path, lambda state: state.pop(name))


def written(path, content):
    """Puts other bytes in a file's place, or another CMP checkpoint."""

    def damage(folder):
        (folder / path).unlink()
        if isinstance(content, bytes):
            (folder / path).write_bytes(content)
        else:
            torch.save(content, folder / path)

    return damage


NO_MEAN = {
    k: v for k, v in tiny.small_s2d().state_dict().items() if not k.endswith("bn1.running_mean")
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
SVD = r"lacks unet/config.json of Stable Video Diffusion: download all of stabilityai/"
TRAJECTORY = r"of the trajectory adapter: download ckpts/controlnet of MyNiuuu/MOFA-Video-Traj"
CMP = r"lacks ckpt_iter_42000.pth.tar of the CMP network: download models/cmp/.* of My"
DAMAGES = [
    (
        without(ADAPTER, "conv_in.weight"),
        r"trajectory_adapter weights in .* lacks 'conv_in.weight'",
    ),
    (written(CMP_PATH, {"state_dict": NO_MEAN}), r"the s2d weights in .* lacks '.*running_mean'"),
    (written(CMP_PATH, {"model": {}}), r'has no "state_dict": use the published ckpt_iter_42000'),
    (written(ADAPTER, POINTER), r"is a git-lfs pointer, not the weights: run `git lfs pull`"),
    (written(SCHEDULER, b"{"), r"scheduler_config.json is not valid JSON .*: correct it .* fetch"),
    (lambda folder: (folder / CMP_PATH).unlink(), CMP),
    (lambda folder: (folder / ADAPTER).unlink(), TRAJECTORY),
    (lambda folder: shutil.rmtree(folder / UNET), SVD),
    (shutil.rmtree, r"there is no model "),
]


@pytest.mark.parametrize("damage, sentence", DAMAGES)
def test_whatever_does_not_fit_is_told_in_one_sentence(folder, damage, sentence):
    damage(folder)
    with pytest.raises(InputError, match=sentence) as caught:
        load_models(folder, "cpu", HALF)
    assert "\n" not in str(caught.value) and ". " not in str(caught.value)


@pytest.fixture
def one_file(published, tmp_path, monkeypatch):
    """The base model as one file by the training code's names, as it is published."""
    state = {}
    for part in single_file.SIZES:
        config = tiny.manifest(f"tiny_{part}")["meta"]["config"]
        monkeypatch.setitem(single_file.SIZES, part, config)
        for key, value in tiny.part(part).state_dict().items():
            name = single_file._names(part, key)[0]
            if "in_proj" in name:
                state.setdefault(name, [None] * 3)["qkv".index(key.split("_proj")[0][-1])] = value
            else:
                state[name] = value.T if name.endswith("visual.proj") else value
            if ".mid.attn_1." in name and name.endswith("weight") and value.ndim == 2:
                state[name] = value[..., None, None]
    state = {k: torch.cat(v) if isinstance(v, list) else v for k, v in state.items()}
    file = tmp_path / "svd_xt_1_1.safetensors"
    save_file(released.half(state), file)
    return file


def same_tensors(ours, theirs):
    state = theirs.state_dict()
    return all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())


def test_one_file_by_the_training_codes_names_is_the_same_base_model(one_file, published, models):
    alone = load_models(published, "cpu", HALF, base=one_file)
    assert all(same_tensors(alone.parts[part], models.parts[part]) for part in models.parts)
    own, published_one = (m.scheduler for m in (alone, models))
    assert dict(own.config).items() >= tiny.RELEASED_SCHEDULER.items()
    assert torch.equal(own.sigmas, published_one.sigmas)


def test_its_names_are_the_published_ones(one_file):
    with safe_open(one_file, "pt") as file:
        names = set(file.keys())
    unet, clip = "model.diffusion_model", "conditioner.embedders.0.open_clip.model.visual"
    assert names > {
        f"{unet}.input_blocks.3.0.op.weight",
        f"{unet}.input_blocks.4.0.skip_connection.bias",
        f"{unet}.input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight",
        f"{unet}.middle_block.2.time_stack.out_layers.3.weight",
        f"{unet}.output_blocks.2.1.conv.weight",
        f"{unet}.output_blocks.5.2.conv.weight",
        f"{unet}.label_emb.0.2.bias",
        "first_stage_model.decoder.up.0.block.1.mix_factor",
        "first_stage_model.decoder.mid.block_1.time_stack.in_layers.2.weight",
        "first_stage_model.decoder.conv_out.time_mix_conv.weight",
        "conditioner.embedders.3.encoder.encoder.down.0.downsample.conv.weight",
        "conditioner.embedders.3.encoder.quant_conv.weight",
        f"{clip}.transformer.resblocks.1.attn.in_proj_weight",
        f"{clip}.positional_embedding",
    }


def test_a_folder_may_hold_the_one_file_in_the_base_models_place(one_file, folder, models):
    base = folder / f"ckpts/mofa/{released.SVD_FOLDER}"
    shutil.rmtree(base)
    base.mkdir()
    one_file.rename(base / one_file.name)
    found = find_release(folder, HALF)
    assert found.weights["vae"] == base / one_file.name and found.scheduler is None
    assert same_tensors(load_models(folder, "cpu", HALF).vae, models.vae)


NAME = "model.diffusion_model.out.2.bias"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop(NAME), "lacks"),
        (lambda state: state.update({f"{NAME}.more": torch.zeros(1)}), "unknown"),
    ],
)
def test_a_strange_single_file_is_refused(one_file, published, change, word):
    changed(one_file, change)
    with pytest.raises(InputError, match=word):
        load_models(published, "cpu", HALF, base=one_file)


def test_a_folder_is_a_base_too_and_a_wrong_one_is_told(published, tmp_path, models):
    base = published / f"ckpts/mofa/{released.SVD_FOLDER}"
    assert load_models(published, "cpu", HALF, base=base).hash == models.hash
    with pytest.raises(InputError, match=r"lacks scheduler/scheduler_config.json"):
        load_models(published, "cpu", HALF, base=tmp_path)
    with pytest.raises(InputError, match=r"the base model .*nothing does not exist"):
        load_models(published, "cpu", HALF, base=tmp_path / "nothing")


@pytest.mark.parametrize("name", ["AnimateLCM-SVD-xt-1.1.safetensors", "unet/model.safetensors"])
def test_a_few_step_unet_is_one_file_with_steps_and_guidance_of_its_own(
    name, folder, models, tmp_path
):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    shutil.copy(folder / UNET_FILE, file)
    changed(file, lambda state: state["conv_in.bias"].add_(1))
    fast = load_models(folder, "cpu", HALF, few_step=file if "/" not in name else tmp_path)
    own = fast.settings
    assert (own.few_step, own.steps, own.guidance) == (True, 4, (1.0, 1.2))
    assert torch.equal(fast.unet.conv_in.bias, models.unet.conv_in.bias + 1)
    assert fast.hash != models.hash
