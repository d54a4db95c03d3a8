"""What each training stage needs, trains and minimises."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.faces.draw import landmark_images
from mofa_nb.flow.s2d import S2D
from mofa_nb.models.models import ADAPTER_PARTS, has_fast_bfloat16
from mofa_nb.models.weights import has_weights, part_folder
from mofa_nb.train import sources, video
from mofa_nb.train.job import HALF, Job
from mofa_nb.train.loop import LossOf
from mofa_nb.train.s2d import ClipHints, mirrored, random_frames, recoloured, s2d_flow, s2d_loss
from mofa_nb.train.shards import full_flow, has_shards, open_shards, released_hints
from mofa_nb.train.sources import Pool, Size, Source, Stored, landmark_clip_hints, open_source
from mofa_nb.train.video import Parts

S2D_FRAMES = 2  # of a clip in a step: more clips teach more than more frames
NEAR_WEIGHT = 4.0  # lips and lids are small, and what a face is looked at for
Losses = tuple[Tensor, dict[str, Tensor]]  # what is minimised, and figures for the log
LossMaker = Callable[[Job, Parts, Settings], LossOf]


@dataclass(frozen=True)
class Stage:
    """Parts it opens and trains unless told otherwise, its loss, late config changes, and parts
    that it opens where the model has them."""

    parts: tuple[str, ...]
    trained: tuple[str, ...]
    loss: LossMaker
    changes: Callable[[Job, Parts], dict[str, dict]] | None = None
    optional: tuple[str, ...] = ()

    def opened(self, model: Path) -> tuple[str, ...]:
        there = (name for name in self.optional if has_weights(part_folder(model, name)))
        return (*self.parts, *there)


def trained_parts(job: Job) -> tuple[str, ...]:
    return job.train or STAGES[job.stage].trained


def vae_loss(vae: nn.Module, frames: Float[Tensor, "B T 3 H W"], kl_weight: float = 1e-5) -> Losses:
    """`picture_loss` of what comes back of frames in [0, 1], and a slight pull to unit latents."""
    pixels = frames.flatten(0, 1) * 2 - 1
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    decoded = vae.decode(posterior.sample(), num_frames=frames.shape[1]).sample
    loss, extras = picture_loss(decoded.float(), pixels)
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return loss + kl_weight * kl, extras


def picture_loss(decoded: Float[Tensor, "B 3 H W"], pixels: Float[Tensor, "B 3 H W"]) -> Losses:
    """Errors of pixels, of their differences and of local contrast, in [-1, 1]. The first two alone
    make everything soft that the latents do not tell exactly; the third asks for as much fine
    detail as there was, wherever it stands."""
    square = F.mse_loss(decoded, pixels)
    error = F.l1_loss(decoded, pixels) + 2 * square
    edges = sum(F.l1_loss(decoded.diff(dim=d), pixels.diff(dim=d)) for d in (-1, -2))
    actual, wanted = local_contrast(decoded), local_contrast(pixels)
    contrast = F.l1_loss(actual, wanted)
    psnr = -10 * torch.log10(square.detach() / 4)
    energy = actual.detach().square().mean() / wanted.square().mean()
    return error + 0.3 * edges + 6 * contrast, {"psnr": psnr, "energy": energy}


def local_contrast(images: Float[Tensor, "B 3 H W"], window: int = 5) -> Float[Tensor, "B 3 h w"]:
    """Root mean square of the gradient in every `window`."""
    across = images.diff(dim=-1)[..., :-1, :].square()
    down = images.diff(dim=-2)[..., :-1].square()
    return (F.avg_pool2d(across + down, window, stride=1) + 1e-5).sqrt()


def photo_crops(photos: sources.Photos, count: int, size: Size) -> Float[Tensor, "N 3 H W"]:
    """`count` crops in [0, 1]: random places, flips, gains, and scales from full to half."""
    device, side = photos.device, photos.shape[-1]
    tiles = photos[torch.randint(len(photos), (count,), device=device)].float() / 255
    theta = torch.zeros(count, 2, 3, device=device)
    least = max(size) / side
    zoom = least + (min(2 * least, 1.0) - least) * torch.rand(count, device=device) ** 2
    flip = torch.randint(0, 2, (count,), device=device) * 2 - 1
    theta[:, 0, 0] = zoom * size[1] / max(size) * flip
    theta[:, 1, 1] = zoom * size[0] / max(size)
    theta[:, :, 2] = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - zoom[:, None])
    grid = F.affine_grid(theta, [count, 3, 2 * size[0], 2 * size[1]], align_corners=False)
    crops = F.grid_sample(tiles, grid, padding_mode="reflection", align_corners=False)
    crops = F.avg_pool2d(crops, 2)
    gain = 1 + 0.2 * (torch.rand(count, 3, 1, 1, device=device) - 0.5)
    return (crops * gain).clamp(0, 1)


def _pool(job: Job, make: sources.ClipsOf, which: int = 0) -> Pool:
    """A pool of clips, renewed at the job's pace; `which` tells a stage's pools apart."""
    seed = (job.schedule.seed, PartialState().process_index, which)
    return Pool(make, job.pool, job.chunk, job.renew, seed)


def _vae(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = open_source(job)
    pool = _pool(job, lambda n: sources.stored(source.draw(n, job.frames, job.size)[0]))
    _halve(job, parts, ("vae",))

    def loss_of(turn: int) -> Losses:
        """Single photographs and short clips in turn, with the same number of images."""
        if turn % 2 == 0:
            frames = photo_crops(source.bank.photos, job.batch, job.size)[:, None]
        else:
            length = (4, 7, job.frames)[turn // 2 % 3]
            clips = pool.draw(max(job.batch // length, 1), turn // 2)
            frames = sources.restored(clips).frames[:, :length]
        return vae_loss(parts["vae"], frames)

    return loss_of


def _vae_changes(job: Job, parts: Parts) -> dict[str, dict]:
    """The latents' scale, unless the encoder kept them as they were."""
    if "vae.encoder" in job.freeze:
        return {}
    crops = photo_crops(open_source(job).bank.photos, 64, job.size)
    with torch.no_grad():
        deviation = parts["vae"].encode(crops * 2 - 1).latent_dist.mean.float().std()
    return {"vae": {"scaling_factor": round(float(1 / deviation), 5)}}


def _s2d_clips(batch: SceneBatch, hints: ClipHints) -> Stored:
    """What S2D is trained on: first frames, flow, and hints."""
    first = replace(batch, frames=batch.frames[:, :1])
    return sources.stored(first) | {"drawn": hints.mask, "told": hints.flow.half()}


def _s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = replace(open_source(job), varied=True)
    shapes = (job.size, (job.size[0], job.size[1] * 3 // 2))
    pools = [
        _pool(job, lambda n, size=size: _s2d_clips(*source.hinted(n, job.frames, size)), which)
        for which, size in enumerate(shapes)
    ]

    def loss_of(turn: int) -> Losses:
        wide, before = turn % 4 == 3, turn // 4
        clips = pools[wide].draw(job.batch, before if wide else turn - before)
        batch = sources.restored(clips)
        if turn // 4 % 4:
            hints = ClipHints(clips["drawn"], clips["told"].float())
        else:
            hints = ClipHints(sources.random_hints(batch, source.generator), batch.flow)
        frames = random_frames(S2D_FRAMES, batch.flow.shape[1], source.generator)
        batch, hints = mirrored(replace(batch, frames=recoloured(batch.frames)), hints)
        with job.autocast():
            return s2d_loss(parts["s2d"], batch, hints, frames, job.epe_weight)

    return loss_of


def _landmark_s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source, network = replace(open_source(job), faces_share=1.0), parts["landmark_s2d"]
    if not has_weights(part_folder(job.model, "landmark_s2d")):
        network.load_state_dict(parts["s2d"].state_dict())
    pool = _pool(job, lambda n: _s2d_clips(*source.hinted(n, job.frames, job.size)))

    def loss_of(turn: int) -> Losses:
        clips = pool.draw(job.batch, turn)
        batch, hints = sources.restored(clips), ClipHints(clips["drawn"], clips["told"].float())
        frames = random_frames(S2D_FRAMES, job.frames - 1, source.generator)
        with job.autocast():
            return s2d_loss(network, batch, hints, frames, job.epe_weight, NEAR_WEIGHT)

    return loss_of


def _denoising(name: str, from_bank: Callable, on_disk: Callable) -> LossMaker:
    """UNet + the adapter of this name, on clips made from a bank or read from shards; the base is
    frozen when `unet` is not among the trained parts."""

    def loss(job: Job, parts: Parts, settings: Settings) -> LossOf:
        on_shards, trained, adapter = has_shards(job.data), trained_parts(job), parts[name]
        clips_of = on_disk(job, parts) if on_shards else from_bank(job, parts, settings)
        if job.from_unet and name == "trajectory_adapter":
            video.start_as_unet(adapter, parts["unet"])
        elif name in trained and not has_weights(part_folder(job.model, name)):
            if name == "trajectory_adapter":
                video.stir_zero_convolutions(adapter)
            else:
                video.start_as(adapter, parts["trajectory_adapter"])
        _halve(job, parts, (*_BASE, name))
        free = job.free_share if "unet" in trained else 0.0
        loss_of = video.VideoLoss(job, parts, adapter, settings, free)
        return lambda turn: loss_of(clips_of(turn))

    return loss


def _scenes(job: Job, parts: Parts, settings: Settings) -> sources.ClipsOf:
    source = replace(open_source(job), varied=job.distill)

    def make(count: int) -> Stored:
        batch, drawn = source.hinted(count, job.frames, job.size)
        if job.distill:
            batch = replace(batch, frames=recoloured(batch.frames))
        given = _given_flow(job, parts["s2d"], source, batch, drawn)
        if not job.distill and parts["trajectory_adapter"].config.warp == "features":
            return video.prepare_clips(parts, batch, given, settings, job.as_released)
        moved = video.moved_clips(batch, given)
        if job.distill:
            batch = replace(batch, frames=video.foreseeable(batch, given, moved))
        clips = video.prepare_clips(parts, batch, given, settings, job.as_released)
        return clips | {"moved": sources.in_bytes(moved)}

    pool = _pool(job, make)
    return lambda turn: pool.draw(job.batch, turn)


def _stored_scenes(job: Job, parts: Parts) -> sources.ClipsOf:
    shards, sizes = open_shards(job, ""), parts["trajectory_adapter"].config
    every, smooth = sizes.strides[0], sizes.warp == "picture"

    def clips_of(turn: int) -> Stored:
        clips = shards.draw(job.batch, turn)
        if "image_encoder" in trained_parts(job):
            del clips["token"]  # it changes while its network learns
        given = full_flow(clips["flow"], every, smooth)
        if job.s2d_share:
            mask = torch.rand(len(given)).to(given.device) < job.s2d_share
            if "s2d_flow" in clips:
                dense = full_flow(clips["s2d_flow"], every, smooth)
            else:  # from hints that are drawn anew each time
                first, hints = clips["first"].float() / 255, released_hints(given, every)
                with job.autocast():
                    dense = s2d_flow(parts["s2d"], first, hints)
            given = dense.where(mask.view(-1, 1, 1, 1, 1), given)
        return clips | {"given": given}

    return clips_of


def _faces(job: Job, parts: Parts, settings: Settings) -> sources.ClipsOf:
    source, network = open_source(job), parts.get("landmark_s2d", parts["s2d"])
    cell = parts["landmark_adapter"].config.strides[0]

    def make(count: int) -> Stored:
        batch, points = source.faces(count, job.frames, job.size)
        given = _given_flow(job, network, source, batch, landmark_clip_hints(points, job.size))
        fresh = video.uncovered_share(batch.flow, batch.visible, cell)
        marks = {"images": landmark_pictures(points, job.size), "uncovered": fresh.half()}
        if parts["landmark_adapter"].config.warp == "picture":
            marks["moved"] = sources.in_bytes(video.moved_clips(batch, given))
        return video.prepare_clips(parts, batch, given, settings, job.as_released) | marks

    pool = _pool(job, make, 1)
    return lambda turn: pool.draw(job.batch, turn)


def _stored_faces(job: Job, parts: Parts) -> sources.ClipsOf:
    """Real faces from disk: hints and landmark images as in use (paper: section 3.3)."""
    shards, network = open_shards(job, "landmarks"), parts.get("landmark_s2d", parts["s2d"])

    def clips_of(turn: int) -> Stored:
        clips = shards.draw(job.batch, turn)
        points = clips["landmarks"]
        with job.autocast():
            hints = landmark_clip_hints(points, job.size)
            given = s2d_flow(network, clips["first"].float() / 255, hints)
        return clips | {"given": given, "images": landmark_pictures(points, job.size)}

    return clips_of


def _joint(job: Job, parts: Parts, settings: Settings) -> LossOf:
    losses = [make(job, parts, settings) for make in (_video, _landmark)]
    return lambda turn: losses[turn % 2](turn // 2)


def _given_flow(job: Job, s2d: S2D, source: Source, batch: SceneBatch, hints: ClipHints) -> Tensor:
    """Stage 1: the clips' own flow. Stage 2, for a share of them: what S2D makes of hints."""
    if job.s2d_share == 0:
        return batch.flow
    with job.autocast():
        dense = s2d_flow(s2d, batch.frames[:, 0], hints)
    mask = torch.rand(len(dense), generator=source.generator) < job.s2d_share
    return dense.where(mask.to(dense.device).view(-1, 1, 1, 1, 1), batch.flow)


def landmark_pictures(landmarks: sources.Points, size: Size) -> UInt8[Tensor, "B T 3 H W"]:
    return sources.in_bytes(landmark_images(landmarks, size))


def _halve(job: Job, parts: Parts, names: tuple[str, ...]) -> None:
    """Networks in the number format of `--precision`. auto: all in bfloat16 where that is fast, and
    the optimiser keeps float32 copies. bf16, fp16: what is frozen is kept in it, and accelerate
    runs what is trained, kept in float32, in it."""
    for name in names:
        if job.precision == "auto" and has_fast_bfloat16(job.device):
            parts[name].to(torch.bfloat16)
        elif job.precision in HALF and name not in trained_parts(job):
            overflows = name == "vae" and job.precision == "fp16"
            parts[name].to(torch.float32 if overflows else HALF[job.precision])


_BASE = ("unet", "vae", "image_encoder")
_TRACKED = (*_BASE, "trajectory_adapter", "s2d")
_ALL = (*_BASE, *ADAPTER_PARTS.values(), "s2d")
_video = _denoising("trajectory_adapter", _scenes, _stored_scenes)
_landmark = _denoising("landmark_adapter", _faces, _stored_faces)
STAGES = {
    "vae": Stage(("vae",), ("vae",), _vae, _vae_changes),
    "s2d": Stage(("s2d",), ("s2d",), _s2d),
    "landmark_s2d": Stage(("s2d", "landmark_s2d"), ("landmark_s2d",), _landmark_s2d),
    "video": Stage(_TRACKED, ("unet", "image_encoder", "trajectory_adapter"), _video),
    "trajectory": Stage(_TRACKED, ("trajectory_adapter",), _video),
    "landmark": Stage(_ALL, ("landmark_adapter",), _landmark, optional=("landmark_s2d",)),
    "joint": Stage(_ALL, ("unet", *ADAPTER_PARTS.values()), _joint, optional=("landmark_s2d",)),
}
