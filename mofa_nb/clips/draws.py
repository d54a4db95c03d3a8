"""Random draws that follow one generator and land on one device, and rows of tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

TEXTURE = 192  # side of one texture tile, texels


class Rows:
    """A dataclass of tensors, or of such dataclasses, that have one row per clip or layer."""

    def mapped(self, change: Callable[[Any], Any]) -> Self:
        return type(self)(**{name: change(value) for name, value in vars(self).items()})

    def to(self, device: torch.device | str) -> Self:
        return self.mapped(lambda value: value.to(device))

    def __getitem__(self, index: slice | Tensor) -> Self:
        return self.mapped(lambda value: value[index])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one after the other."""
        return cls(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True)
class Dice:
    """Draws from `generator` (on the CPU: the same on every device), handed over to `device`."""

    generator: torch.Generator
    device: torch.device

    @property
    def host(self) -> "Dice":
        """The same draws, kept where they are drawn: choices do not have to wait for a GPU."""
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

    def angle(self, shape: tuple[int, ...]) -> Tensor:
        """Radians, the whole circle."""
        return self.uniform(shape, -math.pi, math.pi)

    def direction(self, count: int) -> Tensor:
        """Unit vectors (x, y) of any direction, [n, 2]."""
        angle = self.angle((count,))
        return torch.stack([angle.cos(), angle.sin()], -1)

    def integer(self, shape: tuple[int, ...], count: int) -> Tensor:
        """0 ... count - 1."""
        return (self.uniform(shape) * count).long().clamp(max=count - 1)

    def pick(self, shape: tuple[int, ...], shares: tuple[float, ...]) -> Tensor:
        """An index into `shares`, as often as its share says."""
        edges = torch.tensor(shares, device=self.device).cumsum(0)
        draws = self.uniform(shape, 0.0, float(sum(shares)))
        return (draws[..., None] >= edges[:-1]).sum(-1)

    def one_of(self, options: list[Tensor], shares: tuple[float, ...]) -> Tensor:
        """For each row, that of one of the options, as often as its share says."""
        count = len(options[0])
        kind = self.pick((count,), shares)
        return torch.stack(options, 1)[torch.arange(count, device=self.device), kind]


class Painter:
    """Random numbers, colours and textures for a batch of heads, one row per clip."""

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator):
        self.batch, self.device, self.generator = batch, device, generator
        self.dice = Dice(generator, device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[B, *shape]"""
        return self.dice.uniform((self.batch, *shape), low, high)

    def normal(self, *shape: int) -> Tensor:
        """[B, *shape]"""
        return self.dice.normal((self.batch, *shape))

    def chance(self, probability: float, *shape: int) -> Tensor:
        """1 with this probability, else 0; [B, *shape]."""
        return self.dice.chance((self.batch, *shape), probability).float()

    def colour(self, palette: tuple) -> Tensor:
        """A mix of two neighbours in the palette plus a little noise; [B, 3, 1, 1]."""
        colours = torch.tensor(palette, device=self.device)
        place = self.uniform(0, len(palette) - 1)
        low = place.floor().long().clamp(max=len(palette) - 2)
        mixed = torch.lerp(colours[low], colours[low + 1], (place - low)[:, None])
        mixed = mixed * (1 + 0.03 * (self.normal(3) + self.normal(1)))
        return mixed.clamp(0.02, 1)[..., None, None]

    def clouds(self, cells: int) -> Tensor:
        """Smooth noise of about unit spread with this many bumps a side; [B, 1, S, S]."""
        coarse = self.normal(1, cells + 2, cells + 2)
        return functional.interpolate(coarse, (TEXTURE, TEXTURE), mode="bicubic")
