"""The training objective in numbers: noise levels, preconditioning, loss, condition dropout."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SIGMA_MIN, SIGMA_MAX, SIGMA_DATA = 0.002, 700.0, 0.5
REFERENCE_SIDE, LOW_SIDE, HIGH_SIDE = 64, 32, 64
Clips = Float[Tensor, "B T C h w"]
Each, Kept = Float[Tensor, " B"], Bool[Tensor, " B"]  # a number, or whether, for each clip


def spread(uniform: Each) -> Each:
    """Each sample's uniform number in its own of `B` equal parts of [0, 1): (k + u_k) / B."""
    index = torch.arange(len(uniform), device=uniform.device)
    return (index + uniform) / len(uniform)


def sigma(u: Tensor) -> Tensor:
    """Noise level for u in [0, 1]: interpolated shifted-cosine schedule, 700 at 0, 0.002 at 1, with
    median 0.71, quartiles 0.25 and 2.0."""
    low, high = (_shifted_cosine(u, side) for side in (LOW_SIDE, HIGH_SIDE))
    # sigma = sigma_data * exp(-log SNR / 2) (simple diffusion, arXiv 2301.11093, section 3.1).
    return SIGMA_DATA * torch.exp(-torch.lerp(low, high, u) / 2)


def _shifted_cosine(u: Tensor, side: int) -> Tensor:
    """Log signal-to-noise ratio of the cosine schedule, shifted for an image of `side` cells."""
    shift = 2 * math.log(side / REFERENCE_SIDE)
    first = -2 * math.log(SIGMA_MIN / SIGMA_DATA) - shift
    last = -2 * math.log(SIGMA_MAX / SIGMA_DATA) - shift
    # The ends are named the other way round in the release: u = 0 is the noisy end here.
    a, b = math.atan(math.exp(-last / 2)), math.atan(math.exp(-first / 2))
    return -2 * torch.log(torch.tan(b + (1 - u) * (a - b))) + shift


def add_noise(latents: Clips, noise: Clips, sigmas: Each) -> tuple[Clips, Clips, Each]:
    """Scaled latents at level sigma, the network's input, divided by sqrt(sigma^2 + 1), and its
    timesteps."""
    level = sigmas.view(-1, 1, 1, 1, 1)
    # EDM (arXiv 2206.00364, table 1): x = z + sigma n, c_in = 1 / sqrt(sigma^2 + 1),
    # c_noise = ln(sigma) / 4.
    noisy = latents + level * noise
    return noisy, noisy / (level**2 + 1).sqrt(), 0.25 * sigmas.log()


def denoised(prediction: Clips, noisy: Clips, sigmas: Each) -> Clips:
    """Clean latents that a v-prediction stands for."""
    level = sigmas.view(-1, 1, 1, 1, 1)
    # D = c_skip x + c_out v with c_skip = 1 / (sigma^2 + 1), c_out = -sigma / sqrt(sigma^2 + 1).
    return noisy / (level**2 + 1) - prediction * level / (level**2 + 1).sqrt()


def loss(prediction: Clips, noisy: Clips, latents: Clips, sigmas: Each) -> Each:
    """Mean squared error of the clean latents per sample, weighted by (1 + sigma^2) / sigma^2."""
    error = denoised(prediction.float(), noisy.float(), sigmas) - latents.float()
    weight = (1 + sigmas**2) / sigmas**2  # lambda = 1 / c_out^2
    return weight * error.square().flatten(1).mean(dim=1)


def condition_dropout(uniform: Each, rate: float = 0.1) -> tuple[Kept, Kept]:
    """Which samples keep (embedding, image latents), from one uniform number each: below `rate`
    the embedding alone is dropped, up to twice that both, up to three times the image latents
    alone. Classifier-free guidance learns from that."""
    keep_embedding = uniform >= 2 * rate
    keep_image = (uniform < rate) | (uniform >= 3 * rate)
    return keep_embedding, keep_image
