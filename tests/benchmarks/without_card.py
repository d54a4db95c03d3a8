"""What a clip takes on a card, found without one: `python -m tests.benchmarks.without_card`.

The release at full size runs on a pretended device: PyTorch's FakeTensorMode computes shapes,
number formats and devices, and no values. A tensor on the wrong device, a mixed number format or
a value that the loop waits for is an error. What is alive is counted storage by storage; attention
counts as the one fused kernel that it is on a card. No card, no weights, some seconds a row.
The figures are computed, not measured: a card's allocator and its kernels' own memory come on top
(a few hundred MiB), and seconds are the least that a card's pace allows. Exit code 1 where a bound
is not kept; `--readme FILE` prints the README's tables from what `--json FILE` wrote.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
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

from mofa_nb.config import EXACT, SPEEDS, WAYS, Speed
from mofa_nb.models.load import load_models
from mofa_nb.models.memory import (
    STAGE_PARTS,
    Memory,
    chunk_wide_layers,
    is_brought,
    weights_on_card,
)
from mofa_nb.models.models import Models
from tests.benchmarks.card_clip import CLIPS, DECODED, GIB, TIMED, Loop, run_clip
from tests.benchmarks.full_size import KINDS, card_dtypes, full_size
from tests.benchmarks.report import table, write_json
from tests.benchmarks.tensor_memory import TensorMemory
from tests.benchmarks.work import Pace, Work, stored

CARD = "card"
MINI = {"mini, 14 frames 192x256": (14, (192, 256), "tracks")}
BOUNDS = {  # GiB, by clip and way, of every speed
    ("25 frames 320x576", "balanced"): 5.5,
    ("25 frames 576x1024", "balanced"): 8.5,
    ("25 frames 320x576, both", "balanced"): 7.0,
    ("25 frames 576x1024, both", "balanced"): 10.0,
    ("14 frames 320x576", "low"): 4.0,
}
LOOPS = {"original": Loop(original=True)} | {name: Loop(speed) for name, speed in SPEEDS.items()}
NAMES = ("S2D", "image", "conditioning", "denoising", "decoding")  # of stages
Measure = Callable[[Work], float]
T = 1e12
CARDS = {  # by their makers; convolutions in 32 bits are TF32 where there is that
    "T4": Pace(65 * T, 8.1 * T, 0.32 * T, bfloat16=False),
    "L4": Pace(121 * T, 60 * T, 0.3 * T),
    "RTX 4090": Pace(165 * T, 83 * T, 1.01 * T),
    "A100": Pace(312 * T, 156 * T, 1.56 * T),
    "H200": Pace(989 * T, 494 * T, 4.8 * T),
}
STEPS = {"original": 1, "exact": 1, "fast": 3, "draft": 3}  # that hold all that a loop ever does


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

    def __init__(self, work: Work | None = None):
        """Counts attention in some work."""
        super().__init__()
        self.work = work

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
        batch, heads, length, _ = query.shape
        result = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        if self.work:
            size = sum(map(stored, (query, key, value, result)))
            self.work.add(4 * query.numel() * key.shape[-2], query.itemsize > 2, size)
        return result


@dataclass(frozen=True)
class Cost:
    """Of one clip.

    Attributes:
        peaks: bytes on the card by stage, weights included.
        work: by stage; of denoising, of one step after the other.
    """

    peaks: dict[str, int]
    work: dict[str, list[Work]]

    @property
    def peak(self) -> int:
        """At the worst moment."""
        return max(self.peaks.values())

    def loop(self, speed: Speed, steps: int, of: Measure) -> float:
        """Conditioning and so many steps, if the second of two was a shallow one."""
        whole, shallow = map(of, self.work["denoising"])
        taken = speed.steps_of(steps)
        each = [(whole if k % speed.every == 0 else shallow) for k in range(taken)]
        halves = [1 if speed.guides(k / taken) else 0.5 for k in range(taken)]
        begun = sum(map(of, self.work["conditioning"]))
        return begun + sum(count * share for count, share in zip(each, halves, strict=True))

    def clip(self, speed: Speed, steps: int, of: Measure) -> float:
        """The loop, and what is before and after it."""
        around = [work for name in ("S2D", "image", "decoding") for work in self.work[name]]
        return self.loop(speed, steps, of) + sum(map(of, around))


@contextmanager
def pretended(
    kinds: Sequence[str], wide: bool = True, model: str | None = None
) -> Iterator[Models]:
    """The release, or a model with weights, on a card that is not there."""
    if not hasattr(torch, CARD):
        _setup_privateuseone_for_python_backend(CARD)
    dtypes = card_dtypes(wide=wide)
    loaded = model and load_models(model, "cpu", dtypes)
    checks = mock.patch("mofa_nb.sampling.denoise.finite", lambda values, dtype: values)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), checks:  # has no values
        if not loaded:
            models = full_size(kinds, dtypes, CARD, moved, Scheduler)
            if not wide:  # see `decode_in_half`
                moved(models.vae.decoder, CARD, torch.float16)
            yield models
            return
        adapters = {kind: loaded.adapter(kind) for kind in kinds}
        scheduler = Scheduler.from_config(loaded.scheduler.config)
        there = replace(loaded, adapters=adapters, scheduler=scheduler)
        for net in there.parts.values():
            moved(net, CARD)
        yield there


def moved(net: nn.Module, device: str, dtype: torch.dtype | None = None) -> nn.Module:
    """The network with tensors of the same shapes, and formats if not told, on a device."""
    for module in net.modules():
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is not None:
                    there = torch.empty(value.shape, dtype=dtype or value.dtype, device=device)
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
    loop: Loop = LOOPS["exact"],
    steps: int = 1,
    counted: bool = False,
) -> Cost:
    """What a clip takes, whose picture and frames count, too; `counted`: its work as well."""
    peaks, works, still = {}, {}, weights_on_card(models, way)
    alive = TensorMemory(CARD)  # one for all stages, or it would miss what is freed between two

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        with ExitStack() as stack:
            work = Work()
            stack.enter_context(AsOnCard(work))
            if counted:
                stack.enter_context(work)
            alive.peak = alive.now
            stack.enter_context(alive)
            stack.enter_context(layers_brought(models, way, alive))
            yield
        peaks[name] = max(peaks.get(name, 0), alive.peak + still)
        works.setdefault(name, []).append(work)

    chunk_wide_layers(models, way, frames)
    new, memory = partial(torch.empty, device=CARD), Memory(models, way, DECODED[way])
    run_clip(models, frames, size, stage, new, steps=steps, loop=loop, memory=memory)
    return Cost(peaks, works)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rows = [*CLIPS, *MINI]
    parser.add_argument("--clips", nargs="*", default=rows, help="names of the table's rows")
    parser.add_argument("--ways", nargs="*", default=[*WAYS], help="of the memory ways")
    parser.add_argument("--loops", nargs="*", default=[*LOOPS], help="speeds, and the original's")
    parser.add_argument("--model", help="a model folder in the release's place: a dry run")
    parser.add_argument("--no-flops", action="store_true", help="leave operations and bytes out")
    parser.add_argument("--no-bfloat16", action="store_true", help="a T4's number formats")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="only print that file's table")
    return parser.parse_args(argv)


def memory_rows(given: argparse.Namespace) -> Iterator[tuple[str, str, str, Cost]]:
    """Every clip in every way and loop that is asked for; the original's knows one way."""
    for clip in given.clips:
        frames, size, kinds = (CLIPS | MINI)[clip]
        model = "mini" if clip in MINI else given.model
        with pretended(KINDS[kinds], not given.no_bfloat16, model) as models:
            for name in given.loops:
                for way in given.ways if name != "original" else ("full",):
                    how = {"loop": LOOPS[name], "steps": STEPS[name]}
                    yield clip, name, way, cost(models, frames, size, way, **how)


def work_of(clip: str, model: str | None) -> dict[str, dict]:
    """Of a clip in every loop: operations and bytes; by card, how many times as fast as the
    original's its loop could be, and the whole clip's seconds, at least."""
    frames, size, kinds = CLIPS[clip]
    costs = {}
    for bfloat16 in (True, False):
        with pretended(KINDS[kinds], bfloat16, model) as models:
            steps, counted = models.settings.steps, {"steps": 2, "counted": True}
            for loop in (LOOPS["original"], Loop(Speed(every=2))):
                one = cost(models, frames, size, "full", loop, **counted)
                costs[loop.original, bfloat16] = one
    found = {}
    for name, loop in LOOPS.items():
        speed, one, row = loop.speed, costs[loop.original, True], {}
        row["TFLOP"] = one.clip(speed, steps, lambda work: work.flops) / 1e12
        row["GB"] = one.clip(speed, steps, lambda work: work.bytes) / 1e9
        for card, pace in CARDS.items():
            old, one = (costs[original, pace.bfloat16] for original in (True, loop.original))
            of = partial(Work.seconds, card=pace)
            ratio = old.loop(EXACT, steps, of) / one.loop(speed, steps, of)
            row |= {f"{card}, times": ratio, f"{card}, s": one.clip(speed, steps, of)}
        found[name] = row
    return found


def readme(found: Mapping[str, Mapping[str, dict]]) -> str:
    """The README's tables: peaks by clip and memory way, and what bounds the speeds."""
    speeds = [name for name in LOOPS if name != "original"]
    peaks = [["clip, GiB", "original", *(f"`{way}`" for way in WAYS)]]
    for clip, loops in found["GiB"].items():
        most = {name: {way: max(one.values()) for way, one in ways.items()}
                for name, ways in loops.items()}  # fmt: skip
        each = [[most.get(name, {}).get(way) for name in speeds] for way in WAYS]
        peaks.append([clip, *_cells([[most.get("original", {}).get("full")], *each])])
    tables = [peaks]
    if found["work"]:
        tables.append([["speed", "loop, times as fast", *(f"{card}, s" for card in CARDS)]])
        for name, one in found["work"].items():
            times = [one[f"{card}, times"] for card in CARDS]
            seconds = [[one[f"{card}, s"]] for card in CARDS]
            tables[-1].append([name, f"{min(times):.2f} to {max(times):.2f}", *_cells(seconds)])
    return "\n\n".join(map(_markdown, tables))


def _cells(values: Sequence[Sequence[float | None]]) -> list[str]:
    """Figures side by side in each cell of a row."""
    return [" / ".join("-" if v is None else f"{v:.1f}" for v in each) for each in values]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str] | None = None) -> dict:
    """Compute and print; returns all figures, `missed` the bounds that are not kept."""
    given, found, rows = arguments(argv), {"GiB": {}, "work": {}, "missed": []}, []
    if given.readme:
        found = json.loads(given.readme.read_text(encoding="utf-8"))
        print(readme(found))
        return found
    for clip, name, way, one in memory_rows(given):
        bound = None if name == "original" else BOUNDS.get((clip, way))
        kept = bound is None or one.peak < bound * GIB
        found["missed"] += [] if kept else [f"{clip}, {name}, {way}"]
        stages = [f"{peak / GIB:.2f}" for peak in one.peaks.values()]
        told = "" if bound is None else "yes" if kept else "NO"
        rows.append([clip, name, way, f"{one.peak / GIB:.2f}", f"{bound or ''}", told, *stages])
        peaks = {stage: peak / GIB for stage, peak in one.peaks.items()}
        found["GiB"].setdefault(clip, {}).setdefault(name, {})[way] = peaks
        print(rows[-1], flush=True)
    header = ["clip", "speed", "way", "peak GiB", "bound", "kept", *NAMES]
    print(table("Memory on the card, computed; weights included", header, rows), flush=True)
    if not given.no_flops:
        found["work"] = work_of(TIMED, given.model)
        rows = [[name, *(f"{v:.2f}" for v in one.values())] for name, one in found["work"].items()]
        header = ["speed", *found["work"]["exact"]]
        title = f"{TIMED}: work; loops, times as fast as the original's; seconds at least"
        print(table(title, header, rows), flush=True)
    if given.json:
        write_json(given.json, found)
    return found


if __name__ == "__main__":
    sys.exit(1 if main()["missed"] else 0)
