"""Time and memory of the release on a card: `python -m tests.benchmarks.gpu`.

Networks of full size with random weights, so nothing is downloaded. In one run: the original's loop
(conditioning made anew in every step for both guidance halves, stock cross-attention) beside ours
in every speed and compiled, arms in the order A B B A; then what every memory way takes, on short
and large clips, with tracks and with both. What is measured is written as it comes; nothing new
begins after `--minutes`. `--t4`: a T4's number formats. Compare ratios within one run only.
"""

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.unet import Residuals, use_one_token_attention
from mofa_nb.config import EXACT, SPEEDS, WAYS
from mofa_nb.models.load import load_models
from mofa_nb.models.memory import Memory, arrange
from mofa_nb.models.models import Models
from mofa_nb.sampling.denoise import Control, decode, denoise_steps, encode_start
from mofa_nb.sampling.speed import compile_blocks
from tests.benchmarks.full_size import KINDS, card_dtypes, full_size
from tests.benchmarks.report import table, write_json
from tests.benchmarks.without_card import CLIPS, DECODED, GIB

GUIDED = (1.0, 3.0)
TIMED = "25 frames 320x576"
PRODUCT = 8192  # side of the matrices whose product says what the card can do


class Clip:
    """A model's inputs for one clip of made-up motion."""

    def __init__(self, models: Models, frames: int, size: tuple[int, int]):
        device = models.device
        draw = torch.Generator(device).manual_seed(0)
        new = lambda *shape: torch.randn(*shape, device=device, generator=draw)  # noqa: E731
        channels = models.vae.config.latent_channels
        self.models, self.image = models, new(1, 3, *size).sigmoid()
        self.flow = 5 * new(1, frames - 1, 2, *size)
        self.marks = self.image[:, None].expand(-1, frames, -1, -1, -1)
        self.noise = new(1, frames, channels, *(side // models.cell for side in size))
        self.start = encode_start(models, self.image)

    def known(self, adapter: Adapter, halves: int = 1) -> Conditioning:
        """What an adapter knows, once or for both guidance halves."""
        given = [self.start.image, self.flow]
        given += [self.marks] if adapter.config.landmark_channels else []
        image, *rest = (torch.cat([value] * halves) for value in given)
        return adapter.conditioning(image.to(next(adapter.parameters()).dtype), *rest)

    def denoised(self, steps: int, speed=EXACT, memory: Memory | None = None) -> Tensor:
        """Our loop."""
        how = {"steps": steps, "guidance": GUIDED, "speed": speed, "memory": memory}
        adapters = self.models.adapters.values()
        controls = [Control(adapter, self.known(adapter)) for adapter in adapters]
        *_, last = denoise_steps(self.models, self.start, controls, self.noise, **how)
        return last.latents

    def as_originally(self, steps: int) -> Tensor:
        """The original's loop: everything in every step, for both halves."""
        controls = [Control(_Anew(self, a), None) for a in self.models.adapters.values()]
        how = {"steps": steps, "guidance": GUIDED}
        *_, last = denoise_steps(self.models, self.start, controls, self.noise, **how)
        return last.latents


class _Anew:
    """An adapter that makes its conditioning whenever it is called."""

    def __init__(self, clip: Clip, adapter: Adapter):
        self.clip, self.adapter = clip, adapter

    def __call__(self, *args) -> Residuals:
        """As the adapter; the conditioning that is given is none."""
        *inputs, _, scale = args
        return self.adapter(*inputs, self.clip.known(self.adapter, halves=2), scale)


class stock_attention:
    """Cross-attention with queries, keys and softmax inside the block."""

    def __init__(self, models: Models):
        self.nets = (models.unet, *models.adapters.values())

    def __enter__(self):
        for net in self.nets:
            for name, module in net.named_modules():
                if name.endswith("attn2"):
                    module.set_processor(AttnProcessor2_0())

    def __exit__(self, *_):
        for net in self.nets:
            use_one_token_attention(net)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of work that is waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def timed(clip: Clip, steps: int, rounds: int, in_time: Callable[[], bool]) -> dict:
    """Seconds of a clip's denoising in every arm, and how many times faster than the original's."""
    models, device = clip.models, clip.models.device

    def original() -> None:
        with stock_attention(models):
            clip.as_originally(steps)

    arms: dict[str, Callable[[], object]] = {"original": original}
    for name, speed in SPEEDS.items():
        arms[name] = lambda s=speed: clip.denoised(s.steps_of(steps), s)
    for work in arms.values():  # warm up
        work()
    took: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds):
        order = [*arms.items()]
        for name, work in order if turn % 2 == 0 else order[::-1]:
            if in_time():
                took[name].append(seconds(work, device))
    if in_time() and device.type == "cuda":
        compile_blocks(models)
        begin = time.perf_counter()
        clip.denoised(2)
        took["compile, first"] = [time.perf_counter() - begin]
        took["compile"] = [
            seconds(lambda: clip.denoised(steps), device) for _ in range(rounds) if in_time()
        ]
    least = {name: min(values) for name, values in took.items() if values}
    return {n: {"seconds": s, "times as fast": least["original"] / s} for n, s in least.items()}


def roofline(clip: Clip, one: float, steps: int) -> dict:
    """Operations per second of our loop, as a share of what a large matrix product reaches."""
    with FlopCounterMode(display=False) as counter:
        clip.denoised(1)
    rate = counter.get_total_flops() * steps / one
    side = PRODUCT if clip.models.device.type == "cuda" else 512
    like = {"device": clip.models.device, "dtype": clip.models.unet.dtype}
    matrix = torch.randn(side, side, **like)
    work = lambda: [matrix @ matrix for _ in range(10)]  # noqa: E731
    work()
    best = 20 * side**3 / seconds(work, clip.models.device)
    return {"TFLOP/s": rate / 1e12, "product": best / 1e12, "share": rate / best}


def taken(clip: Clip, way: str) -> dict:
    """Peak GiB of a clip in one way, two steps and all frames decoded; seconds a step."""
    models, device = clip.models, clip.models.device
    arrange(models, way, clip.noise.shape[1])
    gc.collect()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    memory = Memory(models, way, DECODED[way])
    clip.denoised(2, memory=memory)
    one = seconds(lambda: clip.denoised(2, memory=memory), device) / 2
    for part in decode(models, clip.noise, memory=memory):
        del part
    peak = torch.cuda.max_memory_allocated(device) / GIB if cuda else float("nan")
    arrange(models, "full")
    return {"GiB": peak, "seconds a step": one, "way": memory.way}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3, help="of the arms")
    parser.add_argument("--t4", action="store_true", help="float16 and float32 only, as on a T4")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", help="a model folder or mini instead: a dry run")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="FILE")
    return parser.parse_args(argv)


@torch.no_grad()
def main(argv: list[str] | None = None) -> dict:
    """Measure, write and print; returns all figures."""
    given, begin = arguments(argv), time.monotonic()
    in_time = lambda: time.monotonic() - begin < 60 * given.minutes  # noqa: E731
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card"
    found: dict = {"card": name, "torch": torch.__version__, "model": given.model or "full size"}
    clips = CLIPS if given.model is None else {TIMED: (4, (64, 64), "tracks")}

    def made(kinds: str) -> Models:
        if given.model is None:
            return full_size(KINDS[kinds], card_dtypes(wide=not given.t4), given.device)
        models = load_models(given.model, given.device)
        adapters = {kind: models.adapter(kind) for kind in KINDS[kinds]}
        return replace(models, adapters=adapters)

    def keep(key: str, value: dict) -> None:
        found[key] = value
        write_json(given.json, found)
        print(f"{time.monotonic() - begin:5.0f} s  {key}: {value}", flush=True)

    with mock.patch("mofa_nb.sampling.denoise.finite", lambda values, dtype: values):
        models = made("tracks")
        frames, size, _ = clips[TIMED]
        clip = Clip(models, frames, size)
        keep("arms", timed(clip, given.steps, given.rounds, in_time))
        keep("roofline", roofline(clip, found["arms"]["exact"]["seconds"], given.steps))
        del models, clip
        for what, (frames, size, kinds) in clips.items():
            for way in WAYS if in_time() else ():
                gc.collect()
                try:
                    keep(f"{what}, {way}", taken(Clip(made(kinds), frames, size), way))
                except torch.OutOfMemoryError as error:
                    keep(f"{what}, {way}", {"refused": str(error).split(". ")[0]})
    arms = found["arms"].items()
    rows = [[n, f"{r['seconds']:.2f}", f"{r['times as fast']:.2f}"] for n, r in arms]
    title = f"Denoising {TIMED}, {given.steps} steps, {name}, {found['model']}"
    print(table(title, ["arm", "seconds", "times as fast"], rows))
    return found


if __name__ == "__main__":
    main()
