"""Build the parts of a model from their configs and load their weights strictly.

A model is a folder with one subfolder per part: `config.json` and a safetensors file each. The
stock parts (unet, vae, image_encoder, scheduler) are laid out as diffusers and transformers
write them.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.adapter.attention import use_one_token_attention
from mofa_nb.adapter.unet import VideoUNet
from mofa_nb.checks import InputError
from mofa_nb.config import AdapterConfig, S2DConfig
from mofa_nb.flow.s2d import S2D

# File names a part's weights may have, best first: ours, transformers', diffusers'.
WEIGHT_NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
HALF_NAMES = ("model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors")
SCALE = ".scale"  # ends the name of what a tensor kept in 8 bits is multiplied with
STOCK_CLASS = {"unet": "UNetSpatioTemporalConditionModel", "vae": "AutoencoderKLTemporalDecoder"}


def _unet(config: Mapping[str, Any]) -> nn.Module:
    unet = VideoUNet.from_config(dict(config))
    use_one_token_attention(unet)
    return unet


def _vae(config: Mapping[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder.from_config(dict(config))


def _image_encoder(config: Mapping[str, Any]) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))


def _s2d(config: Mapping[str, Any]) -> nn.Module:
    return S2D(S2DConfig.from_dict(dict(config)))


def _adapter(config: Mapping[str, Any]) -> nn.Module:
    return Adapter(AdapterConfig.from_dict(dict(config)))


PARTS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "unet": _unet,
    "vae": _vae,
    "image_encoder": _image_encoder,
    "s2d": _s2d,
    "face_s2d": _s2d,
    "adapter": _adapter,
    "landmark_adapter": _adapter,
}


def read_config(folder: Path) -> dict[str, Any]:
    """The part's `config.json`; a missing or broken file raises InputError."""
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"expected {path}, which is missing: is {folder} a complete part?"
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch the file again") from None


def build(part: str, config: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised part, in float32 on the CPU."""
    return PARTS[part](config)


def load_part(
    part: str, folder: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> nn.Module:
    """Build a part from `folder/config.json` and fill it strictly from its weight file."""
    state = read_weights(weight_file(folder, dtype))
    return fill(part, read_config(folder), state, str(folder), dtype, device)


def fill(
    part: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """A part with `state` for its weights; see `filled`."""
    return filled(lambda: build(part, config), state, part, source, dtype, device)


def filled(
    make: Callable[[], nn.Module],
    state: Mapping[str, Tensor],
    part: str,
    source: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Make a network without memory for its initial values and put `state` in their place.

    Raises:
        InputError: keys are missing, left over or of another shape than the network asks for.
    """
    with init_empty_weights(include_buffers=False):
        module = make()
    check_state(module, state, part, source)
    cast = {
        key: value.to(device, dtype if value.is_floating_point() else None)
        for key, value in state.items()
    }
    module.load_state_dict(cast, assign=True)
    return module.to(device).eval().requires_grad_(False)


def check_state(module: nn.Module, state: Mapping[str, Tensor], part: str, source: str) -> None:
    """Keys and shapes must be exactly the module's; one sentence names the first difference."""
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    problems = [f"lacks {key!r}" for key in wanted if key not in got]
    problems += [f"has an unknown tensor {key!r}" for key in got if key not in wanted]
    problems += [
        f"holds {key!r} as {list(got[key])} instead of {list(wanted[key])}"
        for key in wanted
        if key in got and got[key] != wanted[key]
    ]
    if problems:
        more = f" ({len(problems) - 1} more differences)" if len(problems) > 1 else ""
        raise InputError(
            f"the {part} weights in {source} do not fit: the file {problems[0]}{more}; "
            "use the checkpoint that belongs to this model"
        )


def has_weights(folder: Path) -> bool:
    """Whether there is a weight file in the folder."""
    return any((folder / name).is_file() for name in WEIGHT_NAMES + HALF_NAMES)


def weight_file(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The part's weight file; half precision prefers the half-precision file."""
    names = WEIGHT_NAMES + HALF_NAMES if dtype == torch.float32 else HALF_NAMES + WEIGHT_NAMES
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"expected a weight file in {folder} (one of {', '.join(names)}), found none")


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors of a safetensors file, or what a pickle holds, read without running code in it."""
    try:
        if path.suffix == ".safetensors":
            return unpacked(load_file(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"expected weights at {path}, found no such file") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}); delete it and fetch it again") from None
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise InputError(
            f"{path} is damaged, or holds more than tensors, and is not opened; fetch it again"
        ) from None


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with one scale per output channel: half of float16's size.

    The error is at most about a 254th of a channel's largest weight.
    """
    made = {}
    for key, value in state.items():
        made[key] = value
        if value.is_floating_point() and value.ndim > 1:
            scale = value.float().abs().flatten(1).amax(1).clamp(min=1e-4) / 127
            scale = scale.half()  # as it is stored
            made[key + SCALE] = scale
            shares = value.float() / _per_channel(scale, value)
            made[key] = shares.round().clamp(-127, 127).to(torch.int8)
    return made


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `packed`; other states come back as they are."""
    kept = {key for key, value in state.items() if value.dtype == torch.int8}
    kept = {key for key in kept if key + SCALE in state}
    scales = {key + SCALE for key in kept}
    return {
        key: value.float() * _per_channel(state[key + SCALE], value) if key in kept else value
        for key, value in state.items()
        if key not in scales
    }


def _per_channel(scale: Float[Tensor, " C"], value: Tensor) -> Tensor:
    return scale.float().view(-1, *[1] * (value.ndim - 1))


def save_part(
    part: str, module: nn.Module, config: Mapping[str, Any], folder: Path, dtype: torch.dtype
) -> None:
    """Write `config.json` and a weight file; stock loaders can read stock parts but in 8 bits.

    Args:
        dtype: of floating point tensors; int8 keeps matrices in 8 bits (`packed`) and the rest in
            float16, which only `read_weights` can read: no stock loader finds such a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stock = part in STOCK_CLASS and dtype != torch.int8
    name = WEIGHT_NAMES[1] if stock else WEIGHT_NAMES[0]
    state = module.state_dict()
    if dtype == torch.int8:
        state, dtype = packed(state), torch.float16
    state = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state.items()
    }
    save_file(state, folder / f"{name}.part", metadata={"format": "pt"})
    os.replace(folder / f"{name}.part", folder / name)
    for other in {*WEIGHT_NAMES} - {name}:  # an older one would be read first
        (folder / other).unlink(missing_ok=True)
    stored = {k: v for k, v in config.items() if not k.startswith("_")}
    if part in STOCK_CLASS:
        stored = {"_class_name": STOCK_CLASS[part], **stored}
    text = json.dumps(stored, indent=2) + "\n"
    (folder / "config.json.part").write_text(text, encoding="utf-8")
    os.replace(folder / "config.json.part", folder / "config.json")
