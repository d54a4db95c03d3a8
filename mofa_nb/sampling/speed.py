"""Faster clips: what is left out of a step, how the steps are spaced, what is compiled. What each
speed loses is measured by `python -m tests.benchmarks.speed`."""

from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import CMStochasticIterativeScheduler, EulerDiscreteScheduler
from diffusers.schedulers import AysSchedules
from torch import Tensor

from mofa_nb.adapter.unet import Deep
from mofa_nb.config import Speed
from mofa_nb.models.models import Models

VERSIONS = 128  # of compiled code at most: every shape that a class of blocks meets is one
_COMPILED = ("TransformerSpatioTemporalModel", "SpatioTemporalResBlock")


@dataclass
class Reused:
    """What a step leaves for the next ones: of one guidance half, or of both at once."""

    sources: object = None  # the adapters and scales that made it
    deep: Deep = field(default_factory=Deep)


def scheduler_of(models: Models, steps: int, speed: Speed, device: torch.device) -> object:
    """A scheduler of the model's own kind with its steps set; a few-step UNet's at the noise levels
    that it was distilled at: every so manieth of 40 (AnimateLCM-SVD, arXiv 2402.00769)."""
    scheduler = type(models.scheduler).from_config(models.scheduler.config)
    if models.settings.few_step:
        spaced = CMStochasticIterativeScheduler(
            num_train_timesteps=40, sigma_max=_highest(scheduler), sigma_data=1.0
        )
        spaced.set_timesteps(min(steps, 40))
        scheduler.set_timesteps(sigmas=[*spaced.sigmas[:-1].tolist(), 0.0], device=device)
    elif speed.aligned:
        scheduler.set_timesteps(sigmas=aligned_sigmas(scheduler, steps), device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    scheduler.set_begin_index(0)  # looking a step up by its time would wait for the device
    return scheduler


def aligned_sigmas(scheduler: EulerDiscreteScheduler, steps: int) -> list[float]:
    """Noise levels measured for SVD, interpolated to this many steps, within the scheduler's."""
    measured = [*AysSchedules["StableDiffusionVideoSigmas"][:-1], 0.002]
    low, high = scheduler.config.sigma_min or measured[-1], _highest(scheduler)
    at = np.linspace(0, len(measured) - 1, steps + 1)
    levels = np.exp(np.interp(at, np.arange(len(measured)), np.log(measured))).clip(low, high)
    levels[0] = high
    return [*levels[:-1].tolist(), 0.0]


def renoised(
    clean: Tensor, scheduler: object, index: int, generator: torch.Generator | None
) -> Tensor:
    """Clean latents at the next step's noise level, with new noise: a consistency model's step."""
    sigma = float(scheduler.sigmas[index + 1])
    if sigma == 0:
        return clean
    device = clean.device if generator is None else generator.device
    return clean + sigma * torch.randn(clean.shape, generator=generator, device=device).to(clean)


def compile_blocks(models: Models, wanted: bool = True) -> None:
    """Have the repeated blocks of UNet and adapters compiled at first use, or no longer: the same
    numbers. Blocks of a class share their code, of which each shape is a version of its own."""
    if wanted:
        from torch._dynamo import config  # takes seconds

        limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
        setattr(config, limit, max(VERSIONS, getattr(config, limit)))
    for net in (models.unet, *models.adapters.values()):
        for block in net.modules():
            if type(block).__name__ in _COMPILED:
                if not wanted:
                    block._compiled_call_impl = None
                elif block._compiled_call_impl is None:
                    block.compile()


def _highest(scheduler: EulerDiscreteScheduler) -> float:
    return float(scheduler.config.sigma_max or 700.0)
