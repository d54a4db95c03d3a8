"""What a clip takes on a card, found without one: `python -m tests.benchmarks.without_card`.

The release at full size runs on a pretended device: PyTorch's FakeTensorMode computes shapes,
number formats and devices, and no values. A tensor on the wrong device, a mixed number format or
a value that the loop waits for is an error. What is alive is counted storage by storage; attention
counts as the one fused kernel that it is on a card. No card, no weights, some seconds a row.
The figures are computed, not measured: a card's allocator and its kernels' own memory come on top
(a few hundred MiB).
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.config import EXACT, SPEEDS, WAYS, Speed
from mofa_nb.models.memory import (
    STAGE_PARTS,
    Memory,
    chunk_wide_layers,
    is_brought,
    weights_on_card,
)
from mofa_nb.models.models import Models
from mofa_nb.sampling.denoise import Control, decode, denoise_steps, encode_start
from tests.benchmarks.full_size import KINDS, card_dtypes, full_size
from tests.benchmarks.report import table, write_json
from tests.benchmarks.tensor_memory import TensorMemory

CARD = "card"
GIB = 2**30
CLIPS = {  # name: frames, (height, width), kinds
    "14 frames 320x576": (14, (320, 576), "tracks"),
    "25 frames 320x576": (25, (320, 576), "tracks"),
    "25 frames 320x576, both": (25, (320, 576), "both"),
    "25 frames 576x1024": (25, (576, 1024), "tracks"),
    "25 frames 576x1024, both": (25, (576, 1024), "both"),
}
BOUNDS = {  # GiB, by clip and way
    ("25 frames 320x576", "balanced"): 5.5,
    ("25 frames 576x1024", "balanced"): 8.5,
    ("25 frames 320x576, both", "balanced"): 7.0,
    ("25 frames 576x1024, both", "balanced"): 10.0,
    ("14 frames 320x576", "low"): 4.0,
}
DECODED = {"full": 8, "balanced": 2, "low": 2}  # frames at once


class Scheduler(EulerDiscreteScheduler):
    """The stock scheduler, whose set-up computes real numbers."""

    @classmethod
    def from_config(cls, config, **kwargs) -> "Scheduler":
        """As in the original."""
        with unset_fake_temporarily():
            return super().from_config(config, **kwargs)

    def set_timesteps(self, *args, device=None, **kwargs) -> None:
        """As in the original; the times then lie on the pretended card."""
        with unset_fake_temporarily():
            super().set_timesteps(*args, **kwargs)
            count, sigmas = len(self.timesteps), self.sigmas.tolist()
        self.timesteps = torch.empty(count, device=device)
        self.sigmas = [torch.tensor(sigma) for sigma in sigmas]  # single constants keep values


class AsOnCard(TorchFunctionMode):
    """Attention is one kernel, whose result is all that it allocates; its operations are counted.

    The pretended card can make no tensors from values: they come without.
    """

    flops = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Replace what differs from a card, leave all else."""
        kwargs = kwargs or {}
        if function is Tensor.new_tensor:
            like, values = args
            return like.new_empty(np.shape(values), dtype=kwargs.get("dtype", like.dtype))
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], tuple):
            new = lambda at: args[0].new_empty(len(at), dtype=torch.long)  # noqa: E731
            places = tuple(new(at) if isinstance(at, list) else at for at in args[1])
            return function(args[0], places, *args[2:])
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **kwargs)
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        query, key, value = given["query"], given["key"], given["value"]
        if not query.dtype == key.dtype == value.dtype:
            raise TypeError(f"attention mixes {query.dtype}, {key.dtype} and {value.dtype}")
        self.flops += 4 * query.numel() * key.shape[-2]
        return query.new_empty(*query.shape[:-1], value.shape[-1])


@dataclass(frozen=True)
class Cost:
    """Of one clip.

    Attributes:
        peaks: bytes on the card by stage, weights included.
        flops: operations by stage; of denoising, of one step after the other.
    """

    peaks: dict[str, int]
    flops: dict[str, list[int]]

    @property
    def peak(self) -> int:
        """At the worst moment."""
        return max(self.peaks.values())

    def total(self, speed: Speed, steps: int) -> float:
        """Operations of a clip of so many steps, if the second of two was a shallow one."""
        whole, shallow = self.flops["denoising"]
        taken = speed.steps_of(steps)
        each = [(whole if k % speed.deep == 0 else shallow) for k in range(taken)]
        halves = [1 if speed.guides(k / taken) else 0.5 for k in range(taken)]
        rest = sum(sum(counts) for name, counts in self.flops.items() if name != "denoising")
        return rest + sum(count * share for count, share in zip(each, halves, strict=True))


@contextmanager
def pretended(kinds: Sequence[str], wide: bool = True) -> Iterator[Models]:
    """The release on a card that is not there."""
    if not hasattr(torch, CARD):
        _setup_privateuseone_for_python_backend(CARD)
    checks = mock.patch("mofa_nb.sampling.denoise.finite", lambda values, dtype: values)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), checks:  # has no values
        yield full_size(kinds, card_dtypes(wide=wide), CARD, moved, Scheduler)


def moved(net: nn.Module, device: str) -> nn.Module:
    """The network with tensors of the same shapes and formats on a device."""
    for module in net.modules():
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is not None:
                    there = torch.empty(value.shape, dtype=value.dtype, device=device)
                    own[name] = nn.Parameter(there, False) if own is module._parameters else there
    return net


@contextmanager
def layers_brought(models: Models, way: str, memory: TensorMemory) -> Iterator[None]:
    """Count the layers that come to the card for their own call; beside a UNet's, the next one."""
    hooks = []
    for part, net in models.parts.items():
        copies = 1 if part in STAGE_PARTS else 2
        for layer in net.modules() if is_brought(part, way) else ():
            own = sum(p.nbytes for p in layer.parameters(recurse=False)) * copies
            if own:
                hooks.append(layer.register_forward_pre_hook(lambda *_, n=own: memory.add(n)))
                hooks.append(layer.register_forward_hook(lambda *_, n=own: memory.add(-n)))
    yield
    for hook in hooks:
        hook.remove()


def cost(
    models: Models,
    frames: int,
    size: tuple[int, int],
    way: str,
    speed: Speed = EXACT,
    steps: int = 1,
    decoded: int | None = None,
    counted: bool = False,
) -> Cost:
    """What a clip takes.

    Args:
        steps: run; each takes the same memory, or every second one does.
        decoded: frames decoded at once; as in DECODED by default.
        counted: operations, too.
    """
    peaks, flops, still, held = {}, {}, weights_on_card(models, way), [0]

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        with ExitStack() as stack:
            card = stack.enter_context(AsOnCard())
            counter = FlopCounterMode(display=False)
            if counted:
                stack.enter_context(counter)
            memory = stack.enter_context(TensorMemory(CARD))
            memory.add(held[0])
            stack.enter_context(layers_brought(models, way, memory))
            yield
        held[0] = memory.now
        peaks[name] = max(peaks.get(name, 0), memory.peak + still)
        flops.setdefault(name, []).append(counter.get_total_flops() + card.flops)

    new = lambda *shape: torch.empty(*shape, device=CARD)  # noqa: E731
    grid, count = models.s2d.config.grid, frames - 1
    with stage("S2D"):
        hints = new(8, 3, grid, grid)  # as many flows as are made at once on a card
        features = models.s2d.image_features(new(1, 3, grid, grid))
        flow = models.s2d(features, hints[:, :2], hints[:, 2:])
        flow = functional.interpolate(flow, size=size, mode="bilinear").cpu()
        flow = flow[:1].expand(count, -1, -1, -1)
        del hints, features
    with stage("image"):
        start = encode_start(models, new(1, 3, *size), new(1, 3, *size))
    with stage("conditioning"):
        controls = [steered(models, kind, start.image, flow[None]) for kind in models.adapters]
    memory = Memory(models, way, decoded or DECODED[way])
    chunk_wide_layers(models, way, frames)
    channels = models.vae.config.latent_channels
    noise = new(1, frames, channels, *(side // models.cell for side in size))
    how = {"steps": 25, "guidance": (1.0, 3.0), "speed": speed, "memory": memory}
    walk = denoise_steps(models, start, controls, noise, **how)
    for _ in range(steps):
        with stage("denoising"):
            latents = next(walk).latents
    walk.close()
    del controls, walk, noise
    with stage("decoding"):
        for part in decode(models, latents, memory=memory):
            del part
    return Cost(peaks, flops)


def steered(models: Models, kind: str, image: Tensor, flow: Tensor) -> Control:
    """A control of made-up motion."""
    adapter = models.adapter(kind)
    image = image.to(next(adapter.parameters()).dtype)
    marks = None
    if kind == "landmark":
        marks = torch.empty(1, flow.shape[1] + 1, *image.shape[1:], dtype=image.dtype)
    return Control(adapter, adapter.conditioning(image, flow, marks))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="*", default=[*CLIPS], help="names of the table's rows")
    parser.add_argument("--ways", nargs="*", default=[*WAYS], help="of the memory ways")
    parser.add_argument("--no-flops", action="store_true", help="leave operations out")
    parser.add_argument("--no-bfloat16", action="store_true", help="a T4's number formats")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def memory_rows(
    clips: Sequence[str], ways: Sequence[str], wide: bool
) -> Iterator[tuple[str, str, Cost]]:
    """Every clip in every way that is asked for."""
    for name in clips:
        frames, size, kinds = CLIPS[name]
        with pretended(KINDS[kinds], wide) as models:
            for way in ways:
                yield name, way, cost(models, frames, size, way)


def speed_rows(clip: str) -> Iterator[tuple[str, float]]:
    """Operations of a clip in every speed, in 10^12."""
    frames, size, kinds = CLIPS[clip]
    with pretended(KINDS[kinds]) as models:
        two = cost(models, frames, size, "full", Speed(2, 2), steps=2, counted=True)
        for name, speed in SPEEDS.items():
            yield name, two.total(speed, models.settings.steps) / 1e12


def main(argv: list[str] | None = None) -> dict:
    """Compute and print; returns all figures."""
    given, found = arguments(argv), {}
    rows = []
    for name, way, one in memory_rows(given.clips, given.ways, not given.no_bfloat16):
        bound = BOUNDS.get((name, way))
        kept = "" if bound is None else "yes" if one.peak < bound * GIB else "NO"
        stages = [f"{peak / GIB:.2f}" for peak in one.peaks.values()]
        rows.append([name, way, f"{one.peak / GIB:.2f}", f"{bound or ''}", kept, *stages])
        found[f"{name}, {way}"] = {"GiB": {k: v / GIB for k, v in one.peaks.items()}}
        print(rows[-1], flush=True)
    header = ["clip", "way", "peak GiB", "bound", "kept", *one.peaks]
    print(table("Memory on the card, computed; weights included", header, rows), flush=True)
    found["TFLOP"] = {} if given.no_flops else dict(speed_rows(given.clips[0]))
    exact = found["TFLOP"].get("exact")
    rows = [[name, f"{one:.0f}", f"{exact / one:.2f}"] for name, one in found["TFLOP"].items()]
    if rows:
        print(table(f"Operations of {given.clips[0]}", ["speed", "TFLOP", "exact / it"], rows))
    if given.json:
        write_json(given.json, found)
    return found


if __name__ == "__main__":
    main()
