"""The training objective in numbers: noise levels, preconditioning, loss, condition dropout."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SIGMA_MIN, SIGMA_MAX, SIGMA_DATA = 0.002, 700.0, 0.5
REFERENCE_SIDE, LOW_SIDE, HIGH_SIDE = 64, 32, 64


def stratified_uniform(
    batch: int, generator: torch.Generator | None = None, device="cpu"
) -> Tensor:
    """One uniform number per sample, each from its own of `batch` equal parts of [0, 1)."""
    return spread(torch.rand(batch, generator=generator, device=device))


def spread(uniform: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Move each sample's uniform number into its own stratum: (k + u_k) / B."""
    index = torch.arange(len(uniform), device=uniform.device)
    return (index + uniform) / len(uniform)


def sigma(u: Tensor) -> Tensor:
    """Noise level for u in [0, 1]: interpolated shifted-cosine schedule, 700 at 0, 0.002 at 1.

    Median 0.71, quartiles 0.25 and 2.0.
    """
    low, high = (_shifted_cosine(u, side) for side in (LOW_SIDE, HIGH_SIDE))
    return SIGMA_DATA * torch.exp(-torch.lerp(low, high, u) / 2)


def _shifted_cosine(u: Tensor, side: int) -> Tensor:
    """Log signal-to-noise ratio of the cosine schedule, shifted for an image of `side` cells."""
    shift = 2 * math.log(side / REFERENCE_SIDE)
    first = -2 * math.log(SIGMA_MIN / SIGMA_DATA) - shift
    last = -2 * math.log(SIGMA_MAX / SIGMA_DATA) - shift
    # The ends are named the other way round in the release: u = 0 is the noisy end here.
    a, b = math.atan(math.exp(-last / 2)), math.atan(math.exp(-first / 2))
    return -2 * torch.log(torch.tan(b + (1 - u) * (a - b))) + shift


class Noised(NamedTuple):
    """A noisy training sample and what the network is asked about it."""

    noisy: Float[Tensor, "B T C h w"]
    model_input: Float[Tensor, "B T C h w"]
    timestep: Float[Tensor, " B"]


def add_noise(
    latents: Float[Tensor, "B T C h w"],
    noise: Float[Tensor, "B T C h w"],
    sigmas: Float[Tensor, " B"],
) -> Noised:
    """Noise scaled latents to level sigma; the input is divided by sqrt(sigma^2 + 1)."""
    level = sigmas.view(-1, 1, 1, 1, 1)
    noisy = latents + level * noise
    return Noised(noisy, noisy / (level**2 + 1).sqrt(), 0.25 * sigmas.log())


def denoised(
    prediction: Float[Tensor, "B T C h w"],
    noisy: Float[Tensor, "B T C h w"],
    sigmas: Float[Tensor, " B"],
) -> Float[Tensor, "B T C h w"]:
    """Clean latents that a v-prediction stands for."""
    level = sigmas.view(-1, 1, 1, 1, 1)
    return noisy / (level**2 + 1) - prediction * level / (level**2 + 1).sqrt()


def loss(
    prediction: Float[Tensor, "B T C h w"],
    noisy: Float[Tensor, "B T C h w"],
    latents: Float[Tensor, "B T C h w"],
    sigmas: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """Mean squared error of the clean latents per sample, weighted by (1 + sigma^2) / sigma^2."""
    error = denoised(prediction.float(), noisy.float(), sigmas) - latents.float()
    weight = (1 + sigmas**2) / sigmas**2
    return weight * error.square().flatten(1).mean(dim=1)


def condition_dropout(
    uniform: Float[Tensor, " B"], rate: float = 0.1
) -> tuple[Bool[Tensor, " B"], Bool[Tensor, " B"]]:
    """Which samples keep (embedding, image latents), from one uniform number each.

    The embedding alone is dropped below `rate`, both up to twice that, the image latents alone
    up to three times: what classifier-free guidance learns from.
    """
    keep_embedding = uniform >= 2 * rate
    keep_image = (uniform < rate) | (uniform >= 3 * rate)
    return keep_embedding, keep_image
