"""Random numbers, colours and textures for a batch of rendered clips."""

import torch
from torch import Tensor
from torch.nn import functional

TEXTURE = 192  # side of one texture tile, texels


class Painter:
    """Random numbers and colours for a batch; every draw follows one generator.

    Numbers are drawn on the CPU and moved, so that a seed gives the same faces on every device.
    """

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator):
        self.batch, self.device, self.generator = batch, device, generator

    def uniform(self, low: float | int, high: float | int, *shape: int) -> Tensor:
        """[B, *shape]"""
        draw = torch.rand(self.batch, *shape, generator=self.generator)
        return (low + (high - low) * draw).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """[B, *shape]"""
        return torch.randn(self.batch, *shape, generator=self.generator).to(self.device)

    def chance(self, probability: float | int) -> Tensor:
        """1 with this probability, else 0; [B]."""
        return (self.uniform(0, 1) < probability).float()

    def colour(self, palette: tuple, jitter: float | int = 0.04) -> Tensor:
        """A mix of two neighbours in the palette plus a little noise; [B, 3, 1, 1]."""
        colours = torch.tensor(palette, device=self.device)
        place = self.uniform(0, len(palette) - 1)
        low = place.floor().long().clamp(max=len(palette) - 2)
        mixed = torch.lerp(colours[low], colours[low + 1], (place - low)[:, None])
        mixed = mixed * (1 + jitter * (self.normal(3) + self.normal(1)))
        return mixed.clamp(0.02, 1)[..., None, None]

    def clouds(self, cells: int, size: int = TEXTURE, channels: int = 1) -> Tensor:
        """Smooth noise of about unit spread with this many bumps a side; [B, C, S, S]."""
        coarse = self.normal(channels, cells + 2, cells + 2)
        square = (size, size)
        return functional.interpolate(coarse, size=square, mode="bicubic", align_corners=True)

    def grain(self, size: int = TEXTURE) -> Tensor:
        """Noise per texel; [B, 1, S, S]."""
        return self.normal(1, size, size)
