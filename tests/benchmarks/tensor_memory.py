"""Bytes of tensors alive while something runs, counted tensor by tensor."""

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mofa_nb.models import Models
from mofa_nb.outputs import Clip

Result = TypeVar("Result")


class TensorMemory(TorchDispatchMode):
    """A context that sees every operation: `peak` is the most bytes that its results held at once.

    Each storage counts once, from the operation that returned it until it is freed; views cost
    nothing. What a kernel needs inside itself is not seen. Slows small operations down: do not
    take times in it.

    Args:
        known: tensors that were there before and do not count, such as a model's weights.
    """

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operation and count what it returns."""
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def model_tensors(models: Models) -> list[Tensor]:
    """Weights and buffers of all parts of a model."""
    parts = [part for part in vars(models).values() if isinstance(part, nn.Module)]
    parts += models.adapters.values()
    return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]


def with_peak(models: Models, work: Callable[[], Result]) -> tuple[Result, int]:
    """What some work returns, and the most bytes of tensors above the loaded model meanwhile."""
    gc.collect()
    with TensorMemory(model_tensors(models)) as memory:
        result = work()
    return result, memory.peak


def stored_bytes(clip: Clip, controls: int = 1) -> int:
    """Bytes of a clip's frames, and of one dense flow for each control."""
    return clip.frames.nbytes + controls * clip.flow.nbytes


def growth_ratio(peaks: tuple[int, int], stored: tuple[int, int]) -> float:
    """How much memory grows between two lengths of a clip, over how much what is stored does."""
    return (peaks[1] - peaks[0]) / (stored[1] - stored[0])
