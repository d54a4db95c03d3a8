"""Stock video blocks of UNet, adapters and VAE that read and write their feature maps less often:
the same weights, names and, up to rounding, numbers."""

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import AlphaBlender, ResnetBlock2D, TemporalResnetBlock
from jaxtyping import Float
from torch import Tensor, nn


def streamline(net: nn.Module) -> None:
    """Have a video network compute its blocks as this module does."""
    for module in net.modules():
        module.__class__ = STREAMLINED.get(type(module), type(module))
        if isinstance(module, _Residual) and module.time_emb_proj is not None:
            module.conv1.__class__ = STREAMLINED_CONV[type(module.conv1)]
        if isinstance(module, BasicTransformerBlock | TemporalBasicTransformerBlock):
            module.norm2.__class__ = Unread
            module.attn1.set_processor(SelfAttention())
            module.attn2.set_processor(OneTokenAttention())


class Blend(AlphaBlender):
    """Spatial and temporal features, mixed by one learned factor: no frame is a still image."""

    def forward(
        self, x_spatial: Tensor, x_temporal: Tensor, image_only_indicator: Tensor
    ) -> Tensor:
        sign = 1 if self.switch_spatial_to_temporal_mix else -1
        temporal_share = (sign * self.mix_factor).sigmoid()
        return torch.lerp(x_spatial, x_temporal, temporal_share.to(x_spatial))


class _Residual:
    """Without a division of the sum by 1; the time's shift comes with the convolution's bias."""

    def forward(
        self, input_tensor: Float[Tensor, "N C h w"] | Float[Tensor, "B C T h w"],
        temb: Float[Tensor, "N E"] | Float[Tensor, "B T E"] | None,
    ) -> Tensor:  # fmt: skip
        hidden = F.silu(self.norm1(input_tensor))
        if temb is None:
            hidden = self.conv1(hidden)
        else:
            hidden = self.conv1(hidden, self.time_emb_proj(F.silu(temb)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        skipped = self.conv_shortcut(input_tensor) if self.use_in_shortcut else input_tensor
        return skipped + hidden


class ResBlock(_Residual, ResnetBlock2D): ...


class TemporalResBlock(_Residual, TemporalResnetBlock): ...


class _Shifted:
    """A convolution that adds to each channel its bias and a shift at once."""

    def forward(
        self, input: Tensor, shift: Float[Tensor, "N Co"] | Float[Tensor, "B T Co"]
    ) -> Tensor:
        shift = (shift + self.bias).movedim(-1, 1)[..., None, None]
        return self._conv_forward(input, self.weight, None).add_(shift)


class ShiftedConv2d(_Shifted, nn.Conv2d): ...


class ShiftedConv3d(_Shifted, nn.Conv3d): ...


class Unread(nn.LayerNorm):
    """In front of attention to one token, which asks nothing of its queries."""

    def forward(self, input: Tensor) -> Tensor:
        return input


class SelfAttention:
    """Without dropout and a division of the result by 1."""

    def __call__(
        self, attn: Attention, hidden_states: Float[Tensor, "B S C"],
        encoder_hidden_states: None = None, attention_mask: None = None,
    ) -> Float[Tensor, "B S C"]:  # fmt: skip
        maps = (attn.to_q, attn.to_k, attn.to_v)
        heads = (m(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for m in maps)
        return attn.to_out[0](F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class OneTokenAttention:
    """Cross-attention to a single token, as SVD's to its image token: the softmax over one key is
    1, so the result is `to_out(to_v(token))` for every query, without queries, keys or scores."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[B, S, C] queries and a [B, 1, D] context -> [B, S, C] (a broadcast view)."""
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            raise ValueError("one-token attention needs a context of exactly one token")
        context = encoder_hidden_states
        if context.stride(0) == 0:  # one row for all, of which a linear layer would make copies
            context = context[:1]
        token = attn.to_out[0](attn.to_v(context))
        return token.expand(hidden_states.shape[0], hidden_states.shape[1], -1)


STREAMLINED = {
    AlphaBlender: Blend, ResnetBlock2D: ResBlock, TemporalResnetBlock: TemporalResBlock,
}  # fmt: skip
STREAMLINED_CONV = {nn.Conv2d: ShiftedConv2d, nn.Conv3d: ShiftedConv3d}
