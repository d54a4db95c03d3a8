"""A pool of ready clips: made in large chunks, used several times, renewed bit by bit.

Making a clip costs many small operations whatever the batch, so a training step that waits for
a fresh batch is slow. The pool makes clips in chunks and keeps them in compact types.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch

Stored = dict[str, Tensor]


class Pool:
    """`capacity` clips; one chunk of them is replaced every `every` draws."""

    def __init__(
        self, make: Callable[[int], Stored], capacity: int, chunk: int = 32, every: int = 8
    ):
        self.make, self.chunk, self.every = make, min(chunk, capacity), every
        chunks = [make(self.chunk) for _ in range(max(capacity // self.chunk, 1))]
        self.stored = {key: torch.cat([c[key] for c in chunks]) for key in chunks[0]}
        self.draws = 0

    def __len__(self) -> int:
        return len(next(iter(self.stored.values())))

    def draw(self, batch: int) -> Stored:
        """`batch` different clips at random (fewer if the pool is smaller)."""
        self.draws += 1
        if self.every and self.draws % self.every == 0:
            slot = self.draws // self.every * self.chunk % len(self)
            for key, fresh in self.make(self.chunk).items():
                self.stored[key][slot : slot + self.chunk] = fresh[: len(self) - slot]
        device = next(iter(self.stored.values())).device
        index = torch.randperm(len(self), device=device)[:batch]
        return {key: value[index] for key, value in self.stored.items()}


def stored(batch: SceneBatch) -> Stored:
    """Clips in compact types."""
    return {
        "frames": (batch.frames * 255).round().byte(),
        "flow": batch.flow.half(),
        "visible": batch.visible,
        "layers": batch.layers.byte(),
    }


def restored(values: Stored) -> SceneBatch:
    """Clips as training takes them."""
    return SceneBatch(
        values["frames"].float() / 255,
        values["flow"].float(),
        values["visible"],
        values["layers"].long(),
    )
