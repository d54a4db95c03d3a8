"""Feature maps as colours: the three directions in which they vary most become red, green, blue."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

HOLE = (24, 24, 28)


@dataclass(frozen=True)
class FeatureColours:
    """A fixed way from channels to colours, so that pictures made with it compare.

    Attributes:
        mean: of each channel.
        axes: the three principal directions.
        reach: along each axis, the projection that gets full colour.
    """

    mean: Float[Tensor, " C"]
    axes: Float[Tensor, "3 C"]
    reach: Float[Tensor, " 3"]

    @staticmethod
    def of(features: Float[Tensor, "*T C h w"]) -> "FeatureColours":
        """Fitted to feature maps by principal component analysis; needs three channels or more."""
        rows = _rows(features)
        mean = rows.mean(0)
        _, _, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        axes = directions[:3]
        signs = torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)  # svd leaves them open
        projected = ((rows - mean) @ (axes * signs).T).abs()
        reach = projected.quantile(0.98, dim=0).clamp(min=1e-9)
        return FeatureColours(mean, axes * signs, reach)

    def __call__(self, features: Float[Tensor, "*T C h w"]) -> UInt8[np.ndarray, "*T h w 3"]:
        """Colours of feature maps; where all channels are exactly zero there is a dark hole."""
        rows = _rows(features)
        unit = (rows - self.mean) @ self.axes.T / self.reach
        colours = ((unit.clamp(-1, 1) + 1) * 127.5).round()
        holes = (rows == 0).all(1, keepdim=True)
        colours = torch.where(holes, colours.new_tensor(HOLE), colours)
        *frames, _, height, width = features.shape
        return colours.byte().numpy().reshape(*frames, height, width, 3)


def _rows(features: Float[Tensor, "*T C h w"]) -> Float[Tensor, "N C"]:
    channels = features.shape[-3]
    return features.detach().float().cpu().movedim(-3, -1).reshape(-1, channels)
