"""What a run makes of one clip that it never trains on: a film and figures every few steps."""

from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.flow.optical_flow import clip_flow
from mofa_nb.media.video import write_clip
from mofa_nb.models.models import FROZEN_PARTS, assemble, read_scheduler
from mofa_nb.sampling import denoise
from mofa_nb.train.job import Job
from mofa_nb.train.s2d import Told, s2d_flow
from mofa_nb.train.shards import has_shards, held_out_clip
from mofa_nb.train.sources import in_bytes, open_source, watershed_hints
from mofa_nb.train.video import Core, Parts, VideoLoss, moved_clips, ready

SAMPLE_STEPS, SAMPLE_FPS, SAMPLE_SEED = 12, 7, 2**31 - 1
NOISES = 4  # draws of noise that a loss is a mean of


def sampler(
    job: Job, parts: Parts, settings: Settings, accelerator: Accelerator
) -> Callable[[int], dict[str, float]]:
    """What tells the figures of a step, and writes its film: the clip, and beside it what is made
    of its first frame and its flow.

    `sample_epe`, pixels, is of the flow (DIS) that the made clip shows, or of S2D's dense flow from
    watershed hints where there is no video model. `sample_loss` is the clip's denoising loss under
    the same high noise always, and `sample_loss_still` that when the trajectory adapter is told
    that nothing moves: how far they are apart is how much it is heard."""
    torch.manual_seed(SAMPLE_SEED)
    if has_shards(job.data):
        clip = held_out_clip(job, parts["vae"])
    else:
        clip, _ = replace(open_source(job), faces_share=0.0).draw(1, job.frames, job.size)
    flow, known = clip.flow[0], clip.visible[0, :, 0]

    @torch.no_grad()
    def sampled(step: int) -> dict[str, float]:
        torch.manual_seed(SAMPLE_SEED)
        with accelerator.autocast():
            if set(FROZEN_PARTS) <= parts.keys():
                shown = _film(job, parts, settings, clip, step).to(flow.device)
            else:
                hints = Told(watershed_hints(clip, torch.default_generator), clip.flow)
                network = parts.get("face_s2d", parts.get("s2d"))
                first = clip.frames[:, 0]
                shown = s2d_flow(network, first, hints)[0] if network is not None else flow
            figures = {"sample_epe": round(float((shown - flow).norm(dim=1)[known].mean()), 4)}
            if "adapter" in parts and "vae" in parts:
                figures |= _losses(job, parts, settings, clip)
        return figures

    return sampled


def _losses(job: Job, parts: Parts, settings: Settings, clip: SceneBatch) -> dict[str, float]:
    """The denoising loss of a clip with its flow and with none, means over some noise."""
    whole = replace(job, high_share=1.0, drop_rate=0.0, cells=0)
    loss = VideoLoss(whole, parts, parts["adapter"], settings, 0.0)
    loss.run = Core(loss.adapter, parts["unet"])  # nothing is captured for a few calls
    known, figures = ready(parts, clip, clip.flow, settings, job.as_released), {}
    for name, flow in (("sample_loss", clip.flow), ("sample_loss_still", 0 * clip.flow)):
        known["given"], values = flow, []
        if loss.adapter.config.warp == "picture":
            known["moved"] = in_bytes(moved_clips(clip, flow))
        for seed in range(NOISES):
            torch.manual_seed(seed)
            values.append(float(loss(known)[0]))
        figures[name] = round(sum(values) / NOISES, 5)
    return figures


def _film(
    job: Job, parts: Parts, settings: Settings, clip: SceneBatch, step: int
) -> Float[Tensor, "steps 2 H W"]:
    """Write the film of a clip that goes the tracks' way; the flow that it shows."""
    scheduler = read_scheduler(job.model / "scheduler")
    models = assemble(replace(settings, num_frames=job.frames), parts, scheduler, "")
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    image_noise, noise = denoise.initial_noise(models, job.size, job.frames, generator)
    start = denoise.encode_start(models, clip.frames[:, 0], image_noise)
    adapter = models.adapter("trajectory")
    dtype = next(adapter.parameters()).dtype
    control = denoise.Control(adapter, adapter.reference(start.image.to(dtype), clip.flow))
    how = {"steps": min(settings.steps, SAMPLE_STEPS), "guidance": (1.0, 1.0)}
    *_, last = denoise.denoise_steps(models, start, [control], noise, **how)
    made = torch.cat(list(denoise.decode(models, last.latents)))
    films = [denoise.to_pixels(film) for film in (clip.frames[0] * 2 - 1, made)]
    path = job.out / f"{job.stage}_run" / "samples" / f"step-{step:08d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, torch.cat(films, dim=2).numpy(), SAMPLE_FPS, title=settings.name)
    return clip_flow(((made + 1) / 2).clamp(0, 1))
