"""Random draws that follow one generator and land on one device."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dice:
    """Draws from `generator`, handed over to `device`.

    With a generator on the CPU the same seed gives the same scene on every device.
    """

    generator: torch.Generator
    device: torch.device

    @property
    def host(self) -> "Dice":
        """The same draws, kept where they are drawn: for choices that decide what is computed.

        With a generator on the CPU, such choices never wait for the GPU.
        """
        return Dice(self.generator, self.generator.device)

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Evenly spread in [low, high)."""
        draws = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return (low + (high - low) * draws).to(self.device)

    def log_uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Spread evenly in the logarithm between two positive bounds."""
        return self.uniform(shape, math.log(low), math.log(high)).exp()

    def normal(self, shape: tuple[int, ...], spread: float = 1.0) -> Tensor:
        """Gaussian with mean 0 and standard deviation `spread`."""
        draws = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return (spread * draws).to(self.device)

    def chance(self, shape: tuple[int, ...], share: float) -> Tensor:
        """True with probability `share`."""
        return self.uniform(shape) < share

    def sign(self, shape: tuple[int, ...]) -> Tensor:
        """-1 or 1, evenly."""
        return self.chance(shape, 0.5).float() * 2 - 1

    def angle(self, shape: tuple[int, ...]) -> Tensor:
        """Radians, the whole circle."""
        return self.uniform(shape, -math.pi, math.pi)

    def integer(self, shape: tuple[int, ...], count: int) -> Tensor:
        """0 ... count - 1."""
        return (self.uniform(shape) * count).long().clamp(max=count - 1)

    def pick(self, shape: tuple[int, ...], shares: tuple[float, ...]) -> Tensor:
        """An index into `shares`, as often as its share says."""
        edges = torch.tensor(shares, device=self.device).cumsum(0)
        draws = self.uniform(shape, 0.0, float(sum(shares)))
        return (draws[..., None] >= edges[:-1]).sum(-1)
