"""Published checkpoints in small, written in the layouts they are published in."""

import json
import zlib

import tiny
import torch
from safetensors.torch import save_file

from mofa_nb.config import AdapterConfig
from mofa_nb.models.checkpoints import CMP_FILE, CMP_FOLDER

SVD_FOLDER = "stable-video-diffusion-img2vid-xt-1-1"
LAYOUTS = {  # part -> its folder, as in the authors' repositories and in the original project
    "trajectory project": {
        "svd": f"ckpts/{SVD_FOLDER}",
        "trajectory_adapter": "ckpts/controlnet",
        "s2d": CMP_FOLDER,
    },
    "repository with the adapter at its root": {
        "svd": SVD_FOLDER,
        "trajectory_adapter": "controlnet",
        "s2d": CMP_FOLDER,
    },
    "hybrid repository": {
        "svd": f"ckpts/mofa/{SVD_FOLDER}",
        "trajectory_adapter": "ckpts/mofa/traj_controlnet",
        "landmark_adapter": "ckpts/mofa/ldmk_controlnet",
        "s2d": CMP_FOLDER,
    },
    "everything in one folder": {"svd": "", "trajectory_adapter": "controlnet", "s2d": ""},
}
# The adapters' stored config tells other head counts than were ever used.
STORED_ADAPTER_CONFIG = {"_class_name": "FlowControlNet", "num_attention_heads": [5, 10, 20, 20]}

TINY_SIZES = {  # of tests/tiny.py, in the place of the published ones
    "trajectory_adapter": AdapterConfig(**tiny.adapter_config("trajectory")),
    "landmark_adapter": AdapterConfig(**tiny.adapter_config("landmark")),
    "s2d": tiny.SMALL_S2D,
}


def half(state):
    """The state in half precision, counters left alone."""
    return {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in state.items()
    }


def write_json(path, values):
    """A config file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def write_svd(folder, parts, pickled=()):
    """The base model as its authors store it: `parts` has (state, config) by part."""
    for part, (state, config) in parts.items():
        write_json(folder / part / "config.json", {"_diffusers_version": "0.24.0", **config})
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        if part in pickled:
            torch.save(state, folder / part / f"{stem}.fp16.bin")
        else:
            save_file(half(state), folder / part / f"{stem}.fp16.safetensors")
    scheduler = {"_class_name": "EulerDiscreteScheduler", **tiny.RELEASED_SCHEDULER}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)


def write_adapter(folder, state):
    """An adapter as its authors store it."""
    write_json(folder / "config.json", STORED_ADAPTER_CONFIG)
    save_file(half(state), folder / "diffusion_pytorch_model.safetensors")


def write_cmp(folder, state, **format):
    """The CMP network as its authors store it; `format` goes to `torch.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"step": 42000, "state_dict": wrapped}, folder / CMP_FILE, **format)


def write_tiny(folder, layout="hybrid repository"):
    """A whole model of tests/tiny.py in one of `LAYOUTS`; returns the folder of each part."""
    places = {part: folder / where for part, where in LAYOUTS[layout].items()}
    stock = ("unet", "vae", "image_encoder")
    configs = {part: tiny.manifest(f"tiny_{part}")["meta"]["config"] for part in stock}
    parts = {part: (tiny.part(part).state_dict(), configs[part]) for part in stock}
    write_svd(places["svd"], parts)
    write_adapter(places["trajectory_adapter"], tiny.adapter("trajectory", "traj.").state_dict())
    if "landmark_adapter" in places:
        write_adapter(places["landmark_adapter"], tiny.adapter("landmark", "ldmk.").state_dict())
    write_cmp(places["s2d"], tiny.small_s2d().state_dict())
    return places


def quick_values(names_and_shapes):
    """Half-precision values for every name: overlapping views of a few numbers each, quick at any
    size, which a pickle stores as those few.

    Scaled like trained weights, so that numbers stay in range through a deep network.
    """
    block = torch.randn(1 << 14, generator=torch.Generator().manual_seed(0))
    return {
        name: _quick_value(name, torch.Size(shape), block)
        for name, shape in names_and_shapes.items()
    }


def _quick_value(name, shape, block):
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    small = block.roll(zlib.crc32(name.encode()) % len(block))
    small = small * (1.25 / (shape.numel() // shape[0]) ** 0.5 if len(shape) > 1 else 0.05)
    if len(shape) == 1 and name.endswith(("weight", "running_var")):
        small = 1 + small
    return small.half().as_strided(shape, [1] * len(shape))
