"""The frozen SVD UNet with adapter residuals entering its skip connections (paper section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Holds what enters the last up block, from one step to the next (arXiv 2312.00858)."""

    hidden: Tensor | None = None


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
            deep: if it holds a hidden state of an earlier step, only the outermost blocks run;
                else it is given this step's.
        """
        batch, frames = sample.shape[:2]
        emb = time_embedding(self, sample, timestep, added_time_ids)
        context = encoder_hidden_states.repeat_interleave(frames, dim=0)
        image_only = sample.new_zeros(batch, frames)
        cached = None if deep is None else deep.hidden
        blocks = len(self.down_blocks) if cached is None else 1
        hidden, skips = encode(
            self, self.conv_in(sample.flatten(0, 1)), emb, context, image_only, blocks=blocks
        )
        if residuals is not None:
            added = skips, residual_counts(self.down_blocks), residuals.down
            # Residuals enter the skip connections (paper section 3.1): s + k r, k as released.
            skips = [s + k * r for s, k, r in zip(*added, strict=cached is None)]
            del added
            if isinstance(residuals.down, list):
                residuals.down.clear()
        if cached is None:
            hidden = self.mid_block(hidden, emb, context, image_only)
            hidden = hidden if residuals is None else hidden + residuals.mid
            for block in self.up_blocks[:-1]:
                hidden = decode_block(block, hidden, skips, emb, context, image_only)
            if deep is not None:
                deep.hidden = hidden
        else:
            hidden, skips = cached, skips[: len(self.up_blocks[-1].resnets)]
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


def use_one_token_attention(model: nn.Module) -> None:
    """Set the processor on every cross-attention (`attn2`) inside `model`."""
    for name, module in model.named_modules():
        if name.endswith("attn2"):
            module.set_processor(OneTokenAttention())


class OneTokenAttention:
    """Cross-attention to a single token, as SVD's to its image token: the softmax over one key is
    1, so the result is `to_out(to_v(token))` for every query, without queries, keys or scores."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[B, S, C] queries and a [B, 1, D] context -> [B, S, C] (a broadcast view)."""
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            raise ValueError("one-token attention needs a context of exactly one token")
        token = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return token.expand(hidden_states.shape[0], hidden_states.shape[1], -1)
