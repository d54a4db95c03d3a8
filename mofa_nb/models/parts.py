"""The parts of a model: their names, number formats and devices."""

from contextlib import nullcontext

import torch

from mofa_nb.checks import InputError

ADAPTER_PARTS = {"trajectory": "adapter", "landmark": "landmark_adapter"}
FROZEN_PARTS = ("unet", "vae", "image_encoder", "s2d")
SMALL_CODERS = ("small_encoder", "small_decoder")
OPTIONAL_PARTS = (*ADAPTER_PARTS.values(), "face_s2d", *SMALL_CODERS)


def default_device() -> str:
    """A CUDA GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str | torch.device) -> None:
    """InputError where this machine has no such device."""
    kind = torch.device(device).type
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(kind, False):
        raise InputError(f"device {kind} was asked for, but there is none here: use --device cpu")


def model_dtypes(device: str | torch.device) -> dict[str, torch.dtype]:
    """Number formats per part: half precision on a GPU, float32 elsewhere.

    S2D always runs in float32. The VAE overflows in float16, so it takes bfloat16 where the GPU
    has it and float32 on older ones (Colab's T4): a third of a gigabyte, and exact. On a CPU with
    bfloat16 instructions UNet and adapters use them.
    """
    formats = dict.fromkeys((*FROZEN_PARTS, *OPTIONAL_PARTS), torch.float32)
    networks = ("unet", *ADAPTER_PARTS.values())
    if torch.device(device).type == "cuda":
        formats |= dict.fromkeys(("image_encoder", *networks), torch.float16)
        networks = ()
    if has_fast_bfloat16(device):
        formats |= dict.fromkeys(("vae", *SMALL_CODERS, *networks), torch.bfloat16)
    return formats


def has_fast_bfloat16(device: str | torch.device) -> bool:
    """Whether bfloat16 arithmetic is done in hardware there: by no GPU before NVIDIA's Ampere."""
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device) if device.index else nullcontext():
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False
