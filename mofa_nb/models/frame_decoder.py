"""A video VAE's decoder whose frames are decoded alone, for a model that does so (`decode_alone`):
less work than a clip of one frame takes, and the same numbers."""

import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.resnet import SpatioTemporalResBlock
from jaxtyping import Float
from torch import Tensor, nn


class FrameBlock(nn.Module):
    """A block of that decoder; of its temporal convolutions only the middle meets anything."""

    def __init__(self, block: SpatioTemporalResBlock):
        super().__init__()
        self.spatial_res_block, temporal = block.spatial_res_block, block.temporal_res_block
        last = temporal.conv2
        self.silent = not bool(last.weight.any() or last.bias.any())  # has nothing to add
        if not self.silent:
            self.norm1, self.conv1 = temporal.norm1, _middle(temporal.conv1)
            self.norm2, self.conv2 = temporal.norm2, _middle(last)
            self.factor = float(block.time_mixer.mix_factor.sigmoid())

    def forward(
        self, hidden_states: Float[Tensor, "N C h w"], temb: None = None, **_: object
    ) -> Float[Tensor, "N Co h w"]:
        hidden = self.spatial_res_block(hidden_states, temb)
        if self.silent:
            return hidden
        change = self.conv1(F.silu(self.norm1(hidden)))
        change = self.conv2(F.silu(self.norm2(change)))
        return hidden.add(change, alpha=self.factor)


def decode_alone(vae: AutoencoderKLTemporalDecoder) -> None:
    """Change the VAE's decoder so that it is quick with `num_frames=1`, and right with no other."""
    decoder = vae.decoder
    for group in (decoder.mid_block, *decoder.up_blocks):
        group.resnets = nn.ModuleList(FrameBlock(block) for block in group.resnets)
    last = decoder.time_conv_out
    last.weight.data = last.weight.data[:, :, last.weight.shape[2] // 2][:, :, None].clone()
    last.kernel_size, last.padding = (1, 1, 1), (0, 0, 0)


def _middle(conv: nn.Conv3d) -> nn.Conv2d:
    """The middle tap of a convolution over time alone."""
    made = nn.Conv2d(conv.in_channels, conv.out_channels, 1)
    made.weight.data = conv.weight.data[:, :, conv.weight.shape[2] // 2].clone()
    made.bias = conv.bias
    return made.requires_grad_(False)
