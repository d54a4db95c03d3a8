"""A pool of ready clips: made in large chunks, used several times, renewed bit by bit.

Making a clip costs many small operations whatever the batch, so a training step that waits for
a fresh batch is slow. The pool makes clips in chunks and keeps them in compact types.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch

Stored = dict[str, Tensor]


def drawn_seed(*numbers: int) -> int:
    """A seed of 32 bits that follows from all of these numbers, and hardly from fewer."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Pool:
    """`capacity` clips; one chunk of them is replaced every `every` turns.

    Chunk number k is drawn from `seed` and k alone, so a run that is resumed at any turn makes
    the very clips that the uninterrupted run has then.
    """

    def __init__(
        self, make: Callable[[int], Stored], capacity: int, chunk: int, every: int, seed=(0,)
    ):
        self.make, self.chunk, self.every, self.seed = make, min(chunk, capacity), every, seed
        self.chunks, self.stored, self.next = max(capacity // self.chunk, 1), {}, 0

    def __len__(self) -> int:
        return self.chunks * self.chunk

    def draw(self, batch: int, turn: int) -> Stored:
        """`batch` different clips at random (fewer if the pool is smaller), as of this turn."""
        first = turn // self.every if self.every else 0
        for number in range(max(self.next, first), first + self.chunks):
            self._fill(number)
        self.next = first + self.chunks
        device = next(iter(self.stored.values())).device
        index = torch.randperm(len(self), device=device)[:batch]
        return {key: value[index] for key, value in self.stored.items()}

    def _fill(self, number: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng(), torch.autocast(device, enabled=False):
            torch.manual_seed(drawn_seed(*self.seed, number))
            made = self.make(self.chunk)
        slot = number % self.chunks * self.chunk
        for key, fresh in made.items():
            if key not in self.stored:
                self.stored[key] = fresh.new_empty((len(self), *fresh.shape[1:]))
            self.stored[key][slot : slot + self.chunk] = fresh


def stored(batch: SceneBatch) -> Stored:
    frames, flow = (batch.frames * 255).round().byte(), batch.flow.half()
    seen, layers = batch.visible, batch.layers.byte()
    return {"frames": frames, "flow": flow, "visible": seen, "layers": layers}


def restored(values: Stored) -> SceneBatch:
    frames, flow = values["frames"].float() / 255, values["flow"].float()
    return SceneBatch(frames, flow, values["visible"], values["layers"].long())
