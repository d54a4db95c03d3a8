"""What exact savings save: `python -m tests.benchmarks.conditioning`.

Each saving and what it replaces run side by side: one thread, processor time, arms in the order
A B B A, medians over the pairs; so a busy machine disturbs both arms alike. Before it is timed a
pair must give the same numbers. Networks have the mini model's sizes unless said otherwise, and
random weights, in float32. About five minutes.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.unet import VideoUNet, use_one_token_attention
from mofa_nb.config import AdapterConfig, S2DConfig, Settings
from mofa_nb.flow.s2d import S2D, ImageFeatures
from mofa_nb.flow.splat import EPSILON, splat_plan
from mofa_nb.models import weights
from mofa_nb.models.models import Models
from mofa_nb.paths import weights_folder
from mofa_nb.sampling.denoise import Control, Start, Step, denoise_steps
from tests.benchmarks.report import cell, table

Work = Callable[[], object]
MINI_SIDE, RELEASED_SIDE = 128, 192  # pixels; half the release's, to be done in time
SPLAT_SIZE = (24, 320, 40, 72)  # frames, channels, h, w: the release at 320 x 576


@dataclass(frozen=True)
class Timing:
    """Seconds of processor time of both arms, pair by pair."""

    ours: list[float]
    theirs: list[float]

    def ratios(self) -> list[float]:
        """Ours over theirs, pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def side_by_side(ours: Work, theirs: Work, pairs: int) -> Timing:
    """Run both arms in turn, A B B A, after one warm-up each."""
    ours(), theirs()
    seconds: dict[Work, list[float]] = {ours: [], theirs: []}
    for pair in range(pairs):
        for work in (ours, theirs) if pair % 2 == 0 else (theirs, ours):
            begin = time.process_time()
            work()
            seconds[work].append(time.process_time() - begin)
    return Timing(seconds[ours], seconds[theirs])


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Both arms must compute the same numbers, but for rounding."""
    for a, b in zip(one, other, strict=True):
        error = float((a - b).abs().max() / b.abs().max().clamp(min=1e-9))
        if error > 1e-4:
            raise SystemExit(f"the two arms differ by {error:.1e} of the largest value")


class Networks:
    """The mini model's networks with random weights, and one clip's inputs."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        self.folder = folder
        self.frames = Settings.load(folder / "settings.json").num_frames
        config = weights.read_config
        self.unet: VideoUNet = weights.build("unet", config(folder / "unet")).eval()
        self.s2d: S2D = weights.build("s2d", config(folder / "s2d")).eval()
        self.adapters = {
            kind: awake(weights.build(part, config(folder / part)).eval())
            for kind, part in (("trajectory", "trajectory_adapter"), ("landmark", "landmark_adapter"))
        }
        shape: AdapterConfig = self.adapters["trajectory"].config
        side, cells = MINI_SIDE, MINI_SIDE // shape.downscale
        self.image = torch.rand(1, 3, side, side) * 2 - 1
        self.flow = 5 * torch.randn(1, self.frames - 1, 2, side, side)
        self.landmarks = torch.rand(1, self.frames, 3, side, side)
        self.inputs = (
            torch.randn(2, self.frames, shape.in_channels, cells, cells),
            torch.tensor(0.5),
            torch.randn(2, 1, shape.cross_attention_dim),
            torch.tensor([[6.0, 128.0, 0.02]] * 2),
        )

    def conditioning(self, kind: str, halves: int) -> Conditioning:
        """What an adapter knows of the clip, once or for both guidance halves."""
        marks = self.landmarks if kind == "landmark" else None
        given = [self.image, self.flow, marks]
        given = [None if x is None else torch.cat([x] * halves) for x in given]
        return self.adapters[kind].conditioning(*given)

    def walk(self, control: Control, steps: int) -> Iterator[Step]:
        """The sampling loop of a guided clip."""
        (sample, _, token, _), half = self.inputs, self.inputs[0].shape[2] // 2
        start = Start(self.image, token[:1], sample[:1, 0, half:])
        models = Models(
            Settings(), self.unet, torch.nn.Identity(), torch.nn.Identity(),
            EulerDiscreteScheduler.from_pretrained(self.folder / "scheduler"), self.s2d,
        )  # fmt: skip
        noise = sample[:1, :, :half]
        return denoise_steps(models, start, [control], noise, steps=steps, guidance=(1.0, 3.0))

    def step(self, known: Conditioning) -> list[Tensor]:
        """One denoising step of both guidance halves: adapter and UNet."""
        residuals = self.adapters["trajectory"](*self.inputs, known)
        return [self.unet(*self.inputs, residuals)]


def awake(adapter: Adapter) -> Adapter:
    """Zero-initialised convolutions get values, so that equality means something."""
    for parameter in adapter.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return adapter


# The arms. Each returns (what is compared, ours, theirs).


def conditioning_alone(nets: Networks, kind: str, steps: int) -> tuple[str, Work, Work]:
    """A clip's conditioning: once, or in every step for both guidance halves."""
    once, twice = nets.conditioning(kind, 1), nets.conditioning(kind, 2)
    same(once.warped, [level[1:] for level in twice.warped])
    return (
        f"{kind} conditioning of a clip of {steps} steps: once / per step and half",
        lambda: nets.conditioning(kind, 1),
        lambda: [nets.conditioning(kind, 2) for _ in range(steps)],
    )


def whole_step(nets: Networks) -> tuple[str, Work, Work]:
    """A denoising step with conditioning at hand, or made anew for both halves."""
    known = nets.conditioning("trajectory", 1)
    same(nets.step(known), nets.step(nets.conditioning("trajectory", 2)))
    return (
        "one guided step of UNet and adapter: conditioning kept / made anew",
        lambda: nets.step(known),
        lambda: nets.step(nets.conditioning("trajectory", 2)),
    )


def splat_arms() -> list[tuple[str, Work, Work]]:
    """A plan for all frames, built and applied or only applied, against a loop over frames."""
    frames, channels, height, width = SPLAT_SIZE
    features = torch.randn(1, channels, height, width)
    flow = 3 * torch.randn(1, frames, 2, height, width)
    plan = splat_plan(flow)
    same([plan.apply(features)[0]], [splat_by_frames(features[0], flow[0])])
    size = f"{frames} x {channels} x {height} x {width}"
    loop = lambda: splat_by_frames(features[0], flow[0])  # noqa: E731
    return [
        (f"splat {size}: plan built and applied / loop over frames",
         lambda: splat_plan(flow).apply(features), loop),
        (f"splat {size}: kept plan applied / loop over frames", lambda: plan.apply(features), loop),
    ]  # fmt: skip


def splat_by_frames(features: Tensor, flow: Tensor) -> Tensor:
    """The plain way: per frame, add each corner of all pixels, and count with a channel of ones."""
    channels, height, width = features.shape
    sources = torch.cat([features, features.new_ones(1, height, width)]).flatten(1)
    x = torch.arange(width) + flow[:, 0]
    y = torch.arange(height)[:, None] + flow[:, 1]
    frames = []
    for column, row in zip(x, y, strict=True):
        total = features.new_zeros(channels + 1, height * width)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            left, top = column.floor() + dx, row.floor() + dy
            weight = (1 - (column - left).abs()) * (1 - (row - top).abs())
            inside = (left >= 0) & (left < width) & (top >= 0) & (top < height)
            index = (top * width + left).long()[inside]
            total.index_add_(1, index, sources[:, inside.flatten()] * weight[inside])
        frames.append((total[:-1] / (total[-1:] + EPSILON)).view(channels, height, width))
    return torch.stack(frames)


def s2d_arm(net: S2D, steps: int, side: int, name: str) -> tuple[str, Work, Work]:
    """Dense flow of a clip: image features once, or for each of its equal images."""
    image = torch.rand(1, 3, side, side)
    mask = (torch.rand(steps, 1, side, side) > 0.999).float()
    flow = mask * torch.randn(steps, 2, side, side)
    repeated = image.expand(steps, -1, -1, -1).contiguous()

    def ours() -> Tensor:
        return net(net.image_features(image), flow, mask)

    def theirs() -> Tensor:
        return net(net.image_features(repeated), flow, mask)

    same([ours()], [theirs()])
    return f"{name}, {steps} flows of {side} px: image features once / per flow", ours, theirs


def edit_arm(nets: Networks) -> tuple[str, Work, Work]:
    """One more track on a picture that is already known: features kept, or made again."""
    steps, side = nets.frames - 1, nets.s2d.config.grid
    image, zeros = torch.rand(1, 3, side, side), torch.zeros(steps, 3, side, side)
    kept: ImageFeatures = nets.s2d.image_features(image)
    return (
        f"S2D, {steps} flows after an edit: features kept / once more",
        lambda: nets.s2d(kept, zeros[:, :2], zeros[:, 2:]),
        lambda: nets.s2d(nets.s2d.image_features(image), zeros[:, :2], zeros[:, 2:]),
    )


def attention_arm(nets: Networks) -> tuple[str, Work, Work]:
    """The UNet with cross-attention to one token as a sum, or with queries, keys and softmax."""
    stock = VideoUNet.from_config(nets.unet.config).eval()
    stock.load_state_dict(nets.unet.state_dict())
    stock.set_attn_processor(AttnProcessor2_0())
    use_one_token_attention(nets.unet)
    same([nets.unet(*nets.inputs)], [stock(*nets.inputs)])
    return (
        "UNet step: one-token attention / stock attention",
        lambda: nets.unet(*nets.inputs),
        lambda: stock(*nets.inputs),
    )


# Operations, counted: free of noise.


def flops(work: Work) -> int:
    """Multiplications and additions of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def counted(nets: Networks, steps: int) -> dict[str, int]:
    """FLOPs of a guided clip's parts; conditioning is what the loop does beside its networks."""
    adapter, unet = nets.adapters["trajectory"], nets.unet
    known = nets.conditioning("trajectory", 1)
    per_step = flops(lambda: adapter(*nets.inputs, known)) + flops(lambda: unet(*nets.inputs))
    once, again = (flops(lambda n=n: nets.conditioning("trajectory", n)) for n in (1, 2))
    walk = nets.walk(Control(adapter, known), steps)
    beside = [flops(lambda: next(walk)) - per_step for _ in range(steps)]
    return {
        "conditioning, before the first step": once,
        "conditioning, first step": beside[0],
        "conditioning, after the first step": sum(beside[1:]),
        "conditioning, if made per step and half": steps * again,
        "adapter's encoder copy, all steps": steps * flops(lambda: adapter(*nets.inputs, known)),
        "UNet, all steps": steps * flops(lambda: unet(*nets.inputs)),
    }


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    nets = Networks(weights_folder("mini"))
    operations = counted(nets, chosen.steps)
    rows = [[name, f"{number / 1e9:.3f}"] for name, number in operations.items()]
    print(table("Operations of a guided clip, GFLOP", ["part", "GFLOP"], rows), flush=True)
    arms = [
        *(conditioning_alone(nets, kind, chosen.steps) for kind in nets.adapters),
        whole_step(nets), *splat_arms(),
        s2d_arm(nets.s2d, nets.frames - 1, nets.s2d.config.grid, "S2D"),
        s2d_arm(S2D(S2DConfig()).eval(), 6, RELEASED_SIDE, "S2D of the release"),
        edit_arm(nets), attention_arm(nets),
    ]  # fmt: skip
    rows = []
    for name, ours, theirs in arms:
        timing = side_by_side(ours, theirs, chosen.pairs)
        millis = [[1e3 * second for second in arm] for arm in (timing.ours, timing.theirs)]
        rows.append([name, cell(timing.ratios(), 3), *(cell(arm, 1) for arm in millis)])
    header = ["saving: ours / theirs", "ratio", "ours ms", "theirs ms"]
    print(table("Processor time, one thread: median [quartiles]", header, rows))


if __name__ == "__main__":
    main()
