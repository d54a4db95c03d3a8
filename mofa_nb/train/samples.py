"""What a run makes of one clip that it never trains on: a film and figures every few steps."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.flow.optical_flow import clip_flow
from mofa_nb.media.video import write_clip
from mofa_nb.models.models import assemble, read_scheduler
from mofa_nb.models.parts import FROZEN_PARTS
from mofa_nb.sampling import denoise
from mofa_nb.train.job import Job
from mofa_nb.train.s2d import Told, s2d_flow
from mofa_nb.train.sources import watershed_hints

SAMPLE_STEPS, SAMPLE_FPS, SAMPLE_SEED = 12, 7, 2**31 - 1


@torch.no_grad()
def sample(
    job: Job, parts: Mapping[str, nn.Module], settings: Settings, clip: SceneBatch, path: Path
) -> dict[str, float]:
    """Write `path` (mp4: the clip, and beside it what is made of its first frame and its flow).

    Args:
        clip: a batch of one.
    Returns:
        `sample_epe`, pixels, where the clip's own flow is known: of the flow (DIS) that the made
        clip shows; of S2D's dense flow from watershed hints where there is no video model.
    """
    flow, known = clip.flow[0], clip.visible[0, :, 0]
    if set(FROZEN_PARTS) <= parts.keys():
        made = _made(job, parts, settings, clip)
        both = torch.cat(
            [denoise.to_pixels(film) for film in (clip.frames[0] * 2 - 1, made)], dim=2
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, both.numpy(), SAMPLE_FPS, title=settings.name)
        shown = clip_flow(((made + 1) / 2).clamp(0, 1)).to(flow.device)
    else:
        hints = Told(watershed_hints(clip, torch.default_generator), clip.flow)
        network = parts.get("face_s2d", parts.get("s2d"))
        shown = s2d_flow(network, clip, hints)[0] if network is not None else flow
    return {"sample_epe": round(float((shown - flow).norm(dim=1)[known].mean()), 4)}


def _made(
    job: Job, parts: Mapping[str, nn.Module], settings: Settings, clip: SceneBatch
) -> Float[Tensor, "T 3 H W"]:
    """A clip in [-1, 1] from the first frame and the clip's own flow, along the tracks' way."""
    scheduler = read_scheduler(job.model / "scheduler")
    models = assemble(replace(settings, num_frames=job.frames), parts, scheduler, "")
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    image_noise, noise = denoise.initial_noise(models, job.size, job.frames, generator)
    start = denoise.encode_start(models, clip.frames[:, 0], image_noise)
    adapter = models.adapter("trajectory")
    dtype = next(adapter.parameters()).dtype
    control = denoise.Control(adapter, adapter.reference(start.image.to(dtype), clip.flow))
    how = {"steps": SAMPLE_STEPS, "guidance": (1.0, 1.0)}
    *_, last = denoise.denoise_steps(models, start, [control], noise, **how)
    return torch.cat(list(denoise.decode(models, last.latents)))
