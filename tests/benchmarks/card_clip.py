"""A clip of made-up motion, stage by stage, for what times it on a card or counts it without one;
and the original's loop for it: conditioning made anew in every step for both guidance halves, and
the library's blocks, with queries, keys and a softmax over one token in their cross-attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.blocks import STREAMLINED, STREAMLINED_CONV, Unread, streamline
from mofa_nb.adapter.unet import Residuals
from mofa_nb.config import EXACT, Speed
from mofa_nb.models.memory import Memory
from mofa_nb.models.models import Models
from mofa_nb.sampling.denoise import Control, decode, denoise_steps, encode_start, to_pixels

GIB = 2**30
GUIDED, UNGUIDED = (1.0, 3.0), (1.0, 1.0)
TIMED = "25 frames 320x576"
CLIPS = {  # name: frames, (height, width), kinds
    TIMED: (25, (320, 576), "tracks"),
    "25 frames 576x1024": (25, (576, 1024), "tracks"),
    "14 frames 320x576": (14, (320, 576), "tracks"),
    "14 frames 576x1024": (14, (576, 1024), "tracks"),
    "25 frames 320x576, both": (25, (320, 576), "both"),
    "25 frames 576x1024, both": (25, (576, 1024), "both"),
}
DECODED = {"full": 8, "balanced": 2, "low": 2}  # frames at once
FLOWS = 8  # that S2D makes at once


@dataclass(frozen=True)
class Loop:
    """How a clip is denoised."""

    speed: Speed = EXACT
    guidance: tuple[float, float] = GUIDED
    original: bool = False
    in_turn: bool = False  # guidance halves, though nothing else saves memory
    compiled: bool = False


def run_clip(
    models: Models,
    frames: int,
    size: tuple[int, int],
    stage: Callable[[str], AbstractContextManager],
    new: Callable[..., Tensor],
    *,
    steps: int,
    loop: Loop,
    memory: Memory,
) -> Tensor:
    """From picture to frames, each stage inside `stage(name)`, "denoising" once for every step.

    Args:
        new: makes the inputs where the model is, as `torch.randn` does.
        steps: that are taken, whatever the speed.

    Returns:
        The last latents [1, T, C, h, w].
    """
    grid, flows = models.s2d.config.grid, []
    with stage("S2D"):
        features = models.s2d.image_features(new(1, 3, grid, grid))
        for begin in range(0, frames - 1, FLOWS):
            hints = new(min(FLOWS, frames - 1 - begin), 3, grid, grid)
            flow = models.s2d(features, hints[:, :2], hints[:, 2:])
            flows.append(functional.interpolate(flow, size=size, mode="bilinear").cpu())
        del hints, features, flow
    with stage("image"):
        start = encode_start(models, new(1, 3, *size).sigmoid(), new(1, 3, *size))
    known = Known(start.image, torch.cat(flows)[None])
    adapters = models.adapters.values()
    with stage("conditioning"):
        if loop.original:
            controls = [Control(Anew(known, adapter), None) for adapter in adapters]
        else:
            controls = [Control(adapter, known(adapter)) for adapter in adapters]
    channels = models.vae.config.latent_channels
    noise = new(1, frames, channels, *(side // models.cell for side in size))
    how = {"guidance": loop.guidance, "speed": loop.speed, "memory": memory}
    walk = denoise_steps(models, start, controls, noise, steps=steps, **how)
    with stock_blocks(models) if loop.original else nullcontext():
        for _ in range(steps):
            with stage("denoising"):
                latents = next(walk).latents
        walk.close()
    del controls, walk, noise
    with stage("decoding"):
        for _ in map(to_pixels, decode(models, latents, memory=memory)):
            pass  # no part outlives its turn
    return latents


@dataclass(frozen=True)
class Known:
    """What is known of a clip before it is denoised: the picture and its flow."""

    image: Tensor  # [1, 3, H, W]
    flow: Tensor  # [1, T-1, 2, H, W]

    def __call__(self, adapter: Adapter, halves: int = 1) -> Conditioning:
        """What an adapter makes of it, once or for both guidance halves.

        The image stands for landmarks, and for itself where an adapter moves that (mini's), whose
        moving depends on values.
        """
        image = torch.cat([self.image.to(next(adapter.parameters()).dtype)] * halves)

        def pictures(frames: Sequence[int]) -> Tensor:
            return image[:, None].repeat(1, len(frames), 1, 1, 1)

        marks = pictures if adapter.config.landmark_channels else None
        flow = torch.cat([self.flow] * halves)
        reference = adapter.reference(image, flow, marks, pictures)
        return adapter.window(reference, range(flow.shape[1] + 1))


@dataclass(frozen=True)
class Anew:
    """An adapter that makes its conditioning whenever it is called."""

    known: Known
    adapter: Adapter

    def __call__(self, *args) -> Residuals:
        """As the adapter; the conditioning that is given is none."""
        sample, *inputs, _, scale = args
        return self.adapter(sample, *inputs, self.known(self.adapter, len(sample)), scale)


@contextmanager
def stock_blocks(models: Models) -> Iterator[None]:
    """The library's blocks, with queries, keys and softmax in their cross-attention."""
    nets = (models.unet, *models.adapters.values())
    stock = {mine: base for base, mine in (STREAMLINED | STREAMLINED_CONV).items()}
    stock[Unread] = nn.LayerNorm
    for module in (module for net in nets for module in net.modules()):
        module.__class__ = stock.get(type(module), type(module))
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor2_0())
    try:
        yield
    finally:
        for net in nets:
            streamline(net)
