"""Endless batches of clips with dense flow: drawn scenes, real clips, rendered faces."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mofa_nb.clips import Bank, random_clips
from mofa_nb.samplers import spread_watershed_points
from mofa_nb.scenes import SceneBatch, random_scenes


@dataclass(frozen=True)
class Source:
    """Draws batches from a bank; each batch is of one kind.

    Attributes:
        clips_share: share of batches that are real clips with estimated flow.
        faces_share: share of batches that are rendered faces.
        generator: on the CPU; decides everything that is drawn.
    """

    bank: Bank
    generator: torch.Generator
    clips_share: float = 0.0
    faces_share: float = 0.0

    def draw(self, batch: int, frames: int, size: tuple[int, int]) -> SceneBatch:
        """A batch of clips of (H, W) `size` on the bank's device."""
        chance = float(torch.rand((), generator=self.generator))
        if chance < self.faces_share:
            return self.faces(batch, frames, size)[0]
        if chance < self.faces_share + self.clips_share and len(self.bank.clips):
            clips = random_clips(self.bank, batch, size, self.generator)
            return SceneBatch(
                clips.frames[:, :frames], clips.flow[:, : frames - 1],
                clips.visible[:, : frames - 1], clips.layers,
            )  # fmt: skip
        return random_scenes(self.bank.photos, batch, frames, size, generator=self.generator)

    def faces(
        self, batch: int, frames: int, size: tuple[int, int]
    ) -> tuple[SceneBatch, Float[Tensor, "B T 68 2"]]:
        """Rendered faces and their landmarks in pixels."""
        from mofa_nb.faces.render import render_faces

        made = render_faces(batch, frames, size, self.bank.photos, self.generator)
        layers = made.face_mask[:, 0].round().long()
        return SceneBatch(made.frames, made.flow, made.visible > 0.5, layers), made.landmarks


def random_hints(
    batch: SceneBatch, generator: torch.Generator, most: int = 48
) -> Bool[Tensor, "B 1 H W"]:
    """Pixels of frame 0 that carry a hint: nearly always one per layer at rest and
    in motion, the rest at random.

    The number per clip is log-uniform in [1, most], as few drawn tracks and dense samples are
    both to be understood. Hints stand only where the flow is known in the last frame.
    """
    device, (count, height, width) = batch.layers.device, batch.layers.shape
    known = batch.visible[:, -1, 0].flatten(1)
    nothing = -torch.ones((), device=device)
    score = torch.rand(count, height * width, device=device).where(known, nothing)
    moving = batch.flow[:, -1].norm(dim=1) > 1.5
    flat = (2 * batch.layers + moving).flatten(1)
    chosen = torch.zeros_like(known)
    for segment in range(int(flat.max()) + 1):
        inside = score.where(flat == segment, nothing)
        best = inside.argmax(dim=1, keepdim=True)
        keep = (inside.gather(1, best) >= 0) & (torch.rand(count, 1, device=device) < 0.9)
        chosen.scatter_(1, best, keep | chosen.gather(1, best))
    number = torch.exp(torch.rand(count, 1, generator=generator) * math.log(most)).to(device)
    threshold = score.topk(most, dim=1).values.gather(1, number.long().clamp(1, most) - 1)
    chosen |= score >= threshold.clamp(min=0)
    return chosen.view(count, 1, height, width)


def watershed_hints(
    batch: SceneBatch, generator: torch.Generator, most: int = 40
) -> Bool[Tensor, "B 1 H W"]:
    """Pixels of frame 0 where a user would draw: the inside of what moves as one, well spread.

    Between 4 and `most` a clip, where the flow is known in the last frame.
    """
    hints = torch.zeros_like(batch.layers, dtype=torch.bool)
    window = 2 * round(7 * min(batch.layers.shape[1:]) / 384) + 1
    for clip, mask in enumerate(hints):
        seed, share = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        known = batch.visible[clip, -1, 0].cpu()
        count = min(int(4 * (most / 4) ** share), int(known.sum()))
        if count == 0:
            continue
        points = spread_watershed_points(
            batch.flow[clip].cpu(), np.random.default_rng(int(seed * 2**32)),
            count=count, window=window, allowed=known,
        )  # fmt: skip
        x, y = points.to(mask.device).unbind(-1)
        mask[y, x] = True
    return hints[:, None]


def mixed_hints(batch: SceneBatch, generator: torch.Generator) -> Bool[Tensor, "B 1 H W"]:
    """Half of the clips with random hints, half with watershed ones."""
    random, drawn = random_hints(batch, generator), watershed_hints(batch, generator)
    chosen = torch.rand(len(drawn), generator=generator) < 0.5
    return drawn.where(chosen.to(drawn.device).view(-1, 1, 1, 1), random)
