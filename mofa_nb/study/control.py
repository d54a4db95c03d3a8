"""How an adapter steers the frozen model: residuals measured, parts taken out, clips compared."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.unet import Residuals, VideoUNet, residual_counts
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes import evaluation_scenes as evaluation_scenes
from mofa_nb.flow import Hints, dense_flow, grid_features, resize_flow, splat_plan
from mofa_nb.flow.warp import THIN, inpainted
from mofa_nb.models.models import Models
from mofa_nb.sampling import denoise
from mofa_nb.study import metrics
from mofa_nb.study.hints import Flow, Progress, growing_hints, quiet

ARMS = ("full", "no warping", "no S2D")
RIVALS = ("still photograph", "splat and inpaint")
FloatClip = Float[Tensor, "T 3 H W"]  # [0, 1]
Image = Float[Tensor, "3 H W"]  # [0, 1]


def still_clip(image: Image, num_frames: int) -> FloatClip:
    """Rival 1: the photograph, held."""
    return image[None].repeat(num_frames, 1, 1, 1)


def splat_and_inpaint(image: Image, flow: Flow) -> FloatClip:
    """Rival 2: the photograph, then splatted (averaged) along the flow, holes inpainted."""
    warped = splat_plan(flow[None], "avg").apply(image[None])[0]
    holes = splat_plan(flow[None], "sum").coverage()[0, :, 0] < THIN
    return torch.cat([image[None], inpainted(warped, holes)])


def without_warp(conditioning: Conditioning) -> Conditioning:
    """The ablation without warping: every frame gets the first frame's own features."""
    levels = zip(conditioning.features, conditioning.warped, strict=True)
    return replace(conditioning, warped=tuple(f[:, None].expand_as(w) for f, w in levels))


def residual_names(unet: VideoUNet) -> list[str]:
    """What each residual belongs to, in the order of `Residuals.down`, then the middle."""
    names = ["first convolution"]
    for k, block in enumerate(unet.down_blocks, start=1):
        names += [f"block {k}, layer {n + 1}" for n in range(len(block.resnets))]
        names += [f"block {k}, shrunk"] if block.downsamplers is not None else []
    return [*names, "middle"]


def residual_strength(residuals: Residuals) -> list[float]:
    """Root mean square of each residual, in the order of `residual_names`."""
    return [float(r.float().square().mean().sqrt()) for r in (*residuals.down, residuals.mid)]


class EachOnce(Adapter):
    """`adapter`, its residuals divided by how often the released UNet adds each (up to four times).
    The networks are shared."""

    def __init__(self, adapter: Adapter, unet: VideoUNet):
        nn.Module.__init__(self)
        self.config, self.adapter = adapter.config, adapter
        self.counts = residual_counts(unet.down_blocks)

    def forward(self, *inputs, **settings) -> Residuals:
        """The adapter's residuals, each divided by how often it will be added."""
        residuals = self.adapter(*inputs, **settings)
        down = tuple(r / k for r, k in zip(residuals.down, self.counts, strict=True))
        return Residuals(down, residuals.mid)


def hints_as_flow(hints: Hints, size: tuple[int, int], cell: int) -> Flow:
    """The flow that the warp gets without S2D: each hint moves one latent cell, the rest stays.
    `cell`: image pixels per latent cell. A hint is given the whole cell it lies in: on a single
    pixel, most would fall between the pixels that the warp reads."""
    steps, (height, width) = len(hints.flow), hints.grid
    flow = hints.flow.new_zeros(steps, 2, *size)
    scale = flow.new_tensor([size[1] / width, size[0] / height])
    for row, column in hints.mask[0, 0].nonzero().tolist():
        top = int((row + 0.5) * size[0] / height) // cell * cell
        left = int((column + 0.5) * size[1] / width) // cell * cell
        vector = hints.flow[:, :, row, column] * scale
        flow[:, :, top : top + cell, left : left + cell] = vector[:, :, None, None]
    return flow


@torch.no_grad()
def sample_clip(
    models: Models, image: Image, conditioning: Conditioning | None,
    *, num_frames: int, seed: int, scale: float = 1.0, adapter: Adapter | None = None,
    watch: Callable[[denoise.Step], None] = lambda step: None, **settings,
) -> FloatClip:  # fmt: skip
    """A clip for one image and a conditioning of the trajectory adapter; None runs free. adapter:
    another one that takes this conditioning. watch: called after every step; `clean_frames` shows
    what was predicted then. settings: steps and trace, see `denoise.denoise_steps`."""
    start, noise = _start(models, image, num_frames, seed)
    adapter = adapter or (conditioning and models.adapter("trajectory"))
    controls = [denoise.Control(adapter, conditioning, scale)] if conditioning else []
    settings["guidance"] = models.settings.guidance[0], models.settings.guidance[-1]
    for step in denoise.denoise_steps(models, start, controls, noise, **settings):
        watch(step)
    return clean_frames(models, step)


def _start(models: Models, image: Image, num_frames: int, seed: int):
    return denoise.begin(models, image[None], num_frames, torch.Generator().manual_seed(seed))


@torch.no_grad()
def sampling_start(
    models: Models, image: Image, *, num_frames: int, steps: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, object]:
    """What a sampling loop begins with, as `sample_clip` has it, without guidance: noisy latents
    [1, T, C, h, w]; the image's latents for every frame, in the UNet's number format; the image's
    token; the added ids; the scheduler with its steps set."""
    start, noise = _start(models, image, num_frames, seed)
    scheduler = type(models.scheduler).from_config(models.scheduler.config)
    scheduler.set_timesteps(steps, device=models.device)
    dtype, ids = models.unet.dtype, noise.new_tensor([models.settings.time_ids])
    beside = start.latents.to(dtype)[:, None].expand(-1, num_frames, -1, -1, -1)
    latents = noise.float() * scheduler.init_noise_sigma
    return latents, beside, start.embedding.to(dtype), ids, scheduler


@torch.no_grad()
def clean_frames(models: Models, step: denoise.Step) -> FloatClip:
    """The clean frames that the networks predict at a step (paper: x0)."""
    frames = torch.cat(list(denoise.decode(models, step.denoised)))
    return ((frames + 1) / 2).clamp(0, 1).cpu()


@torch.no_grad()
def condition(models: Models, image: Image, flow: Flow) -> Conditioning:
    """The trajectory adapter's conditioning for an image and a flow in its pixels."""
    adapter = models.adapter("trajectory")
    like = next(adapter.parameters())
    return adapter.conditioning((image[None] * 2 - 1).to(like), flow[None].to(like.device))


def ablation(
    models: Models, scenes: SceneBatch, *, progress: Progress = quiet, seed: int, **settings: int
) -> dict[str, list[tuple[float, float]]]:
    """Re-tracked end-point error as a share of a still clip's, and PSNR in dB, per arm and scene.
    The arms see the same `hints` watershed hints and the same noise. "no warping": every frame gets
    the unwarped features. "no S2D": the hints go straight into the warp."""
    scores: dict[str, list] = {name: [] for name in (*ARMS, *RIVALS)}
    for number in range(len(scenes)):
        truth, flow, seen, _ = (field[number] for field in vars(scenes).values())
        clips = arm_clips(models, truth[0], flow, seed=seed + number, **settings)
        for name, clip in clips.items():
            scores[name].append((relative_epe(clip, flow, seen), metrics.psnr(clip[1:], truth[1:])))
        progress("scenes", number + 1, len(scenes))
    return scores


def arm_clips(
    models: Models, image: Image, flow: Flow, *, hints: int, steps: int, seed: int
) -> dict[str, FloatClip]:
    """One clip per arm of the ablation, and the two rivals, for one scene."""
    grid, size, frames = models.s2d.config.grid, tuple(image.shape[-2:]), len(flow) + 1
    sparse = growing_hints(resize_flow(flow, (grid, grid)), (hints,), seed)
    features = grid_features(models.s2d, image.to(models.device))
    dense = dense_flow(models.s2d, features, sparse.to(models.device), size).cpu()
    full = condition(models, image, dense)
    cell = models.adapter("trajectory").config.downscale
    arms = {
        "full": full,
        "no warping": without_warp(full),
        "no S2D": condition(models, image, hints_as_flow(sparse, size, cell)),
    }
    settings = {"num_frames": frames, "steps": steps, "seed": seed}
    clips = {name: sample_clip(models, image, arm, **settings) for name, arm in arms.items()}
    rivals = still_clip(image, frames), splat_and_inpaint(image, dense)
    return clips | dict(zip(RIVALS, rivals, strict=True))


def relative_epe(clip: FloatClip, flow: Flow, seen: Bool[Tensor, "steps 1 H W"]) -> float:
    """Re-tracked end-point error of a clip as a share of a still clip's; outlines left out."""
    points = metrics.probe_points(tuple(clip.shape[-2:]))
    x, y = points.unbind(-1)
    points = points[~metrics.on_outline(flow)[y, x] & seen[:, 0, y, x].any(0)]
    asked, visible = (metrics.at_points(field, points) for field in (flow, seen))
    return metrics.motion_scores(metrics.track_points(clip, points), asked, visible[..., 0]).ratio
