"""Endless batches of clips with dense flow (drawn scenes, real clips, rendered faces), the hints
drawn on them, and pools that keep them ready."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import Size
from mofa_nb.clips.draws import Painter
from mofa_nb.clips.footage.bank import Bank, open_bank, random_clips
from mofa_nb.clips.heads.head import random_curves
from mofa_nb.clips.heads.render import animate_portrait, render_faces
from mofa_nb.clips.scenes import SceneBatch, random_scenes
from mofa_nb.faces.detect import portrait_crop
from mofa_nb.faces.draw import landmark_hints
from mofa_nb.flow.samplers import spread_watershed_points
from mofa_nb.media.images import read_image
from mofa_nb.paths import data_file
from mofa_nb.train.job import Job
from mofa_nb.train.s2d import ClipHints

PORTRAIT, PORTRAIT_SHARE = "astronaut.jpg", 0.25  # a photograph that is free to train on
_bank = lru_cache(maxsize=1)(open_bank)
Stored = dict[str, Tensor]  # arrays by name
ClipsOf = Callable[[int], Stored]
Points = Float[Tensor, "B T 68 2"]  # landmarks in pixels
Photos, Hints = UInt8[Tensor, "P 3 S S"], Bool[Tensor, "B 1 H W"]


@dataclass(frozen=True)
class Source:
    """Draws batches from a bank: some of real clips, some of rendered faces, else of scenes, which
    are of `varied_photos` if `varied`. The generator, on the CPU, decides all that is drawn."""

    bank: Bank
    generator: torch.Generator
    clips_share: float = 0.0
    faces_share: float = 0.0
    varied: bool = False

    def draw(self, batch: int, frames: int, size: Size) -> tuple[SceneBatch, Points | None]:
        """Clips of (H, W) `size` on the bank's device, and the landmarks of faces in pixels."""
        chance = self._chance()
        if chance < self.faces_share:
            return self.faces(batch, frames, size)
        if chance < self.faces_share + self.clips_share and len(self.bank.clips):
            clips = random_clips(self.bank, batch, size, self.generator)
            flow, visible = clips.flow[:, : frames - 1], clips.visible[:, : frames - 1]
            return SceneBatch(clips.frames[:, :frames], flow, visible, clips.layers), None
        photos = self.bank.photos
        if self.varied:
            photos = varied_photos(photos, 6 * batch, self.generator)
        return random_scenes(photos, batch, frames, size, generator=self.generator), None

    def hinted(self, batch: int, frames: int, size: Size) -> tuple[SceneBatch, ClipHints]:
        """Clips, and the hints of use: the flow at watershed points, or the landmarks' way."""
        clips, landmarks = self.draw(batch, frames, size)
        if landmarks is None:
            return clips, ClipHints(watershed_hints(clips, self.generator), clips.flow)
        return clips, landmark_clip_hints(landmarks, size)

    def faces(self, batch: int, frames: int, size: Size) -> tuple[SceneBatch, Points]:
        """Rendered faces, or now and then a photographed one that its mesh moves."""
        photos = self.bank.photos
        if size[0] == size[1] and self._chance() < PORTRAIT_SHARE:
            margin = 1.7 + 0.9 * self._chance()
            photo, points = portrait_crop(read_image(data_file(PORTRAIT)), size[0], margin=margin)
            curves = random_curves(Painter(batch, photos.device, self.generator), frames)
            clips = animate_portrait(photo.to(photos.device), points, curves)
        else:
            clips = render_faces(batch, frames, size, photos, self.generator)
        return clips, clips.landmarks

    def _chance(self) -> float:
        return float(torch.rand((), generator=self.generator))


def open_source(job: Job) -> Source:
    """The job's bank, on its device; drawn from by torch's own generator, which the loop and the
    pools seed. InputError where its clips are too small."""
    bank = _bank(job.data)
    if job.clips_share and len(bank.clips):
        bank.check_crop(job.size)
    shares = job.clips_share, job.faces_share
    return Source(bank.to(job.device), torch.default_generator, *shares)


def varied_photos(photos: Photos, count: int, generator: torch.Generator) -> Photos:
    """`count` tiles that nobody has by heart: quarter turns, most laid over another, some soft."""

    def drawn() -> Tensor:
        index = torch.randint(len(photos), (count,), generator=generator)
        tiles = photos[index.to(photos.device)].float()
        parts = zip(tiles.chunk(4), range(4), strict=False)
        return torch.cat([part.rot90(turns, (2, 3)) for part, turns in parts])

    first, second = drawn(), drawn()[torch.randperm(count, generator=generator)]
    dice = torch.rand(4, count, 1, 1, 1, generator=generator).to(photos.device)
    soft = tiles = first.lerp(second, 0.5 * dice[0] * (dice[1] < 0.7))
    for _ in range(2):
        soft = F.avg_pool2d(soft, 3, stride=1, padding=1, count_include_pad=False)
    return tiles.lerp(soft, dice[2] * (dice[3] < 0.4)).round().byte()


def random_hints(batch: SceneBatch, generator: torch.Generator, most: int = 48) -> Hints:
    """Pixels of frame 0 that carry a hint, where the flow is known in the last frame: nearly always
    one per layer at rest and in motion, the rest at random. Their number per clip is log-uniform in
    [1, most]: few drawn tracks and dense samples are both to be understood."""
    visible = batch.visible[:, -1, 0].flatten(1)
    score = torch.rand(visible.shape, device=visible.device).where(visible, -1)
    segments = (2 * batch.layers + (batch.flow[:, -1].norm(dim=1) > 1.5)).flatten(1)
    hints = torch.zeros_like(visible)
    for segment in range(int(segments.max()) + 1):
        best, at = score.where(segments == segment, -1).max(1, keepdim=True)
        keep = (best >= 0) & (torch.rand(best.shape, device=best.device) < 0.9)
        hints.scatter_(1, at, keep | hints.gather(1, at))
    number = torch.exp(torch.rand(len(visible), 1, generator=generator) * math.log(most)).long()
    least = score.topk(most).values.gather(1, number.clamp(1, most).to(score.device) - 1)
    return (hints | (score >= least.clamp(min=0))).view_as(batch.layers)[:, None]


def watershed_hints(batch: SceneBatch, generator: torch.Generator, most: int = 24) -> Hints:
    """Pixels of frame 0 where a user would draw: the inside of what moves as one, well spread;
    between 4 and `most` a clip, where the flow is known in the last frame."""
    hints = torch.zeros_like(batch.layers, dtype=torch.bool)
    window = 2 * round(7 * min(batch.layers.shape[1:]) / 384) + 1
    for clip, mask in enumerate(hints):
        seed, draw = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        visible = batch.visible[clip, -1, 0].cpu()
        count = min(int(4 * (most / 4) ** draw), int(visible.sum()))
        if count == 0:
            continue
        rng, flow = np.random.default_rng(int(seed * 2**32)), batch.flow[clip].cpu()
        points = spread_watershed_points(flow, rng, count=count, window=window, allowed=visible)
        x, y = points.to(mask.device).unbind(-1)
        mask[y, x] = True
    return hints[:, None]


def landmark_clip_hints(landmarks: Points, size: Size) -> ClipHints:
    """What landmarks tell S2D in use, on clips of (H, W) `size`."""
    hints = [landmark_hints(points, size, size) for points in landmarks]
    masks = torch.stack([each.mask[0] > 0 for each in hints])
    return ClipHints(masks, torch.stack([each.flow for each in hints]))


def drawn_seed(*numbers: int) -> int:
    """A seed of 32 bits that follows from all of these numbers, and hardly from fewer."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Pool:
    """`capacity` clips, made in chunks, since a clip costs many small operations whatever the
    batch; one chunk of them is replaced every `every` turns. Chunk k is drawn from `seed` and k
    alone, so a resumed run makes the very clips that the uninterrupted one has then."""

    def __init__(self, make: ClipsOf, capacity: int, chunk: int, every: int, seed=(0,)):
        self.make, self.chunk, self.every, self.seed = make, min(chunk, capacity), every, seed
        self.chunks, self.stored, self.next = max(capacity // self.chunk, 1), {}, 0

    def __len__(self) -> int:
        return self.chunks * self.chunk

    def draw(self, batch: int, turn: int) -> Stored:
        """`batch` different clips at random (fewer if the pool is smaller), as of this turn."""
        first = turn // self.every if self.every else 0
        for number in range(max(self.next, first), first + self.chunks):
            self._fill(number)
        self.next = first + self.chunks
        device = next(iter(self.stored.values())).device
        index = torch.randperm(len(self), device=device)[:batch]
        return {key: value[index] for key, value in self.stored.items()}

    def _fill(self, number: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng(), torch.autocast(device, enabled=False):
            torch.manual_seed(drawn_seed(*self.seed, number))
            clips = self.make(self.chunk)
        slot = number % self.chunks * self.chunk
        for key, fresh in clips.items():
            if key not in self.stored:
                self.stored[key] = fresh.new_empty((len(self), *fresh.shape[1:]))
            self.stored[key][slot : slot + self.chunk] = fresh


def in_bytes(pictures: Float[Tensor, "*any"]) -> UInt8[Tensor, "*any"]:
    return (pictures * 255).round().byte()


def stored(batch: SceneBatch) -> Stored:
    small = {"frames": in_bytes(batch.frames), "flow": batch.flow.half()}
    return small | {"visible": batch.visible, "layers": batch.layers.byte()}


def restored(values: Stored) -> SceneBatch:
    frames, flow = values["frames"].float() / 255, values["flow"].float()
    return SceneBatch(frames, flow, values["visible"], values["layers"].long())
