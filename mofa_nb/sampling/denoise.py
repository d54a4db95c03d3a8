"""The sampling loop: frozen SVD + masked, scaled adapter residuals + stock scheduler."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers.models.attention import TemporalBasicTransformerBlock
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mofa_nb import checks
from mofa_nb.adapter.adapter import Adapter, Conditioning, Reference
from mofa_nb.adapter.unet import Deep, Residuals
from mofa_nb.checks import InputError
from mofa_nb.config import EXACT, Speed
from mofa_nb.flow.resize import resize_antialiased
from mofa_nb.models.memory import Memory
from mofa_nb.models.models import Models
from mofa_nb.sampling.speed import Reused, renoised, scheduler_of

Trace = Callable[[str, object], None]


@dataclass(frozen=True)
class Start:
    """What SVD knows of the first frame."""

    image: Float[Tensor, "1 3 H W"]  # [-1, 1]
    embedding: Float[Tensor, "1 1 D"]  # CLIP's image token
    latents: Float[Tensor, "1 C h w"]  # VAE mode of the (slightly noisy) image, not scaled


@dataclass(frozen=True)
class Window:
    """Frame 0 and the frames [start, stop) of a clip, seen by the model at once."""

    start: int  # at least 1
    stop: int
    first: bool  # whether its frame 0 is the clip's; the other windows' are thrown away
    around: int = 0  # so many frames from 1 on follow, in a clip that ends where it began

    @property
    def frames(self) -> list[int]:
        return [0, *range(self.start, self.stop), *range(1, self.around + 1)]

    @property
    def own(self) -> slice:  # of `frames`: those that count in the clip
        return slice(0 if self.first else 1, None)

    def weights(self, fade: bool) -> list[int]:
        """How much each of `own` counts in the average with other windows: all alike (paper,
        release), or fading towards both ends, so that none ends with a jump."""
        count = self.stop - self.start + self.around
        inner = [min(k + 1, count - k) if fade else 1 for k in range(count)]
        return [1, *inner] if self.first else inner


def periodic_windows(
    num_frames: int, window: int, stride: int | None = None,
    *, as_released: bool = False, wrap: bool = False,
) -> list[Window]:  # fmt: skip
    """Windows of `window` frames (frame 0 among them), `stride` apart, the last one at the end.

    The paper: window 14, stride 7 (half a window, the default); the release: 25 and 12, and
    (`as_released`) a last window that may repeat the one before it, counted twice then. To `wrap`,
    one more joins the clip's end to its beginning. InputError: a window of one frame, or gaps."""
    stride = window // 2 if stride is None else stride
    if window < 2 or not 1 <= stride < window:
        expected = "windows need at least 2 frames and a stride from 1 to window - 1"
        raise InputError(f"{expected}, but window {window} and stride {stride} came")
    if num_frames < window or (num_frames == window and not as_released):
        return [Window(1, num_frames, True)]
    last = num_frames - window + 1
    starts = list(range(1, last + 1, stride))
    if as_released or starts[-1] != last:
        starts.append(last)
    windows = [Window(a, a + window - 1, k == 0) for k, a in enumerate(starts)]
    before = window // 2
    around = [Window(num_frames - before, num_frames, False, window - 1 - before)]
    return windows + around if wrap else windows


@dataclass(frozen=True)
class Control:
    """One adapter's say in a clip: its residuals, times scale, inside its mask. The conditioning is
    of the frames of the clip; or, of one in windows, what makes each window's."""

    adapter: Adapter
    conditioning: Conditioning | Reference
    scale: float = 1.0
    mask: Float[Tensor, "1 1 H W"] | None = None  # in [0, 1]; None for everywhere
    span: tuple[float, float] = (0.0, 1.0)  # of its influence, as fractions of the steps


@dataclass(frozen=True)
class Step:
    """One finished denoising step."""

    index: int  # 1 for the first step, `total` for the last
    total: int
    sigma: float  # the noise level it started from
    latents: Float[Tensor, "1 T C h w"]  # after it
    denoised: Float[Tensor, "1 T C h w"]  # the clean ones that the networks predict now


@torch.no_grad()
def encode_start(
    models: Models, image: Float[Tensor, "1 3 H W"], noise: Float[Tensor, "1 3 H W"] | None = None
) -> Start:
    """Encode the first frame in [0, 1], whose plain pixels CLIP sees as in the release; for the VAE
    standard normal noise times `noise_aug` is added to its [-1, 1] pixels."""
    embedding, first = image_token(models.image_encoder, image), image * 2 - 1
    noisy = first if noise is None else first + models.settings.noise_aug * noise
    latents = models.vae.encode(noisy.to(models.vae.dtype)).latent_dist.mode()
    return Start(first, embedding.float(), latents.float())


def image_token(encoder: nn.Module, first: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 D"]:
    """CLIP's token of first frames in [0, 1]."""
    side = encoder.config.image_size
    pixels = resize_antialiased(first, (side, side)).to(encoder.dtype)
    return encoder(pixels).image_embeds[:, None]


def initial_noise(
    models: Models, size: tuple[int, int], num_frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Image noise [1, 3, H, W] of `size` (height, width), then latent noise [1, T, C, h, w]: in
    this order, and on the generator's device, so that the CPU's gives the same clip everywhere."""
    cells = [side // models.cell for side in size]
    shapes = (1, 3, *size), (1, num_frames, models.vae.config.latent_channels, *cells)
    draw = partial(torch.randn, generator=generator, device=generator.device)
    image_noise, latent_noise = (draw(shape).to(models.device) for shape in shapes)
    return image_noise, latent_noise


def begin(
    models: Models, image: Float[Tensor, "1 3 H W"], num_frames: int, generator: torch.Generator
) -> tuple[Start, Float[Tensor, "1 T C h w"]]:
    """What a clip of this first frame, in [0, 1], begins with, and its latent noise."""
    image_noise, noise = initial_noise(models, tuple(image.shape[-2:]), num_frames, generator)
    return encode_start(models, image.to(models.device), image_noise), noise


def denoise_steps(*args, **settings) -> Iterator[Step]:
    """Denoise step by step; stop iterating to cancel. Arguments: see `denoise_windows`."""
    return (step for step in denoise_windows(*args, **settings) if isinstance(step, Step))


@torch.no_grad()
def denoise_windows(
    models: Models, start: Start, controls: Sequence[Control],
    noise: Float[Tensor, "1 T C h w"],
    *, steps: int, guidance: tuple[float, float], windows: Sequence[Window] | None = None,
    fade: bool = False, speed: Speed = EXACT, memory: Memory | None = None,
    generator: torch.Generator | None = None, trace: Trace | None = None, as_released: bool = False,
) -> Iterator[Window | Step]:  # fmt: skip
    """Denoise, pausing after every window: with the last one of a step comes the finished `Step`.

    The `noise` is standard normal; without `controls` the base model runs free. `guidance`:
    classifier-free (adapters steer both halves alike), of the first and the last frame, linear
    between (in every window anew); at most 1 means none and half the work. `windows` of a long clip
    (`periodic_windows`) are averaged in every step, less towards their ends where they `fade`.
    `generator`: of the noise between the steps of a few-step UNet; `trace` gets names and values to
    look into."""
    latents, frames, memory = noise.float(), noise.shape[1], memory or Memory(models)
    windows = windows or periodic_windows(frames, frames)
    if len(windows) == 1:
        controls = _windowed(controls, windows[0])
    common = models, start, steps, guidance, speed, memory, trace, as_released
    runs = [_Run(*common, frames=len(window.frames)) for window in windows]
    memory.kept = [run.reused for run in runs]
    latents = latents * runs[0].scheduler.init_noise_sigma
    for index in range(steps):
        moved, clean = torch.zeros_like(latents), torch.zeros_like(latents)
        total = latents.new_zeros(1, frames, 1, 1, 1)
        working = active(controls, index, steps)
        for window, run in zip(windows, runs, strict=True):
            part = memory.run(partial(_windowed, working, window))
            now = latents[:, window.frames]
            after, denoised = memory.run(partial(run.step, index, now, part))
            del part  # a window's warped features are gone before the next one's are made
            own = window.frames[window.own]
            weight = latents.new_tensor(window.weights(fade)).view(1, -1, 1, 1, 1)
            # Windows of a long clip (paper: periodic sampling): the weighted mean over them.
            moved[:, own] += weight * after[:, window.own]
            clean[:, own] += weight * denoised[:, window.own]
            total[:, own] += weight
            if window is not windows[-1]:
                yield window
        latents = moved / total
        if index == steps - 1 or latents.device.type == "cpu":  # a card would be waited for
            finite(latents, models.unet.dtype)  # what is not stays so to the end
        if models.settings.few_step:
            latents = renoised(clean / total, runs[0].scheduler, index, generator)
        memory.kept = () if index == steps - 1 else memory.kept  # or it would outlive these steps
        yield Step(index + 1, steps, runs[0].sigma(index), latents, clean / total)


@dataclass
class _Run:
    """One window's scheduler and the inputs that stay the same over the steps."""

    models: Models
    start: Start
    steps: int
    guidance: tuple[float, float]
    speed: Speed
    memory: Memory
    trace: Trace | None
    as_released: bool
    frames: int

    def __post_init__(self):
        start, device, dtype = self.start, self.start.latents.device, self.models.unet.dtype
        self.scheduler = scheduler_of(self.models, self.steps, self.speed, device)
        self.reused: dict[tuple[int, ...], Reused] = defaultdict(Reused)
        scale = torch.linspace(*self.guidance, self.frames, device=device)
        self.scale = scale.view(1, -1, 1, 1, 1)
        halves = [torch.zeros_like, torch.clone] if max(self.guidance) > 1 else [torch.clone]
        self.token = torch.cat([half(start.embedding) for half in halves]).to(dtype)
        image = torch.cat([half(start.latents) for half in halves])
        self.image = image.to(dtype)[:, None].expand(-1, self.frames, -1, -1, -1)
        self.ids = start.latents.new_tensor([self.models.settings.time_ids] * len(halves))

    def sigma(self, index: int) -> float:
        return float(self.scheduler.sigmas[index])

    def step(self, index: int, latents: Tensor, controls: Sequence) -> tuple[Tensor, Tensor]:
        """One Euler step: latents after it, and the clean latents predicted now."""
        time, halves = self.scheduler.timesteps[index], len(self.token)
        scaled = self.scheduler.scale_model_input(latents, time).to(self.image.dtype)
        guided = halves == 2 and self.speed.guides(index / self.steps)
        rows = range(halves) if guided else range(halves - 1, halves)
        apart = self.memory.halves_in_turn and not self.as_released
        in_turn = [(k,) for k in rows] if apart else [tuple(rows)]
        networks = [self.models.unet, *(control.adapter for control in controls)]
        with released_context(networks if self.as_released else (), len(rows)):
            parts = [self._velocity(index, part, scaled, controls) for part in in_turn]
        velocity = torch.cat(parts)
        if guided:
            free, steered = velocity.chunk(2)
            # Classifier-free guidance: v = v_free + w (v_steered - v_free), w growing by frame.
            velocity = free + self.scale * (steered - free)
        if self.trace is not None:
            self.trace("velocity", velocity)
        moved = self.scheduler.step(velocity, time, latents)
        return moved.prev_sample, moved.pred_original_sample

    def _velocity(
        self, index: int, rows: tuple[int, ...], scaled: Tensor, controls: Sequence[Control]
    ) -> Tensor:
        """What adapters and UNet make of some of the guidance halves."""
        part = slice(rows[0], rows[-1] + 1)
        sample = torch.cat([scaled.expand(len(rows), *scaled.shape[1:]), self.image[part]], dim=2)
        inputs = (sample, self.scheduler.timesteps[index], self.token[part], self.ids[part])
        make = partial(mixed_residuals, controls, *inputs, trace=self.trace)
        if self.speed.every == 1 or not self.memory.reuses:
            return self.models.unet(*inputs, make()).float()
        reused, sources = self.reused[rows], [(id(c.adapter), c.scale) for c in controls]
        if anew := index % self.speed.every == 0 or sources != reused.sources:
            reused.sources, reused.deep = sources, Deep()  # the old ones make room first
        return self.models.unet(*inputs, make() if anew else None, reused.deep).float()


@contextmanager
def released_context(networks: Sequence[nn.Module], halves: int) -> Iterator[None]:
    """Temporal cross-attention as the published demos ran it (diffusers 0.24, SPEC 1.7): its tokens
    lie pixel by pixel, the features half by half, so that half of them see the other half's."""

    def mixed(block: nn.Module, args: tuple, named: dict) -> tuple[tuple, dict]:
        tokens = named["encoder_hidden_states"]
        swapped = tokens.unflatten(0, (halves, -1)).transpose(0, 1).flatten(0, 1)
        return args, named | {"encoder_hidden_states": swapped}

    modules = {module for network in networks for module in network.modules()}
    blocks = [module for module in modules if isinstance(module, TemporalBasicTransformerBlock)]
    hooks = [block.register_forward_pre_hook(mixed, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def windowed(control: Control, window: Window) -> Control:
    """The control with the conditioning of one window, if it has not the clip's already."""
    if isinstance(control.conditioning, Reference):
        conditioning = control.adapter.window(control.conditioning, window.frames)
        control = replace(control, conditioning=conditioning)
    return control


def _windowed(controls: Sequence[Control], window: Window) -> list[Control]:
    return [windowed(control, window) for control in controls]


def active(controls: Sequence[Control], index: int, steps: int) -> list[Control]:
    """The controls whose span covers this step and whose scale is not zero."""
    at = index / steps
    return [c for c in controls if c.span[0] <= at < c.span[1] and c.scale != 0]


def mixed_residuals(
    controls: Sequence[Control], *inputs: Tensor, trace: Trace | None = None
) -> Residuals | None:
    """Sum over controls of mask * scale * residuals, once to be used; None without controls.
    `inputs`: an adapter's first four (sample, timestep, token, ids)."""
    total: list[Tensor] = []
    for control in controls:
        residuals = control.adapter(*inputs, control.conditioning, float(control.scale))
        if trace is not None:
            trace("residuals", residuals)
        parts = [*residuals.down, residuals.mid]
        if control.mask is not None:
            parts = [part * shrunk(control.mask, part).to(part) for part in parts]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    return Residuals(total[:-1], total[-1]) if total else None


def shrunk(mask: Float[Tensor, "1 1 H W"], like: Tensor) -> Float[Tensor, "1 1 h w"]:
    """The mask at the size of a feature map, by nearest neighbour."""
    return functional.interpolate(mask, size=like.shape[-2:], mode="nearest")


def decode(
    models: Models, latents: Float[Tensor, "1 T C h w"], chunk: int | None = None,
    memory: Memory | None = None, preview: bool = False,
) -> Iterator[Float[Tensor, "t 3 H W"]]:  # fmt: skip
    """Frames in [-1, 1] (not clamped), a part at a time, so that memory stays bounded; InputError
    where they are not finite. `chunk`: frames decoded at once, by default as many as fit. A
    `preview` is TAESD's where the model has that."""
    count, memory = latents.shape[1], memory or Memory(models)
    decoder = (preview and models.taesd) or models.vae
    weight = next(decoder.decoder.parameters())

    def part(begin: int) -> Tensor:
        most = max(1, chunk or memory.decodable(latents))
        frames = _decoded(models, decoder, latents[0, begin : begin + most])
        try:
            return finite(frames, weight.dtype)
        except InputError:
            if weight.dtype != torch.float16:
                raise
        decoder.decoder.float()
        memory.notes.append("the decoder overflowed in float16, so it went on in float32")
        return part(begin)

    begin = 0
    while begin < count:
        frames = [memory.run(partial(part, begin))]
        begin += len(frames[0])
        yield frames.pop()


def finite(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values as they are; InputError where a network of this format made no numbers."""
    remedy = "lower the scales and guidance, or use another --device"
    return checks.finite(values, f"the clip (computed in {dtype})", remedy)


@torch.no_grad()  # not on the generator: that would keep frames until the next ones are decoded
def _decoded(
    models: Models, decoder: nn.Module, latents: Float[Tensor, "t C h w"]
) -> Float[Tensor, "t 3 H W"]:
    dtype = next(decoder.decoder.parameters()).dtype
    if decoder is models.taesd:
        return decoder.decoder(latents.to(dtype)).float()
    latents = latents / decoder.config.scaling_factor
    together = 1 if models.settings.decode_alone else len(latents)
    return decoder.decode(latents.to(dtype), num_frames=together).sample.float()


def to_pixels(frames: Float[Tensor, "t 3 H W"]) -> Tensor:
    """[-1, 1] -> uint8 RGB [t, H, W, 3] on the CPU."""
    pixels = ((frames + 1) * 127.5).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).cpu()
