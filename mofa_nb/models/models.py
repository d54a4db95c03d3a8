"""A whole model, loaded once: the frozen parts of SVD, S2D, and the adapters there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mofa_nb.adapter.adapter import Adapter
from mofa_nb.adapter.unet import VideoUNet
from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.flow.s2d import S2D
from mofa_nb.models.parts import ADAPTER_PARTS, FROZEN_PARTS


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
