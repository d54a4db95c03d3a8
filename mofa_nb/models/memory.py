"""A model on a card that is smaller than it, in three ways of the same numbers: `full` keeps all
there and runs both guidance halves at once; `balanced` brings S2D, image encoder and decoders layer
by layer, an adapter that the clip does not use not at all, and runs halves and widest layers in
turn; `low` brings UNet and adapters layer by layer, too."""

import gc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from diffusers.hooks import apply_group_offloading
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.config import EXACT, WAYS, Speed
from mofa_nb.models.models import ADAPTER_PARTS, Models

Result = TypeVar("Result")
# Used before or after denoising.
STAGE_PARTS = ("image_encoder", "vae", "s2d", "landmark_s2d", "taesd")
_IDLE = ("attn2.to_q", "attn2.to_k")  # there is one token: see `adapter.unet`
_HOOKS = ("lazy_prefetch_group_offloading", "layer_execution_tracker", "group_offloading")
# Counted by `python -m tests.benchmarks.without_card`: bytes alive at a step's worst moment by
# frame and cell of the latents, for networks of the release's widths in 16 bits.
STEP_BYTES = {"full": 22_500, "balanced": 14_500, "low": 14_500}
REUSED_BYTES = 2_500  # the same of what a speed keeps between steps, of each guidance half
DECODER_MAPS = 10  # maps as large as a frame that its decoding keeps (7 to 9, and some room)
SPARE = 0.92  # of what is free; allocators lose some to gaps


@dataclass
class Memory:
    """How a clip is fitted into memory; goes down a way where that runs out."""

    models: Models
    way: str = "full"  # one of WAYS
    decode_chunk: int | None = None  # most frames decoded at once; None: the model's own number
    notes: list[str] = field(default_factory=list)  # what was chosen or given up, a sentence each
    frames: int = 1  # that the networks see at once
    unused: Collection[str] = ()  # parts that the clip does without
    reuses: bool = True  # there is room for what a speed keeps between steps
    kept: Collection[dict] = ()  # such things, dropped where memory runs out

    @property
    def halves_in_turn(self) -> bool:
        return self.way != "full"

    def decodable(self, latents: Float[Tensor, "1 T C h w"]) -> int:
        most = self.decode_chunk or self.models.settings.decode_chunk
        return min(most, frames_that_fit(self.models, latents))

    def run(self, work: Callable[[], Result]) -> Result:
        """What the work returns; where memory runs out it is done again in the next lower way."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError as error:
                message = str(error).split(". ")[0]
            if not self.lower():  # out of the block, whose error holds on to memory
                raise torch.OutOfMemoryError(message)

    def lower(self) -> bool:
        """Go down a way and halve the frames decoded at once; False where neither is possible."""
        chunk = self.decode_chunk or self.models.settings.decode_chunk
        if self.way == WAYS[-1] and chunk == 1:
            return False
        self.way = WAYS[min(WAYS.index(self.way) + 1, len(WAYS) - 1)]
        self.decode_chunk, self.reuses = max(1, chunk // 2), False
        for things in self.kept:
            things.clear()
        gc.collect()
        arrange(self.models, self.way, self.frames, self.unused)
        if self.models.device.type == "cuda":
            torch.cuda.empty_cache()
        goes_on = f"the way {self.way!r}, decoding {self.decode_chunk} frames at once"
        self.notes.append(f"memory ran out, so the clip went on in {goes_on}: nothing was lost")
        return True


def fitted_into_memory(
    models: Models, frames: int, size: tuple[int, int],
    *, guided: bool, wanted: str = "auto", at_once: bool = False, speed: Speed = EXACT,
    windows: int = 1, unused: Collection[str] = (),
) -> Memory:  # fmt: skip
    """Arrange the model in a way that is `wanted`, or `auto`: the first one that fits into what is
    free, for so many frames of (height, width) at once, in so many windows, with two guidance
    halves or one; `at_once`: no way computes the halves in turn. Where no way has room for what a
    speed keeps between steps, nothing is kept."""
    free = free_memory(models.device)
    kept = windows * (1 + (guided and speed.guided[1] > 0)) * (speed.every > 1)

    def need(way: str, reuses: bool) -> int:
        return needed(models, way, frames, size, guided, at_once, kept * reuses, unused)

    ways = WAYS if wanted == "auto" else [wanted]
    choices = [(way, reuses) for reuses in (True, False) for way in ways]
    if free is not None:
        free += sum(weight_bytes(net, on_card=True) for net in models.parts.values())
        choices = [choice for choice in choices if need(*choice) < free * SPARE] or choices[-1:]
    way, reuses = choices[0]
    notes = []
    if free is not None:
        reason = f"it needs about {gib(need(way, reuses))} of the {gib(free)} GiB that are free"
        notes.append(f"memory: {way}, as {reason if wanted == 'auto' else 'it was asked for'}")
    if kept and not reuses:
        notes.append("there is no room for what this speed keeps between steps: all is computed")
    wide = free is not None and models.decoder_dtype == torch.float32
    chunk = 1 if wide and way != "full" else None
    arrange(models, way, frames, unused)
    return Memory(models, way, chunk, notes, frames, unused, reuses)


def needed(
    models: Models, way: str, frames: int, size: tuple[int, int], guided: bool,
    at_once: bool = False, kept: int = 0, unused: Collection[str] = (),
) -> int:  # fmt: skip
    """Bytes that a clip's denoising takes on the card, weights included, and what is `kept` between
    steps of so many guidance halves and windows."""
    cells = frames * (size[0] // models.cell) * (size[1] // models.cell)
    halves = 2 if guided and (at_once or way == "full") else 1
    widths = models.unet.config.block_out_channels[0] * models.unet.dtype.itemsize / (320 * 2)
    each = STEP_BYTES[way] * halves + REUSED_BYTES * kept
    return weights_on_card(models, way, unused) + int(each * widths * cells)


def weights_on_card(models: Models, way: str, unused: Collection[str] = ()) -> int:
    stay = [net for part, net in models.parts.items() if not is_brought(part, way, unused)]
    idle = [m for net in stay for n, m in net.named_modules() if n.endswith(_IDLE)]
    return sum(map(weight_bytes, stay)) - (way != "full") * sum(map(weight_bytes, idle))


def is_brought(part: str, way: str, unused: Collection[str] = ()) -> bool:
    """Whether a part's layers come to the card only when they are at work."""
    return way == "low" or (way == "balanced" and (part in STAGE_PARTS or part in unused))


def unused_parts(kinds: Collection[str]) -> list[str]:
    """Parts without work in a clip of these kinds of control."""
    return [part for kind, part in ADAPTER_PARTS.items() if kind not in kinds]


def arrange(models: Models, way: str, frames: int = 1, unused: Collection[str] = ()) -> None:
    """Put every part where this way wants it: on the device, or brought there layer by layer."""
    device = models.device
    for part, net in models.parts.items():
        hooked = [module for module in net.modules() if hasattr(module, "_diffusers_hook")]
        if is_brought(part, way, unused):
            if not hooked:
                streamed = device.type == "cuda" and part not in (*STAGE_PARTS, *unused)
                apply_group_offloading(net, device, offload_type="leaf_level", use_stream=streamed)
            continue
        for module in hooked:
            for name in _HOOKS:
                module._diffusers_hook.remove_hook(name, recurse=False)
            del module._diffusers_hook
        net.to(device)
        for name, module in net.named_modules():
            if name.endswith(_IDLE) and way != "full":
                module.to("cpu")
    chunk_wide_layers(models, way, frames)


def chunk_wide_layers(models: Models, way: str, frames: int) -> None:
    """Have the blocks' widest layers computed for a few frames at once, unless all are kept."""
    few = max(n for n in range(1, 7) if frames % n == 0)
    for net in (models.unet, *models.adapters.values()):
        for block in net.modules():
            if hasattr(block, "set_chunk_feed_forward"):
                block.set_chunk_feed_forward(None if way == "full" else few, dim=0)


def frames_that_fit(models: Models, latents: Float[Tensor, "1 T C h w"]) -> int:
    """How many frames the VAE can decode at once in a card's free memory; elsewhere, all."""
    free, widths = free_memory(latents.device), models.vae.config.block_out_channels
    if free is None:
        return latents.shape[1]
    pixels = latents.shape[-2] * latents.shape[-1] * models.cell**2
    return max(1, free // (DECODER_MAPS * widths[0] * pixels * models.decoder_dtype.itemsize))


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a card, what this process holds in reserve included; None without a card."""
    if device.type != "cuda":
        return None
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve


def weight_bytes(net: nn.Module, on_card: bool = False) -> int:
    """Bytes of a network's weights, or of those that lie on a card now."""
    tensors = (*net.parameters(), *net.buffers())
    return sum(value.nbytes for value in tensors if value.is_cuda or not on_card)


def gib(count: float) -> str:
    return f"{count / 2**30:.1f}"
