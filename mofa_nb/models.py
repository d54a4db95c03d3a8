"""A whole model, loaded once: the frozen parts of SVD, S2D, and the adapters there are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mofa_nb import weights
from mofa_nb.adapter import Adapter
from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.paths import weights_folder
from mofa_nb.s2d import S2D
from mofa_nb.unet import VideoUNet

ADAPTER_PARTS = {"trajectory": "adapter", "landmark": "landmark_adapter"}
FROZEN_PARTS = ("unet", "vae", "image_encoder", "s2d")
OPTIONAL_PARTS = (*ADAPTER_PARTS.values(), "face_s2d")


@dataclass(frozen=True)
class Models:
    """Everything a clip needs. "mini" and "release" are two folders of the same kind.

    Attributes:
        adapters: by kind, "trajectory" and "landmark"; a folder may have either or both.
        face_s2d: for landmarks alone, where a folder has one; the release uses `s2d` for both.
        multiple: both image sides are multiples of this many pixels.
        hash: first 12 hex digits of sha256 over the weight files.
    """

    settings: Settings
    unet: VideoUNet
    vae: nn.Module
    image_encoder: nn.Module
    scheduler: object
    s2d: S2D
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    face_s2d: S2D | None = None
    hash: str = ""

    @property
    def name(self) -> str:
        """The name that every card and picture shows."""
        return self.settings.name

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.unet.device

    @property
    def multiple(self) -> int:
        """Image sides are multiples of the coarsest feature level's stride."""
        return max(adapter.config.strides[-1] for adapter in self.adapters.values())

    @property
    def cell(self) -> int:
        """Pixels along a side of a cell of the latents."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def landmark_s2d(self) -> S2D:
        """What makes a face's flow from its landmarks."""
        return self.face_s2d or self.s2d

    def adapter(self, kind: str) -> Adapter:
        """The adapter of this kind; InputError when the folder has none."""
        if kind not in self.adapters:
            has = " and ".join(sorted(self.adapters)) or "no"
            raise InputError(
                f"the {self.name} model has no {kind} adapter (it has {has}): add the folder "
                f"{ADAPTER_PARTS[kind]}/ or choose another model"
            )
        return self.adapters[kind]


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
    has it. On a CPU with bfloat16 instructions UNet and adapters use them.
    """
    full = dict.fromkeys((*FROZEN_PARTS, *OPTIONAL_PARTS), torch.float32)
    if torch.device(device).type == "cuda":
        half = dict.fromkeys(("unet", "image_encoder", *ADAPTER_PARTS.values()), torch.float16)
        wide = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return full | half | {"vae": wide}
    if has_fast_bfloat16(device):
        half = ("unet", "vae", *ADAPTER_PARTS.values())
        return full | dict.fromkeys(half, torch.bfloat16)
    return full


def has_fast_bfloat16(device: str | torch.device) -> bool:
    """Whether bfloat16 arithmetic is done in hardware there."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    if kind == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False


def load_models(
    model: str | Path = "mini",
    device: str | torch.device | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> Models:
    """Load a model strictly.

    Args:
        model: "mini", "release" (found in the hub's cache or downloaded), or a folder: of our
            layout, or of one of the released layouts.
        device: where to put it; a GPU if there is one by default.
        dtypes: number formats per part instead of `model_dtypes`.
    Raises:
        InputError: unknown model, damaged or misfitting weights, a hub that cannot be reached.
    """
    device = device or default_device()
    dtypes = model_dtypes(device) | dict(dtypes or {})
    check_device(device)
    folder = weights_folder(str(model)) if model == "mini" else Path(model)
    if model == "release" or (folder.is_dir() and not (folder / "settings.json").is_file()):
        from mofa_nb.release import load_release

        return load_release(None if model == "release" else folder, device, dtypes)
    if not folder.is_dir():
        raise InputError(
            f"there is no model {str(model)!r}: choose mini, release, or an existing model folder"
        )
    return _load_folder(folder, device, dtypes)


def _load_folder(
    folder: Path, device: str | torch.device, dtypes: Mapping[str, torch.dtype]
) -> Models:
    names = [*FROZEN_PARTS, *(p for p in OPTIONAL_PARTS if weights.has_weights(folder / p))]
    parts = {n: weights.load_part(n, folder / n, dtypes[n], device) for n in names}
    files = [weights.weight_file(folder / n, dtypes[n]) for n in names]
    return assemble(
        Settings.load(folder / "settings.json"), parts, folder / "scheduler", weights_hash(files)
    )


def assemble(
    settings: Settings, parts: Mapping[str, nn.Module], scheduler: Path, fingerprint: str
) -> Models:
    """Put loaded parts and the stock scheduler's config together."""
    from diffusers import EulerDiscreteScheduler

    adapters = {kind: parts[part] for kind, part in ADAPTER_PARTS.items() if part in parts}
    frozen = {name: parts[name] for name in FROZEN_PARTS}
    return Models(
        settings=settings,
        **frozen,
        scheduler=EulerDiscreteScheduler.from_pretrained(scheduler),
        adapters=adapters,
        face_s2d=parts.get("face_s2d"),
        hash=fingerprint,
    )


def weights_hash(files: list[Path]) -> str:
    """First 12 hex digits of sha256 over the files' contents, in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 22), b""):
                digest.update(block)
    return digest.hexdigest()[:12]
