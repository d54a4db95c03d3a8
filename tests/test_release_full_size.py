"""The base model's published sizes; one real load with the adapter and S2D at full size.

All weights are made up, in pickles of overlapping views, which are small. Residuals only fit a
UNet of the adapter's widths, so the UNet has them, too; to stay affordable it has no attention in
its outer blocks. VAE and image encoder are tiny.
"""

import shutil

import numpy as np
import pytest
import released
import tiny
import torch

from mofa_nb.models import checkpoints, single_file, weights
from mofa_nb.models.load import load_models
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pipeline.session import Session
from tests.benchmarks import full_size

MILLIONS = {"unet": 1525, "vae": 98, "image_encoder": 632}
WIDE_UNET = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["DownBlockSpatioTemporal"] * 4,
    "up_block_types": ["UpBlockSpatioTemporal"] * 4,
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "num_attention_heads": [5, 10, 20, 20],
}
IMAGE_ENCODER = tiny.manifest("tiny_image_encoder")["meta"]["config"] | {"projection_dim": 1024}


def made(part, config):
    """(state, config) of a part with quickly made half-precision weights."""
    with torch.device("meta"):
        net = weights.build(part, config)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    return released.quick_values(shapes), config


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The model as loaded from a folder in the released layout, in half precision."""
    folder = tmp_path_factory.mktemp("full-size")
    stock = {
        "unet": made("unet", WIDE_UNET),
        "image_encoder": made("image_encoder", IMAGE_ENCODER),
        "vae": (tiny.part("vae").state_dict(), tiny.manifest("tiny_vae")["meta"]["config"]),
    }
    released.write_svd(folder / "ckpts" / released.SVD_FOLDER, stock, pickled=["unet"])
    sizes = checkpoints.SIZES["trajectory_adapter"].to_dict()
    place = folder / "ckpts" / "controlnet"
    place.mkdir()
    torch.save(made("trajectory_adapter", sizes)[0], place / "diffusion_pytorch_model.bin")
    s2d = made("s2d", checkpoints.SIZES["s2d"].to_dict())[0]
    released.write_cmp(folder / released.LAYOUTS["trajectory project"]["s2d"], s2d)
    half = dict.fromkeys(("unet", "vae", "image_encoder", "trajectory_adapter"), torch.bfloat16)
    yield load_models(folder, "cpu", half | {"s2d": torch.float32})
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", single_file.SIZES)
def test_the_base_models_sizes_build_networks_of_the_published_size(part):
    with torch.device("meta"):
        net = weights.build(part, single_file.SIZES[part])
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == MILLIONS[part]
    if part == "unet":  # the small one on record has the same layers
        assert set(net.state_dict()) == set(tiny.shapes_of("tiny_unet"))


def test_the_full_size_release_follows_a_track_through_to_latents(models):
    session = Session(models)
    session.set_image(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), size=(64, 64)
    )
    motion, seen = Motion((64, 64), (Track([(20, 30), (40, 30)]),)), {}
    *_, last = session.animate_steps(
        motion, steps=1, num_frames=2, guidance=(1.0, 1.0), trajectory_scale=0.05,
        trace=seen.__setitem__,
    )  # fmt: skip
    steered, residuals = seen["velocity"], [*seen["residuals"].down, seen["residuals"].mid]
    assert steered.shape == (1, 2, 4, 8, 8) and bool(steered.isfinite().all())
    assert all(residual.any() for residual in residuals) and len(residuals) == 13
    shapes = [tuple(residual.shape[1:]) for residual in residuals]
    assert shapes[0] == (320, 8, 8) and shapes[-2:] == [(1280, 1, 1)] * 2
    flow = seen["trajectory_conditioning"].flow
    assert flow.shape == (1, 1, 2, 64, 64) and flow.any()
    assert last.clip.model == "release" and models.s2d.config.grid == 384
    assert {p.dtype for p in models.adapter("trajectory").parameters()} == {torch.bfloat16}


def test_every_tensor_is_made_on_the_device_that_is_asked_for():
    made = full_size.full_size(full_size.KINDS["both"], full_size.card_dtypes(), "meta")
    tensors = [t for net in made.parts.values() for t in (*net.parameters(), *net.buffers())]
    assert len(tensors) > 2000 and {t.device.type for t in tensors} == {"meta"}


def test_what_a_made_part_holds_is_finite_and_in_its_format():
    config = tiny.manifest("tiny_unet")["meta"]["config"]
    tensors = [*full_size.made("unet", config, torch.float16, "cpu").parameters()]
    assert all(bool(t.isfinite().all()) for t in tensors) and any(t.any() for t in tensors)
    assert {t.dtype for t in tensors} == {torch.float16}
