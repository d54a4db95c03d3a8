"""The release at full size without its weights: time and memory do not depend on what they are."""

from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers import EulerDiscreteScheduler
from torch import nn

from mofa_nb.config import Settings
from mofa_nb.models import weights
from mofa_nb.models.checkpoints import SIZES
from mofa_nb.models.models import ADAPTER_PARTS, Models, decode_in_half

BASE_MODEL = {  # config.json of SVD-XT 1.1
    "unet": {
        "in_channels": 8,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "transformer_layers_per_block": 1,
        "num_attention_heads": [5, 10, 20, 20],
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 768,
        "num_frames": 25,
        "sample_size": 96,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        "force_upcast": True,
        "sample_size": 768,
    },
    "image_encoder": {
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 224,
        "projection_dim": 1024,
        "hidden_act": "gelu",
        "torch_dtype": "float16",
    },
}
SCHEDULER = {  # scheduler_config.json of SVD-XT 1.1
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
KINDS = {"tracks": ("trajectory",), "face": ("landmark",), "both": ("trajectory", "landmark")}


def card_dtypes(half: torch.dtype = torch.float16, wide: bool = True) -> dict[str, torch.dtype]:
    """Number formats on a card; `wide`: it has bfloat16 for the VAE, as a T4 has not."""
    parts = dict.fromkeys(("unet", "image_encoder", *ADAPTER_PARTS.values()), half)
    return parts | {"vae": torch.bfloat16 if wide else torch.float32, "s2d": torch.float32}


def full_size(
    kinds: Sequence[str],
    dtypes: Mapping[str, torch.dtype],
    device: str,
    place: Callable[[nn.Module, str], nn.Module] | None = None,
    scheduler: type = EulerDiscreteScheduler,
) -> Models:
    """The release's networks with the weights that they start from, on a device.

    Args:
        place: puts networks without memory there instead.
    """
    sizes = BASE_MODEL | {"s2d": SIZES["s2d"].to_dict()}
    sizes |= {ADAPTER_PARTS[k]: SIZES[ADAPTER_PARTS[k]].to_dict() for k in kinds}
    built = {
        part: made(part, config, dtypes[part], "meta" if place else device)
        for part, config in sizes.items()
    }
    if not place:
        decode_in_half(built["vae"], dtypes)
    place = place or nn.Module.to  # `mix_factor` is made on the CPU whatever the device
    parts = {part: place(net, device) for part, net in built.items()}
    adapters = {kind: parts.pop(ADAPTER_PARTS[kind]) for kind in kinds}
    return Models(
        Settings(), **parts, scheduler=scheduler.from_config(SCHEDULER), adapters=adapters
    )


def made(part: str, config: Mapping, dtype: torch.dtype, device: str) -> nn.Module:
    """A part made where and as it is used: no copy in float32 is ever held."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return weights.build(part, config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
