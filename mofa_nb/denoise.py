"""The sampling loop: frozen SVD + masked, scaled adapter residuals + stock scheduler."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.adapter import Adapter, Conditioning
from mofa_nb.models import Models
from mofa_nb.resize import resize_antialiased
from mofa_nb.unet import Residuals

Trace = Callable[[str, object], None]


@dataclass(frozen=True)
class Start:
    """What SVD knows of the first frame.

    Attributes:
        image: [-1, 1].
        embedding: CLIP's image token.
        latents: VAE mode of the (slightly noisy) image, not scaled.
    """

    image: Float[Tensor, "1 3 H W"]
    embedding: Float[Tensor, "1 1 D"]
    latents: Float[Tensor, "1 C h w"]


@dataclass(frozen=True)
class Control:
    """One adapter's say in a clip: its residuals, times scale, inside its mask.

    Attributes:
        mask: [1, 1, H, W] in [0, 1], or None for everywhere; brought to each residual's size by
            nearest neighbour.
        span: (start, end) of its influence as fractions of the steps.
    """

    adapter: Adapter
    conditioning: Conditioning
    scale: float = 1.0
    mask: Float[Tensor, "1 1 H W"] | None = None
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Step:
    """One finished denoising step.

    Attributes:
        index: 1 for the first step, `total` for the last.
        sigma: the noise level it started from.
        latents: after the step, [1, T, C, h, w].
        denoised: the clean latents that the networks predict now.
    """

    index: int
    total: int
    sigma: float
    latents: Tensor
    denoised: Tensor


@torch.no_grad()
def encode_start(
    models: Models,
    image: Float[Tensor, "1 3 H W"],
    noise: Float[Tensor, "1 3 H W"] | None = None,
) -> Start:
    """Encode the first frame.

    Args:
        image: [0, 1], sides multiples of `models.multiple`.
        noise: standard normal, added to the [-1, 1] pixels times `noise_aug`; None adds nothing.

    CLIP is given [0, 1] pixels without mean and deviation, as in the release.
    """
    encoder, vae = models.image_encoder, models.vae
    side = encoder.config.image_size
    pixels = resize_antialiased(image, (side, side)).to(encoder.dtype)
    embedding = encoder(pixels).image_embeds[:, None]
    first = image * 2 - 1
    noisy = first if noise is None else first + models.settings.noise_aug * noise
    latents = vae.encode(noisy.to(vae.dtype)).latent_dist.mode()
    return Start(first, embedding.float(), latents.float())


def initial_noise(
    models: Models, size: tuple[int, int], num_frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Image noise [1, 3, H, W], then latent noise [1, T, C, h, w]: the order of the draws.

    Drawn on the generator's device, so that a CPU generator gives the same clip everywhere.
    """
    height, width = size
    cells = 2 ** (len(models.vae.config.block_out_channels) - 1)
    channels = models.vae.config.latent_channels
    shape = (1, num_frames, channels, height // cells, width // cells)
    image_noise = torch.randn((1, 3, height, width), generator=generator, device=generator.device)
    latent_noise = torch.randn(shape, generator=generator, device=generator.device)
    return image_noise.to(models.device), latent_noise.to(models.device)


@torch.no_grad()
def denoise_steps(
    models: Models,
    start: Start,
    controls: Sequence[Control],
    noise: Float[Tensor, "1 T C h w"],
    *,
    steps: int,
    guidance: tuple[float, float],
    trace: Trace | None = None,
) -> Iterator[Step]:
    """Denoise step by step; stop iterating to cancel.

    Args:
        controls: adapters at work; none lets the base model run free.
        noise: standard normal.
        guidance: classifier-free guidance of the first and last frame, linear between. At most
            1 means no guidance and half the work. Adapters steer both halves alike.
        trace: called with a name and a value for what notebooks look into; costs nothing if None.
    """
    scheduler = type(models.scheduler).from_config(models.scheduler.config)
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise.float() * scheduler.init_noise_sigma
    frames, dtype = noise.shape[1], models.unet.dtype
    scale = torch.linspace(*guidance, frames, device=noise.device).view(1, -1, 1, 1, 1)
    guided = max(guidance) > 1
    halves = [torch.zeros_like, torch.clone] if guided else [torch.clone]
    token = torch.cat([half(start.embedding) for half in halves]).to(dtype)
    image = torch.cat([half(start.latents) for half in halves])
    image = image[:, None].expand(-1, frames, -1, -1, -1).to(dtype)
    ids = noise.new_tensor([models.settings.time_ids] * len(halves))
    for index, time in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, time).to(dtype)
        model_input = torch.cat([scaled.expand(len(halves), *scaled.shape[1:]), image], dim=2)
        residuals = mixed_residuals(
            active(controls, index, steps), model_input, time, token, ids, trace
        )
        velocity = models.unet(model_input, time, token, ids, residuals).float()
        if guided:
            free, steered = velocity.chunk(2)
            velocity = free + scale * (steered - free)
        sigma = float(scheduler.sigmas[index])
        moved = scheduler.step(velocity, time, latents)
        latents = moved.prev_sample
        if trace is not None:
            trace("velocity", velocity)
        yield Step(index + 1, steps, sigma, latents, moved.pred_original_sample)


def active(controls: Sequence[Control], index: int, steps: int) -> list[Control]:
    """The controls whose span covers this step and whose scale is not zero."""
    at = index / steps
    return [c for c in controls if c.span[0] <= at < c.span[1] and c.scale != 0]


def mixed_residuals(
    controls: Sequence[Control],
    model_input: Tensor,
    time: Tensor,
    token: Tensor,
    ids: Tensor,
    trace: Trace | None = None,
) -> Residuals | None:
    """Sum over controls of mask * scale * residuals; None without controls."""
    total: Residuals | None = None
    for control in controls:
        own = control.adapter(
            model_input, time, token, ids, control.conditioning, float(control.scale)
        )
        if trace is not None:
            trace("residuals", own)
        own = masked(own, control.mask)
        if total is None:
            total = own
        else:
            down = tuple(a + b for a, b in zip(total.down, own.down, strict=True))
            total = Residuals(down, total.mid + own.mid)
    return total


def masked(residuals: Residuals, mask: Float[Tensor, "1 1 H W"] | None) -> Residuals:
    """Residuals times the mask, brought to each one's size by nearest neighbour."""
    if mask is None:
        return residuals

    def cut(value: Tensor) -> Tensor:
        small = functional.interpolate(mask, size=value.shape[-2:], mode="nearest")
        return value * small.to(value)

    return Residuals(tuple(cut(value) for value in residuals.down), cut(residuals.mid))


@torch.no_grad()
def decode(
    models: Models, latents: Float[Tensor, "1 T C h w"], chunk: int | None = None
) -> Iterator[Float[Tensor, "t 3 H W"]]:
    """Frames in [-1, 1] (not clamped), `chunk` at a time, so that memory stays bounded."""
    vae = models.vae
    scaled = latents[0] / vae.config.scaling_factor
    for part in scaled.split(chunk or models.settings.decode_chunk):
        yield vae.decode(part.to(vae.dtype), num_frames=len(part)).sample.float()


def to_pixels(frames: Float[Tensor, "t 3 H W"]) -> Tensor:
    """[-1, 1] -> uint8 RGB [t, H, W, 3] on the CPU."""
    pixels = ((frames + 1) * 127.5).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).cpu()
