"""The frozen SVD UNet with adapter residuals entering its skip connections (paper section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNetSpatioTemporalConditionModel
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Residuals:
    """What the adapters add to the UNet: one tensor per encoder feature, and one for the middle. A
    list of them is emptied when the UNet has added them, which frees them."""

    down: Sequence[Tensor]  # in the order in which features are made, [B * T, C, h, w]
    mid: Tensor  # [B * T, C, h, w]


@dataclass
class Deep:
    """What a step leaves for the next ones, of which only the outermost blocks run then."""

    hidden: Tensor | None = None  # that enters the last up block
    down: Sequence[Tensor] = ()  # residuals of its skips


class VideoUNet(UNetSpatioTemporalConditionModel):
    """Stock SVD UNet (same keys and config) that takes residuals; without any it equals stock."""

    def forward(
        self, sample: Float[Tensor, "B T C h w"],
        timestep: Float[Tensor, ""] | Float[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B 1 D"], added_time_ids: Float[Tensor, "B 3"],
        residuals: Residuals | None = None, deep: Deep | None = None,
    ) -> Float[Tensor, "B T Co h w"]:  # fmt: skip
        """Predict v for latents concatenated with the image latents on channels.

        Args:
            sample: scaled noisy latents and image latents.
            timestep: 0.25 * ln(sigma), one for all or one per video.
            deep: if it holds what an earlier step left, only the outermost blocks run; else it is
                given this step's.
        """
        batch, frames = sample.shape[:2]
        emb = time_embedding(self, sample, timestep, added_time_ids)
        context = encoder_hidden_states.repeat_interleave(frames, dim=0)
        image_only = sample.new_zeros(batch, frames)
        shallow = deep is not None and deep.hidden is not None
        outer = len(self.up_blocks[-1].resnets)
        down = deep.down if shallow else residuals.down if residuals else []
        if deep is not None:
            deep.down = tuple(down[:outer])
        blocks = 1 if shallow else len(self.down_blocks)
        hidden, skips = encode(
            self, self.conv_in(sample.flatten(0, 1)), emb, context, image_only, blocks=blocks
        )
        if down:
            added = skips, residual_counts(self.down_blocks), down
            # Residuals enter the skip connections (paper section 3.1): s + k r, k as released.
            skips = [torch.add(s, r, alpha=k) for s, k, r in zip(*added, strict=not shallow)]
            del added
        if isinstance(down, list):
            down.clear()
        if shallow:
            hidden, skips = deep.hidden, skips[:outer]
        else:
            hidden = self.mid_block(hidden, emb, context, image_only)
            hidden = hidden if residuals is None else hidden + residuals.mid
            for block in self.up_blocks[:-1]:
                hidden = decode_block(block, hidden, skips, emb, context, image_only)
            if deep is not None:
                deep.hidden = hidden
        hidden = decode_block(self.up_blocks[-1], hidden, skips, emb, context, image_only)
        hidden = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return hidden.unflatten(0, (batch, frames))


def time_embedding(
    model: nn.Module, sample: Tensor, timestep: Tensor, ids: Float[Tensor, "B 3"]
) -> Float[Tensor, "B*T E"]:
    """Embed the timestep (one, or one per video) and added ids, repeated for every frame."""
    batch, frames = sample.shape[:2]
    steps = timestep.reshape(-1).expand(batch)
    emb = model.time_embedding(model.time_proj(steps).to(sample.dtype))
    ids = model.add_time_proj(ids.flatten()).reshape(batch, -1).to(sample.dtype)
    return (emb + model.add_embedding(ids)).repeat_interleave(frames, dim=0)


def encode(
    model: nn.Module, hidden: Tensor, emb: Tensor, context: Tensor, image_only: Tensor,
    after: Sequence[Tensor] = (), blocks: int | None = None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Run the down blocks, or so many; returns the deepest hidden state and all encoder features,
    taken before `after` is added to the hidden state behind each block."""
    features = [hidden]
    for k, block in enumerate(model.down_blocks[:blocks]):
        inputs = _block_inputs(block, emb, context, image_only)
        hidden, block_features = block(hidden_states=hidden, **inputs)
        features.extend(block_features)
        hidden = hidden + after[k] if k < len(after) else hidden
    return hidden, features


def decode_block(
    block: nn.Module, hidden: Tensor, skips: list, emb: Tensor, context: Tensor, image_only: Tensor
) -> Tensor:
    """Run an up block; it takes its skips from the end of the list."""
    own = tuple(skips[-len(block.resnets) :])
    del skips[-len(own) :]
    inputs = _block_inputs(block, emb, context, image_only)
    return block(hidden_states=hidden, res_hidden_states_tuple=own, **inputs)


def _block_inputs(block: nn.Module, emb: Tensor, context: Tensor, image_only: Tensor) -> dict:
    attends = getattr(block, "has_cross_attention", False)
    inputs = {"encoder_hidden_states": context} if attends else {}
    return {"temb": emb, "image_only_indicator": image_only} | inputs


def residual_counts(down_blocks: nn.ModuleList) -> list[int]:
    """How many times each residual enters the UNet: the published checkpoints were trained with
    the list added anew after every down block to all features so far, so K - k times to those of
    block k of K: 4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1."""
    blocks = len(down_blocks)
    counts = [blocks]
    for k, block in enumerate(down_blocks):
        counts += [blocks - k] * feature_count(block)
    return counts


def feature_count(down_block: nn.Module) -> int:
    """How many encoder features a down block makes."""
    return len(down_block.resnets) + (down_block.downsamplers is not None)
