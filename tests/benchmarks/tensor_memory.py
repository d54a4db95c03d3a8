"""Bytes of tensors alive while something runs, counted tensor by tensor."""

import gc
import weakref
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mofa_nb.pipeline.outputs import Clip

Result = TypeVar("Result")


class TensorMemory(TorchDispatchMode):
    """A context that sees every operation: `peak` is the most bytes that its results held at once.

    Each storage counts once, from the operation that returned it until it is freed; views cost
    nothing, nor does what was there before and only goes in. What a kernel needs inside itself is
    not seen. Slows small operations down: do not take times in it.
    """

    def __init__(self, device: str | None = None):
        """Count everywhere, or only on devices of one type."""
        super().__init__()
        self.now = self.peak = 0
        self.device = device
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operation and count what it returns and was not given."""
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._count(value, size=0)
        result = function(*args, **kwargs)
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        return result

    def add(self, size: int) -> None:
        """Bytes that came to lie there beside the tensors of operations, or left."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def _count(self, value: Tensor, size: int | None = None) -> None:
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._alive or self.device not in (None, value.device.type):
            return
        size = storage.nbytes() if size is None else size
        self._alive.add(key)
        self.add(size)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def with_peak(work: Callable[[], Result]) -> tuple[Result, int]:
    """What some work returns, and the most bytes of its tensors meanwhile, a loaded model apart."""
    gc.collect()
    with TensorMemory() as memory:
        result = work()
    return result, memory.peak


def stored_bytes(clip: Clip) -> int:
    """Bytes of a clip's frames and its dense flow."""
    return clip.frames.nbytes + clip.flow.nbytes


def growth_ratio(peaks: tuple[int, int], stored: tuple[int, int]) -> float:
    """How much memory grows between two lengths of a clip, over how much what is stored does."""
    return (peaks[1] - peaks[0]) / (stored[1] - stored[0])
