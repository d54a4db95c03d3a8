"""What a card has to do for some code: operations and bytes, operation by operation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Pace:
    """What a card does in a second."""

    half: float  # floating-point operations in 16 bits
    single: float  # and in 32
    bytes: float  # read and written
    bfloat16: bool = True


class Work(TorchDispatchMode):
    """A context that sees every operation. Each reads what it is given and writes what it makes,
    so a map between two operations is written and read; what makes nothing, as a view, costs none.
    A convolution's bias is a pass of its own, as it is on a card.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        # Floating-point operations, whether they are in 32 bits, and bytes.
        self.parts: list[tuple[int, bool, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operation and count it."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        made = _tensors(result)
        given = _tensors((args, kwargs))
        before = {id_of(value) for value in given}
        changes = function._schema.is_mutable
        if given and (changes or any(id_of(value) not in before for value in made)):
            count = flop_registry.get(function.overloadpacket)
            flops = count(*args, **kwargs, out_val=result) if count else 0
            values = given if changes else [*given, *made]
            self.add(flops, values[-1].itemsize > 2, sum(map(stored, values)))
            if function.overloadpacket is torch.ops.aten.convolution and args[2] is not None:
                self.add(0, False, 2 * stored(result))
        return result

    def add(self, flops: int, single: bool, size: int) -> None:
        """One operation more."""
        self.parts.append((flops, single, size))

    @property
    def flops(self) -> int:
        """Of all operations."""
        return sum(flops for flops, _, _ in self.parts)

    @property
    def bytes(self) -> int:
        """That are read and written."""
        return sum(size for _, _, size in self.parts)

    def seconds(self, card: Pace) -> float:
        """At least, each operation by what holds it up."""
        return sum(
            max(flops / (card.single if single else card.half), size / card.bytes)
            for flops, single, size in self.parts
        )


def id_of(value: Tensor) -> int:
    """The storage that a tensor is a view of."""
    return value.untyped_storage()._cdata


def stored(value: Tensor) -> int:
    """Bytes that are read or written for a tensor, however often it repeats them."""
    return min(value.nbytes, value.untyped_storage().nbytes())


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
