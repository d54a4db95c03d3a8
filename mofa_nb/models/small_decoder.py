"""A small decoder for a VAE's latents, which learns from that VAE. Channels unfold into pixels
(arXiv 1609.05158), so that few are left at full resolution."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.config import DecoderConfig


class SmallDecoder(nn.Module):
    """Scaled latents -> pictures in [-1, 1], not clamped."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config, widths = config, (*config.widths, 3)
        doublings = len(config.widths) - 1
        steps = (*[2] * doublings, config.fold // 2**doublings)
        self.conv_in = _conv(config.latent_channels, widths[0])
        levels = zip(widths, widths[1:], config.depths, steps, strict=False)
        self.levels = nn.ModuleList(_Level(*level) for level in levels)

    def forward(self, latents: Float[Tensor, "N C h w"]) -> Float[Tensor, "N 3 H W"]:
        hidden = self.conv_in(latents)
        for level in self.levels:
            hidden = level(hidden)
        return hidden


class _Level(nn.Module):
    """Residual blocks, then a convolution whose channels unfold into finer pixels."""

    def __init__(self, width: int, out_channels: int, blocks: int, unfold: int):
        super().__init__()
        self.blocks, self.unfold = _blocks(width, blocks), unfold
        self.conv_out = _conv(width, out_channels * unfold**2)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv_out(F.silu(self.blocks(hidden))), self.unfold)


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.second(F.silu(self.first(F.silu(hidden))))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(width) for _ in range(count)))


def _conv(channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1)
