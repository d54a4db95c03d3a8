"""A whole model, loaded once: the frozen parts of SVD, S2D, and the adapters there are."""

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler
from torch import nn

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.adapter.unet import VideoUNet
from mofa_nb.checks import InputError
from mofa_nb.config import Settings, check_value, read_object
from mofa_nb.flow.s2d import S2D
from mofa_nb.models.weights import undescribed

ADAPTER_PARTS = {"trajectory": "trajectory_adapter", "landmark": "landmark_adapter"}
FROZEN_PARTS = ("unet", "vae", "image_encoder", "s2d")
EXTRA_PARTS = ("landmark_s2d", "taesd")
OPTIONAL_PARTS = (*ADAPTER_PARTS.values(), *EXTRA_PARTS)


@dataclass(frozen=True)
class Models:
    """Everything a clip needs. "mini" and "release" are two folders of the same kind."""

    settings: Settings
    unet: VideoUNet
    vae: nn.Module
    image_encoder: nn.Module
    scheduler: object
    s2d: S2D
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # "trajectory" and "landmark"
    landmark_s2d: S2D | None = None  # for landmarks alone, where a folder has one; else `s2d`
    taesd: nn.Module | None = None  # decodes previews in the VAE's place, where a folder has one
    hash: str = ""  # first 12 hex digits of sha256 over the weight files' sha256
    notes: tuple[str, ...] = ()  # what the user should know of its files, one sentence each
    folder: Path | None = None  # it was loaded from; None for the hub's cache
    target: torch.device | None = None  # where it computes; None: where the UNet lies

    def __post_init__(self) -> None:
        object.__setattr__(self, "landmark_s2d", self.landmark_s2d or self.s2d)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def device(self) -> torch.device:
        return self.target or self.unet.device

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks there are, by the names of their folders."""
        parts = {part: getattr(self, part) for part in (*FROZEN_PARTS, *EXTRA_PARTS)}
        parts |= {ADAPTER_PARTS[kind]: adapter for kind, adapter in self.adapters.items()}
        parts["landmark_s2d"] = None if self.landmark_s2d is self.s2d else self.landmark_s2d
        return {part: net for part, net in parts.items() if net is not None}

    @property
    def multiple(self) -> int:
        """Image sides are multiples of the coarsest feature level's stride, in pixels."""
        return max(adapter.config.strides[-1] for adapter in self.adapters.values())

    @property
    def cell(self) -> int:
        """Pixels along a side of a cell of the latents."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def decoder_dtype(self) -> torch.dtype:
        return next(self.vae.decoder.parameters()).dtype

    def adapter(self, kind: str) -> Adapter:
        """The adapter of this kind; InputError when the folder has none."""
        if kind not in self.adapters:
            lacks = f"no {kind} adapter (it has {' and '.join(sorted(self.adapters)) or 'no'})"
            remedy = f"add the folder {ADAPTER_PARTS[kind]}/ or choose another model"
            raise InputError(f"the {self.name} model has {lacks}: {remedy}")
        return self.adapters[kind]


def assemble(
    settings: Settings, parts: Mapping[str, nn.Module], scheduler: object, fingerprint: str
) -> Models:
    """Put loaded parts and the stock scheduler together; InputError if they do not fit."""
    models = Models(
        settings=settings, scheduler=scheduler,
        adapters={kind: parts[part] for kind, part in ADAPTER_PARTS.items() if part in parts},
        **{name: parts.get(name) for name in (*FROZEN_PARTS, *EXTRA_PARTS)}, hash=fingerprint,
    )  # fmt: skip
    unet, vae = models.unet.config, models.vae.config
    latents, token = vae.latent_channels, models.image_encoder.config.projection_dim
    fits = {
        "vae": (2 * latents, latents) == (unet.in_channels, unet.out_channels),
        "image_encoder": token == unet.cross_attention_dim,
    }
    for kind, adapter in models.adapters.items():
        own = adapter.config
        fits[ADAPTER_PARTS[kind]] = _sizes(own) == _sizes(unet) and own.downscale == models.cell
    if models.taesd is not None:
        own = models.taesd.config
        fold = 2 ** (len(own.decoder_block_out_channels) - 1)
        fits["taesd"] = (own.latent_channels, fold) == (latents, models.cell)
    if strange := [name for name, fit in fits.items() if not fit]:
        what = f"the {strange[0]} of the {models.name} model does not fit its UNet and VAE"
        raise InputError(f"{what} (channels or downscale): use the parts of one model")
    return models


def _sizes(config: object) -> tuple:
    return tuple(config.block_out_channels), config.in_channels, config.cross_attention_dim


def read_scheduler(folder: Path) -> object:
    """The stock scheduler from its config, tried once: nothing else tells what a value does."""
    path = folder / "scheduler_config.json"
    config = read_object(path)
    parameters = inspect.signature(EulerDiscreteScheduler.__init__).parameters
    try:
        for name, value in config.items():
            like = parameters[name].default if name in parameters else None
            check_value(name, value, 1.0 if value and name.startswith("sigma_m") else like)
        for name, only in (("prediction_type", "v_prediction"), ("timestep_type", "continuous")):
            if config.get(name) != only:
                raise InputError(f'{name} must be "{only}"')
        scheduler = EulerDiscreteScheduler.from_config(config)
        scheduler.set_timesteps(2)
        sigmas = [round(float(sigma), 3) for sigma in scheduler.sigmas]
        if not sigmas[0] > sigmas[1] > sigmas[2] >= 0:
            raise InputError(f"its noise levels would be {sigmas}")
    except Exception as error:  # it stumbles in many ways over what it is given
        raise undescribed("the scheduler", path, error) from error
    return EulerDiscreteScheduler.from_config(config)


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str | torch.device) -> None:
    """InputError where this machine has no such device."""
    kind = torch.device(device).type
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(kind, False):
        raise InputError(f"device {kind} was asked for, but there is none here: use --device cpu")


def model_dtypes(device: str | torch.device) -> dict[str, torch.dtype]:
    """Number formats per part: half precision on a GPU, float32 elsewhere and for S2D; bfloat16 for
    the VAE, whose encoder overflows in float16, and a CPU's UNet and adapters, where there is
    hardware."""
    formats = dict.fromkeys((*FROZEN_PARTS, *OPTIONAL_PARTS), torch.float32)
    networks = ("unet", *ADAPTER_PARTS.values())
    if torch.device(device).type == "cuda":
        formats |= dict.fromkeys(("image_encoder", *networks), torch.float16)
        networks = ()
    if has_fast_bfloat16(device):
        formats |= dict.fromkeys(("vae", "taesd", *networks), torch.bfloat16)
    return formats


def decode_in_half(vae: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Beside a UNet in float16 a VAE in float32 decodes in float16, as the stock pipeline does."""
    if (dtypes["vae"], dtypes["unet"]) == (torch.float32, torch.float16):
        vae.decoder.half()


def has_fast_bfloat16(device: str | torch.device) -> bool:
    """Whether bfloat16 arithmetic is done in hardware there: by no GPU before NVIDIA's Ampere."""
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device) if device.index else nullcontext():
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False
