"""What each training stage needs, trains and minimises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mofa_nb.checks import InputError
from mofa_nb.clips import open_bank
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.config import Settings
from mofa_nb.flow.s2d import S2D
from mofa_nb.models.parts import SMALL_CODERS, has_fast_bfloat16
from mofa_nb.models.weights import has_weights
from mofa_nb.train import vae as vae_stage
from mofa_nb.train.coders import coder_loss, embedder_loss
from mofa_nb.train.loop import LossOf, Schedule
from mofa_nb.train.pool import Pool, Stored, restored, stored
from mofa_nb.train.s2d import Told, mirrored, random_frames, recoloured, s2d_flow, s2d_loss
from mofa_nb.train.shards import Shards, full_flow, has_shards
from mofa_nb.train.sources import Source, landmark_told, random_hints, varied_photos
from mofa_nb.train.video import (
    VideoLoss,
    encoded,
    foreseeable,
    moved_clips,
    start_as,
    start_as_unet,
    uncovered_share,
    wake,
)

S2D_FRAMES = 2  # of a clip in a step: more clips teach more than more frames
NEAR_WEIGHT = 4.0  # lips and lids are small, and what a face is looked at for
Parts = Mapping[str, nn.Module]
PicturesLoss = Callable[[Parts, Tensor], tuple[Tensor, dict[str, Tensor]]]


_bank = lru_cache(maxsize=1)(open_bank)


@dataclass(frozen=True)
class Job:
    """One training run, as given on the command line."""

    stage: str
    model: Path
    data: Path
    out: Path
    schedule: Schedule
    batch: int
    frames: int
    size: tuple[int, int]
    device: str
    trained: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    high_share: float = 0.0
    free_share: float = 0.15
    drop_rate: float = 0.1
    log_normal: bool = False
    cells: int = 0
    s2d_share: float = 0.0
    distill: bool = False
    epe_weight: float = 0.05
    faces_share: float = 0.0
    clips_share: float = 0.25
    pool: int = 256
    chunk: int = 32
    renew: int = 16
    resume: bool = False
    fresh_clock: bool = False
    bits: int = 16
    log_every: int = 50
    sample_every: int = 0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    from_scratch: tuple[str, ...] = ()
    from_unet: bool = False
    log_with: tuple[str, ...] = ()

    def autocast(self) -> torch.autocast:
        """bfloat16 arithmetic with float32 weights, where the hardware has it."""
        kind, fast = torch.device(self.device).type, has_fast_bfloat16(self.device)
        return torch.autocast(kind, torch.bfloat16, enabled=fast)

    def pooled(self, make: Callable[[int], Stored], which: int = 0) -> Pool:
        """A pool of clips, renewed at the pace of `renew`; `which` tells a stage's pools apart."""
        seed = (self.schedule.seed, PartialState().process_index, which)
        return Pool(make, self.pool, self.chunk, self.renew, seed)

    def shards(self, needs: str) -> Shards:
        """The clips on disk that have what is needed, all of one size; InputError if not ours."""
        held_out = self.sample_every > 0
        shards = Shards(self.data, self.schedule.seed, self.device, needs, held_out)
        about = shards.read(0)
        found = (len(about["latents"]), *about["about"]["size"])
        if found != (self.frames, *self.size):
            count, height, width = found
            raise InputError(
                f"the clips in {self.data} have {count} frames of {height}x{width}: say --frames "
                f"{count} --size {height} {width}"
            )
        return shards

    def source(self) -> Source:
        """The opened bank, on the device; it draws from torch's own generator, which the loop and
        the pools seed."""
        bank = _bank(self.data)
        if self.clips_share and len(bank.clips):
            bank.check_crop(self.size)
        return Source(
            bank.to(self.device), torch.default_generator, self.clips_share, self.faces_share
        )


@dataclass(frozen=True)
class Stage:
    """Parts it opens, parts it trains unless told otherwise, its loss, late config changes, and
    parts it opens where the model has them."""

    parts: tuple[str, ...]
    trained: tuple[str, ...]
    loss: Callable[..., LossOf]
    changes: Callable[[Job, Parts], dict[str, dict]] | None = None
    optional: tuple[str, ...] = ()

    def opened(self, model: Path) -> tuple[str, ...]:
        """The parts it opens of this model."""
        return (*self.parts, *(name for name in self.optional if has_weights(model / name)))


def _vae(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = job.source()
    pool = job.pooled(lambda n: stored(source.draw(n, job.frames, job.size)))

    def frames_of(turn: int) -> Tensor:
        """Single photographs and short clips in turn, with the same number of images."""
        if turn % 2 == 0:
            return vae_stage.photo_crops(source.bank.photos, job.batch, job.size)[:, None]
        length = (4, 7, job.frames)[turn // 2 % 3]
        clips = pool.draw(max(job.batch // length, 1), turn // 2)
        return restored(clips).frames[:, :length]

    _halve(job, parts, ("vae",))

    def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        return vae_stage.vae_loss(parts["vae"], frames_of(turn))

    return loss_of


def _on_pictures(pictures_loss: PicturesLoss) -> Callable[..., LossOf]:
    """A stage that takes photographs alone, many of them varied and in other colours."""

    def loss(job: Job, parts: Parts, settings: Settings) -> LossOf:
        source = job.source()
        photos = source.bank.photos
        _halve(job, parts, ("vae",))
        if "adapter" in parts and not has_weights(job.model / "adapter"):
            wake(parts["adapter"])

        def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
            tiles = varied_photos(photos, job.batch, source.generator) if turn % 2 else photos
            crops = vae_stage.photo_crops(tiles, job.batch, job.size)
            with job.autocast():
                return pictures_loss(parts, recoloured(crops[:, None])[:, 0])

        return loss_of

    return loss


def _vae_changes(job: Job, parts: Parts) -> dict[str, dict]:
    """The latents' scale, unless the encoder kept them as they were."""
    if "vae.encoder" in job.frozen:
        return {}
    crops = vae_stage.photo_crops(job.source().bank.photos, 64, job.size)
    return {"vae": {"scaling_factor": round(vae_stage.latent_scale(parts["vae"], crops), 5)}}


def _s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source = replace(job.source(), varied=True)
    shapes = (job.size, (job.size[0], job.size[1] * 3 // 2))

    def make(count: int, size: tuple[int, int]) -> Stored:
        batch, drawn = source.hinted(count, job.frames, size)
        return _told(batch, drawn)

    pools = [job.pooled(lambda n, s=s: make(n, s), k) for k, s in enumerate(shapes)]

    def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        wide, before = turn % 4 == 3, turn // 4
        clips = pools[wide].draw(job.batch, before if wide else turn - before)
        batch, drawn = restored(clips), turn // 4 % 4 > 0
        hints = Told(clips["drawn"], clips["told"].float())
        if not drawn:
            hints = Told(random_hints(batch, source.generator), batch.flow)
        frames = random_frames(S2D_FRAMES, batch.flow.shape[1], source.generator)
        batch, hints = mirrored(replace(batch, frames=recoloured(batch.frames)), hints)
        with job.autocast():
            return s2d_loss(parts["s2d"], batch, hints, frames, job.epe_weight)

    return loss_of


def _told(batch: SceneBatch, hints: Told) -> Stored:
    """What S2D is trained on: first frames, flow, and hints."""
    first = replace(batch, frames=batch.frames[:, :1])
    return stored(first) | {"drawn": hints.mask, "told": hints.flow.half()}


def _face_s2d(job: Job, parts: Parts, settings: Settings) -> LossOf:
    source, network = job.source(), parts["face_s2d"]
    if not has_weights(job.model / "face_s2d"):
        network.load_state_dict(parts["s2d"].state_dict())

    def make(count: int) -> Stored:
        batch, points = source.faces(count, job.frames, job.size)
        return _told(batch, landmark_told(points, job.size))

    pool = job.pooled(make)

    def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        clips = pool.draw(job.batch, turn)
        hints = Told(clips["drawn"], clips["told"].float())
        frames = random_frames(S2D_FRAMES, job.frames - 1, source.generator)
        with job.autocast():
            return s2d_loss(network, restored(clips), hints, frames, job.epe_weight, NEAR_WEIGHT)

    return loss_of


def _video(job: Job, parts: Parts, settings: Settings) -> LossOf:
    if has_shards(job.data):
        return _from_shards(job, parts, settings)
    source = replace(job.source(), varied=job.distill)
    loss = _denoising(job, parts, settings, "adapter")

    def make(count: int) -> Stored:
        batch, drawn = source.hinted(count, job.frames, job.size)
        if job.distill:
            batch = replace(batch, frames=recoloured(batch.frames))
        given = _given_flow(job, parts["s2d"], source, batch, drawn)
        if not job.distill and parts["adapter"].config.warp == "features":
            return _encoded(parts, settings, batch, given)
        moved = moved_clips(batch, given)
        if job.distill:
            batch = replace(batch, frames=foreseeable(batch, given, moved))
        return _encoded(parts, settings, batch, given) | {"moved": (moved * 255).round().byte()}

    pool = job.pooled(make)
    return lambda turn: loss(pool.draw(job.batch, turn))


def _joint(job: Job, parts: Parts, settings: Settings) -> LossOf:
    """Scenes with the trajectory adapter and faces with the landmark adapter, in turn."""
    losses = [make(job, parts, settings) for make in (_video, _landmark)]
    return lambda turn: losses[turn % 2](turn // 2)


def _from_shards(job: Job, parts: Parts, settings: Settings) -> LossOf:
    """The same with clips from disk; S2D's flow from hints stands beside each clip's own."""
    loss = _denoising(job, parts, settings, "adapter")
    shards = job.shards("s2d_flow" if job.s2d_share else "")
    every = parts["adapter"].config.strides[0]

    def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        clips = shards.draw(job.batch, turn)
        if "image_encoder" in (job.trained or STAGES[job.stage].trained):
            del clips["token"]  # it changes while its network learns
        given = clips["flow"]
        if job.s2d_share:
            chosen = torch.rand(len(given)).to(given.device) < job.s2d_share
            given = clips["s2d_flow"].where(chosen.view(-1, 1, 1, 1, 1), given)
        return loss(clips | {"given": full_flow(given, every)})

    return loss_of


def _talking(job: Job, parts: Parts, settings: Settings) -> LossOf:
    """Real faces from disk: hints and landmark images as in use (paper: section 3.3)."""
    loss = _denoising(job, parts, settings, "landmark_adapter")
    shards, network = job.shards("landmarks"), parts.get("face_s2d", parts["s2d"])

    def loss_of(turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        clips = shards.draw(job.batch, turn)
        points, first = clips["landmarks"], clips["first"].float()[:, None] / 255
        hints = landmark_told(points, job.size)
        batch = SceneBatch(first, hints.flow, hints.mask[:, None], hints.mask[:, 0].long())
        with torch.no_grad(), job.autocast():
            given = s2d_flow(network, batch, hints)
        return loss(clips | {"given": given, "images": drawn_landmarks(points, job.size)})

    return loss_of


def _landmark(job: Job, parts: Parts, settings: Settings) -> LossOf:
    if has_shards(job.data):
        return _talking(job, parts, settings)
    source = job.source()
    loss = _denoising(job, parts, settings, "landmark_adapter")

    def make(count: int) -> Stored:
        batch, points = source.faces(count, job.frames, job.size)
        hints = landmark_told(points, job.size)
        given = _given_flow(job, parts.get("face_s2d", parts["s2d"]), source, batch, hints)
        clips = _encoded(parts, settings, batch, given)
        cell = parts["landmark_adapter"].config.strides[0]
        fresh = uncovered_share(batch.flow, batch.visible, cell)
        return clips | {"images": drawn_landmarks(points, job.size), "uncovered": fresh.half()}

    pool = job.pooled(make, 1)
    return lambda turn: loss(pool.draw(job.batch, turn))


def _encoded(parts: Parts, settings: Settings, batch: SceneBatch, given: Tensor) -> Stored:
    """Clips as the pool keeps them: what frozen parts make of them is made once."""
    first = {"first": (batch.frames[:, 0] * 255).round().byte(), "given": given.half()}
    return encoded(parts["vae"], batch.frames, settings) | first


def _given_flow(job: Job, s2d: S2D, source: Source, batch: SceneBatch, hints: Told) -> Tensor:
    """Stage 1: the clips' own flow. Stage 2, for a share of them: what S2D makes of hints."""
    if job.s2d_share == 0:
        return batch.flow
    with job.autocast():
        dense = s2d_flow(s2d, batch, hints)
    chosen = torch.rand(len(dense), generator=source.generator) < job.s2d_share
    return dense.where(chosen.to(dense.device).view(-1, 1, 1, 1, 1), batch.flow)


def drawn_landmarks(
    landmarks: Float[Tensor, "B T 68 2"], size: tuple[int, int]
) -> UInt8[Tensor, "B T 3 H W"]:
    """Landmark images as bytes."""
    from mofa_nb.faces.draw import landmark_images

    return (landmark_images(landmarks, size) * 255).round().byte()


def _denoising(job: Job, parts: Parts, settings: Settings, name: str) -> VideoLoss:
    """UNet + one adapter; the base is frozen when `unet` is not among the trained parts."""
    trained = job.trained or STAGES[job.stage].trained
    if job.from_unet and name == "adapter":
        start_as_unet(parts[name], parts["unet"])
    elif name in trained and not has_weights(job.model / name):
        start_as(parts[name], parts["adapter"]) if "landmark" in name else wake(parts[name])
    _halve(job, parts, (*_BASE, name))
    free = job.free_share if "unet" in trained else 0.0
    return VideoLoss(
        parts, parts[name], settings, free, job.high_share, job.cells, job.drop_rate, job.log_normal
    )


def _halve(job: Job, parts: Parts, names: tuple[str, ...]) -> None:
    """The number format of the networks, as `--precision` says.

    auto: all in bfloat16 where that is fast, and the optimiser keeps float32 copies. bf16, fp16:
    what is frozen is kept in it, and accelerate runs what is trained, kept in float32, in it.
    """
    trained = job.trained or STAGES[job.stage].trained
    for name in names:
        if job.precision == "auto" and has_fast_bfloat16(job.device):
            parts[name].to(torch.bfloat16)
        elif job.precision in HALF and name not in trained:
            overflows = name == "vae" and job.precision == "fp16"
            parts[name].to(torch.float32 if overflows else HALF[job.precision])


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BASE = ("unet", "vae", "image_encoder")
STAGES = {
    "vae": Stage(("vae",), ("vae",), _vae, _vae_changes),
    "coders": Stage(
        ("vae", *SMALL_CODERS), SMALL_CODERS, _on_pictures(coder_loss)
    ),
    "embedder": Stage(
        ("vae", "adapter"), ("adapter",), _on_pictures(embedder_loss)
    ),
    "s2d": Stage(("s2d",), ("s2d",), _s2d),
    "face_s2d": Stage(("s2d", "face_s2d"), ("face_s2d",), _face_s2d),
    "video": Stage(
        (*_BASE, "adapter", "s2d"), ("unet", "image_encoder", "adapter"), _video
    ),
    "adapter": Stage((*_BASE, "adapter", "s2d"), ("adapter",), _video),
    "landmark": Stage(
        (*_BASE, "adapter", "landmark_adapter", "s2d"), ("landmark_adapter",), _landmark,
        optional=("face_s2d",),
    ),
    "joint": Stage(
        (*_BASE, "adapter", "landmark_adapter", "s2d"),
        ("unet", "adapter", "landmark_adapter"), _joint,
        optional=("face_s2d",),
    ),
}  # fmt: skip
