"""What each training stage needs, trains and minimises."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.flow.s2d import S2D
from mofa_nb.models.models import ADAPTER_PARTS, SMALL_CODERS, has_fast_bfloat16
from mofa_nb.models.weights import has_weights
from mofa_nb.train import pictures, sources, video
from mofa_nb.train.job import HALF, Job
from mofa_nb.train.loop import LossOf
from mofa_nb.train.s2d import Told, random_frames, recoloured, s2d_flow, s2d_loss
from mofa_nb.train.shards import full_flow, has_shards, open_shards
from mofa_nb.train.sources import Pool, Source, Stored, in_bytes, landmark_told, open_source
from mofa_nb.train.video import Parts

S2D_FRAMES = 2  # of a clip in a step: more clips teach more than more frames
NEAR_WEIGHT = 4.0  # lips and lids are small, and what a face is looked at for
LossMaker = Callable[[Job, Parts, Settings], LossOf]
ClipsOf = Callable[[int], Stored]  # what a turn trains on


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
        return (*self.parts, *(name for name in self.optional if has_weights(model / name)))


def trained_parts(job: Job) -> tuple[str, ...]:
    return job.train or STAGES[job.stage].trained


def _pool(job: Job, make: Callable[[int], Stored], which: int = 0) -> Pool:
    """A pool of clips, renewed at the job's pace; `which` tells a stage's pools apart."""
    seed = (job.schedule.seed, PartialState().process_index, which)
    return Pool(make, job.pool, job.chunk, job.renew, seed)


def _vae(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = open_source(job)
    pool = _pool(job, lambda n: sources.stored(source.draw(n, job.frames, job.size)[0]))
    _halve(job, parts, ("vae",))

    def loss_of(turn: int) -> pictures.Losses:
        """Single photographs and short clips in turn, with the same number of images."""
        if turn % 2 == 0:
            frames = pictures.photo_crops(source.bank.photos, job.batch, job.size)[:, None]
        else:
            length = (4, 7, job.frames)[turn // 2 % 3]
            clips = pool.draw(max(job.batch // length, 1), turn // 2)
            frames = sources.restored(clips).frames[:, :length]
        return pictures.vae_loss(parts["vae"], frames)

    return loss_of


def _vae_changes(job: Job, parts: Parts) -> dict[str, dict]:
    """The latents' scale, unless the encoder kept them as they were."""
    if "vae.encoder" in job.freeze:
        return {}
    crops = pictures.photo_crops(open_source(job).bank.photos, 64, job.size)
    with torch.no_grad():
        deviation = parts["vae"].encode(crops * 2 - 1).latent_dist.mean.float().std()
    return {"vae": {"scaling_factor": round(float(1 / deviation), 5)}}


def _on_pictures(pictures_loss: Callable[[Parts, Tensor], pictures.Losses]) -> LossMaker:
    """A stage that takes photographs alone, many of them varied and in other colours."""

    def loss(job: Job, parts: Parts, settings: Settings) -> LossOf:
        source = open_source(job)
        photos = source.bank.photos
        _halve(job, parts, ("vae",))
        if "adapter" in parts and not has_weights(job.model / "adapter"):
            video.wake(parts["adapter"])

        def loss_of(turn: int) -> pictures.Losses:
            tiles = photos
            if turn % 2:
                tiles = sources.varied_photos(photos, job.batch, source.generator)
            crops = pictures.photo_crops(tiles, job.batch, job.size)
            with job.autocast():
                return pictures_loss(parts, recoloured(crops[:, None])[:, 0])

        return loss_of

    return loss


def _told(batch: SceneBatch, hints: Told) -> Stored:
    """What S2D is trained on: first frames, flow, and hints."""
    first = replace(batch, frames=batch.frames[:, :1])
    return sources.stored(first) | {"drawn": hints.mask, "told": hints.flow.half()}


def _s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = replace(open_source(job), varied=True)
    shapes = (job.size, (job.size[0], job.size[1] * 3 // 2))
    pools = [
        _pool(job, lambda n, size=size: _told(*source.hinted(n, job.frames, size)), which)
        for which, size in enumerate(shapes)
    ]

    def loss_of(turn: int) -> pictures.Losses:
        wide, before = turn % 4 == 3, turn // 4
        clips = pools[wide].draw(job.batch, before if wide else turn - before)
        batch = sources.restored(clips)
        if turn // 4 % 4:
            hints = Told(clips["drawn"], clips["told"].float())
        else:
            hints = Told(sources.random_hints(batch, source.generator), batch.flow)
        frames = random_frames(S2D_FRAMES, batch.flow.shape[1], source.generator)
        batch = replace(batch, frames=recoloured(batch.frames))
        with job.autocast():
            return s2d_loss(parts["s2d"], batch, hints, frames, job.epe_weight)

    return loss_of


def _face_s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source, network = replace(open_source(job), faces_share=1.0), parts["face_s2d"]
    if not has_weights(job.model / "face_s2d"):
        network.load_state_dict(parts["s2d"].state_dict())
    pool = _pool(job, lambda n: _told(*source.hinted(n, job.frames, job.size)))

    def loss_of(turn: int) -> pictures.Losses:
        clips = pool.draw(job.batch, turn)
        batch, hints = sources.restored(clips), Told(clips["drawn"], clips["told"].float())
        frames = random_frames(S2D_FRAMES, job.frames - 1, source.generator)
        with job.autocast():
            return s2d_loss(network, batch, hints, frames, job.epe_weight, NEAR_WEIGHT)

    return loss_of


def _denoising(name: str, made: Callable, on_disk: Callable) -> LossMaker:
    """UNet + the adapter of this name, on clips made from a bank or read from shards; the base is
    frozen when `unet` is not among the trained parts."""

    def loss(job: Job, parts: Parts, settings: Settings) -> LossOf:
        on_shards, trained, adapter = has_shards(job.data), trained_parts(job), parts[name]
        clips_of = on_disk(job, parts) if on_shards else made(job, parts, settings)
        if job.from_unet and name == "adapter":
            video.start_as_unet(adapter, parts["unet"])
        elif name in trained and not has_weights(job.model / name):
            if name == "adapter":
                video.wake(adapter)
            else:
                video.start_as(adapter, parts["adapter"])
        _halve(job, parts, (*_BASE, name))
        free = job.free_share if "unet" in trained else 0.0
        loss_of = video.VideoLoss(job, parts, adapter, settings, free)
        return lambda turn: loss_of(clips_of(turn))

    return loss


def _scenes(job: Job, parts: Parts, settings: Settings) -> ClipsOf:
    source = replace(open_source(job), varied=job.distill)

    def make(count: int) -> Stored:
        batch, drawn = source.hinted(count, job.frames, job.size)
        if job.distill:
            batch = replace(batch, frames=recoloured(batch.frames))
        given = _given_flow(job, parts["s2d"], source, batch, drawn)
        if not job.distill and parts["adapter"].config.warp == "features":
            return video.ready(parts, batch, given, settings, job.as_released)
        moved = video.moved_clips(batch, given)
        if job.distill:
            batch = replace(batch, frames=video.foreseeable(batch, given, moved))
        return video.ready(parts, batch, given, settings, job.as_released) | {
            "moved": in_bytes(moved)
        }

    pool = _pool(job, make)
    return lambda turn: pool.draw(job.batch, turn)


def _stored_scenes(job: Job, parts: Parts) -> ClipsOf:
    """The same from disk; S2D's flow from hints stands beside each clip's own."""
    shards = open_shards(job, "s2d_flow" if job.s2d_share else "")

    def clips_of(turn: int) -> Stored:
        clips = shards.draw(job.batch, turn)
        if "image_encoder" in trained_parts(job):
            del clips["token"]  # it changes while its network learns
        given = clips["flow"]
        if job.s2d_share:
            chosen = torch.rand(len(given)).to(given.device) < job.s2d_share
            given = clips["s2d_flow"].where(chosen.view(-1, 1, 1, 1, 1), given)
        return clips | {"given": full_flow(given, parts["adapter"].config.strides[0])}

    return clips_of


def _faces(job: Job, parts: Parts, settings: Settings) -> ClipsOf:
    source, network = open_source(job), parts.get("face_s2d", parts["s2d"])
    cell = parts["landmark_adapter"].config.strides[0]

    def make(count: int) -> Stored:
        batch, points = source.faces(count, job.frames, job.size)
        given = _given_flow(job, network, source, batch, landmark_told(points, job.size))
        fresh = video.uncovered_share(batch.flow, batch.visible, cell)
        marks = {"images": drawn_landmarks(points, job.size), "uncovered": fresh.half()}
        return video.ready(parts, batch, given, settings, job.as_released) | marks

    pool = _pool(job, make, 1)
    return lambda turn: pool.draw(job.batch, turn)


def _stored_faces(job: Job, parts: Parts) -> ClipsOf:
    """Real faces from disk: hints and landmark images as in use (paper: section 3.3)."""
    shards, network = open_shards(job, "landmarks"), parts.get("face_s2d", parts["s2d"])

    def clips_of(turn: int) -> Stored:
        clips = shards.draw(job.batch, turn)
        points = clips["landmarks"]
        with job.autocast():
            hints = landmark_told(points, job.size)
            given = s2d_flow(network, clips["first"].float() / 255, hints)
        return clips | {"given": given, "images": drawn_landmarks(points, job.size)}

    return clips_of


def _joint(job: Job, parts: Parts, settings: Settings) -> LossOf:
    """Scenes with the trajectory adapter and faces with the landmark adapter, in turn."""
    losses = [make(job, parts, settings) for make in (_video, _landmark)]
    return lambda turn: losses[turn % 2](turn // 2)


def _given_flow(job: Job, s2d: S2D, source: Source, batch: SceneBatch, hints: Told) -> Tensor:
    """Stage 1: the clips' own flow. Stage 2, for a share of them: what S2D makes of hints."""
    if job.s2d_share == 0:
        return batch.flow
    with job.autocast():
        dense = s2d_flow(s2d, batch.frames[:, 0], hints)
    chosen = torch.rand(len(dense), generator=source.generator) < job.s2d_share
    return dense.where(chosen.to(dense.device).view(-1, 1, 1, 1, 1), batch.flow)


def drawn_landmarks(
    landmarks: Float[Tensor, "B T 68 2"], size: tuple[int, int]
) -> UInt8[Tensor, "B T 3 H W"]:
    from mofa_nb.faces.draw import landmark_images

    return in_bytes(landmark_images(landmarks, size))


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
_ALL = (*_BASE, "adapter", "landmark_adapter", "s2d")
_video = _denoising("adapter", _scenes, _stored_scenes)
_landmark = _denoising("landmark_adapter", _faces, _stored_faces)
STAGES = {
    "vae": Stage(("vae",), ("vae",), _vae, _vae_changes),
    "coders": Stage(("vae", *SMALL_CODERS), SMALL_CODERS, _on_pictures(pictures.coder_loss)),
    "embedder": Stage(("vae", "adapter"), ("adapter",), _on_pictures(pictures.embedder_loss)),
    "s2d": Stage(("s2d",), ("s2d",), _s2d),
    "face_s2d": Stage(("s2d", "face_s2d"), ("face_s2d",), _face_s2d),
    "video": Stage((*_BASE, "adapter", "s2d"), ("unet", "image_encoder", "adapter"), _video),
    "adapter": Stage((*_BASE, "adapter", "s2d"), ("adapter",), _video),
    "landmark": Stage(_ALL, ("landmark_adapter",), _landmark, optional=("face_s2d",)),
    "joint": Stage(_ALL, ("unet", *ADAPTER_PARTS.values()), _joint, optional=("face_s2d",)),
}
