"""Occlusion nets of the landmark adapter: which warped features to keep, what to fill in."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class OcclusionNet(nn.Module):
    """Still feature, flow and warped feature -> warped * mask + fill * (1 - mask)."""

    def __init__(self, channels: int, hidden: Sequence[int]):
        super().__init__()
        self.hourglass = _Hourglass(2 * channels + 2, hidden)
        self.matting_mask = nn.Conv2d(hidden[-1], 1, 7, padding=3)
        self.matting = nn.Conv2d(hidden[-1], channels, 7, padding=3)

    def forward(
        self,
        still: Float[Tensor, "N C h w"],
        flow: Float[Tensor, "N 2 h w"],
        warped: Float[Tensor, "N C h w"],
    ) -> tuple[Float[Tensor, "N C h w"], Float[Tensor, "N 1 h w"]]:
        """Returns the filled feature and the mask in [0, 1] (1 keeps the warped feature)."""
        hidden = self.hourglass(torch.cat([still, flow, warped], dim=1))
        mask = self.matting_mask(hidden).sigmoid()
        return warped * mask + self.matting(hidden) * (1 - mask), mask


class _Hourglass(nn.Module):
    """Three convolutions down and three up in width; resolution never changes."""

    def __init__(self, channels: int, hidden: Sequence[int]):
        super().__init__()
        a, b, c, out = hidden
        self.encoder = nn.Module()
        self.encoder.down_blocks = nn.ModuleList([_Conv(channels, a), _Conv(a, b), _Conv(b, c)])
        self.decoder = nn.Module()
        self.decoder.up_blocks = nn.ModuleList([_Conv(c, b), _Conv(2 * b, a), _Conv(2 * a, out)])

    def forward(self, features: Tensor) -> Tensor:
        skips = []
        for block in self.encoder.down_blocks:
            features = block(features)
            skips.append(features)
        skips.pop()
        for block in self.decoder.up_blocks:
            features = block(features)
            features = torch.cat([skips.pop(), features], dim=1) if skips else features
        return features


class _Conv(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.conv(features))
