"""Teaches the mini model to make a clip in one step, on a CPU: minutes with fast bfloat16.

    python weights/train_mini.py clips MODEL BANK CLIPS --minutes 12
    python weights/train_mini.py embedder MODEL BANK OUT --minutes 5
    python weights/train_mini.py steps MODEL CLIPS OUT --minutes 70
    python weights/train_mini.py vae MODEL CLIPS OUT --minutes 11

BANK is a file of `python -m mofa_nb.clips FOLDER --cache BANK`. Several processes of one thread
(`OMP_NUM_THREADS=1`) get farther than one of several: clips with another `--seed` in each. `steps`
that was ended goes on with the state in OUT.

A clip of one step is one prediction out of noise, so that is what is learned here, now and then a
second one of what the first made, or one between; what is to be painted is the first frame, moved
(`video.foreseeable`). The finest level and the blocks that read it learn; the deeper ones stay and
get no gradient, which halves a step's work. A quarter of the steps are of faces.

Frames are decoded alone (`models.frame_decoder`), so that is taught last, on what the networks make
and on what they should make: the decoder's two finer levels, whose temporal branches fall silent.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofa_nb.adapter.adapter import Adapter, Conditioning
from mofa_nb.adapter.unet import decode_block, residual_counts, time_embedding
from mofa_nb.checks import whole_file
from mofa_nb.clips.footage.bank import open_bank
from mofa_nb.config import Settings
from mofa_nb.models.frame_decoder import decode_alone
from mofa_nb.models.weights import read_config, save_part
from mofa_nb.train import objective, sources, stages, video
from mofa_nb.train.job import Job, Schedule
from mofa_nb.train.parts import open_parts
from mofa_nb.train.s2d import recoloured

FRAMES, SCENE, FACE, PICTURES, CHUNK = 8, (128, 128), (160, 160), 1600, 8
HIGH, LOW, BETWEEN = (60.0, 90.0), (0.07, 0.15), (0.1, 20.0)  # noise levels
FACES, SECOND, OTHER, FREE = 0.27, 0.03, 0.15, 0.04  # shares of the steps
KEEP_EVERY = 400  # steps between two states on disk
PAINTED = 400  # clips on which the decoder learns
SCENE_CROPS, MARGIN = ((3, 16), (3, 16), (2, 24)), 2  # clips and cells of a step in turn
SCENE_UNIT, FACE_UNIT = 2, 8  # cells: parts begin at multiples; faces are cut at every level
DEEP = (
    "time_emb", "add_emb", "down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block",
    "up_blocks.0", "up_blocks.1", "flow_encoder", "controlnet_mid", "zero_outs.8", "zero_outs.16",
    "zero_outs.32", *(f"controlnet_down_blocks.{k}." for k in range(3, 8)),
)  # fmt: skip
TRAINED = ("unet", "adapter", "landmark_adapter")


def make_clips(model: Path, bank: Path, out: Path, minutes: float, seed: int) -> None:
    """Files of some clips each, three of scenes to one of faces."""
    job = Job(
        stage="joint", schedule=Schedule(), model=model, data=bank, out=out, distill=True,
        frames=FRAMES, s2d_share=0.3, clips_share=0.0, device="cpu", precision="auto",
    )  # fmt: skip
    settings = Settings.load(model / "settings.json")
    parts = open_parts(model, ("vae", "s2d", "face_s2d", "image_encoder"))
    channels_last(parts["vae"].to(torch.bfloat16))
    source = sources.open_source(job)
    out.mkdir(parents=True, exist_ok=True)
    for number, _ in enumerate(passing(minutes)):
        kind = "faces" if number % 4 == 3 else "scenes"
        varied = replace(source, varied=number % 2 == 0)
        make = scenes if kind == "scenes" else faces
        clips = make(job, parts, varied, settings)
        with torch.no_grad():
            first = clips["first"].float() / 255
            clips["token"] = video.image_token(parts["image_encoder"], first)
        with whole_file(out / f"{kind}_{seed}_{number:04d}.pt") as partial:
            torch.save(clips, partial)


@torch.no_grad()
def scenes(job: Job, parts: dict, source: sources.Source, settings) -> sources.Stored:
    batch, drawn = source.hinted(CHUNK, FRAMES, SCENE)
    batch = replace(batch, frames=recoloured(batch.frames))
    given = stages._given_flow(job, parts["s2d"], source, batch, drawn).float()
    moved = video.moved_clips(batch, given)
    batch = replace(batch, frames=video.foreseeable(batch, given, moved))
    made = video.ready(parts, batch, given, settings)
    return made | {"moved": sources.in_bytes(moved), "frames": sources.in_bytes(batch.frames)}


@torch.no_grad()
def faces(job: Job, parts: dict, source: sources.Source, settings) -> sources.Stored:
    batch, points = source.faces(CHUNK, FRAMES, FACE)
    told = sources.landmark_told(points, FACE)
    job = replace(job, s2d_share=0.5)
    given = stages._given_flow(job, parts["face_s2d"], source, batch, told).float()
    fresh = video.uncovered_share(batch.flow, batch.visible, 4).half()
    marks = {"images": stages.drawn_landmarks(points, FACE), "uncovered": fresh}
    marks["moved"] = sources.in_bytes(video.moved_clips(batch, given))
    return video.ready(parts, batch, given, settings) | marks


def known_pictures(vae: nn.Module, photos: sources.Photos) -> tuple[Tensor, Tensor]:
    """Crops in [-1, 1] with their latents."""
    pictures = drawn(photos, PICTURES)
    return pictures, torch.cat([latents_of(vae, part) for part in pictures.split(8)])


def drawn(photos: sources.Photos, count: int) -> Tensor:
    if random.random() < 0.3:
        photos = sources.varied_photos(photos, count, torch.default_generator)
    crops = stages.photo_crops(photos, count, SCENE)
    return recoloured(crops[:, None])[:, 0] * 2 - 1


def latents_of(vae: nn.Module, pictures: Tensor) -> Tensor:
    return stages.scaled_latents(vae, as_last(pictures))


def teach_embedder(model: Path, bank: Path, out: Path, minutes: float, seed: int) -> None:
    """The trajectory adapter's first-frame embedder, until a linear read-out of its features gives
    the VAE's latents; what they were stays in them, for the layers that read them."""
    parts = open_parts(model, ("adapter", "vae"))
    adapter, vae = channels_last(parts["adapter"]), channels_last(parts["vae"]).bfloat16()
    pictures, latents = known_pictures(vae, open_bank(bank).photos)
    net = adapter.controlnet_cond_embedding.requires_grad_(True)
    with torch.no_grad():
        before = torch.cat([net(part).half() for part in pictures.split(8)])
    readout = nn.Conv2d(before.shape[1], latents.shape[1], 1)
    learner = Learner([*net.parameters(), *readout.parameters()], 1e-3, 30, 0.99)
    spread, varying = latents.var(), before.float().var()
    for share in passing(minutes):
        chosen = torch.randint(len(pictures), (16,))
        with torch.autocast("cpu", torch.bfloat16):
            features = net(as_last(pictures[chosen]))
        missed = F.mse_loss(readout(features.float()), latents[chosen]) / spread
        kept = F.mse_loss(features.float(), before[chosen].float()) / varying
        learner.step(share, missed + 0.05 * kept, {"missed": missed})
    learner.use_averages()
    save_part("adapter", adapter, read_config(model / "adapter"), out / "adapter", torch.float16)


class Clips:
    """Clips of one kind, from files that may grow in number."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind, self.seen, self.all = folder, kind, set(), []
        self.look()

    def look(self) -> None:
        for file in sorted(set(self.folder.glob(f"{self.kind}_*.pt")) - self.seen):
            self.seen.add(file)
            clips = torch.load(file)
            self.all += [{k: v[n] for k, v in clips.items()} for n in range(len(clips["token"]))]

    def draw(self, count: int) -> sources.Stored:
        clips = random.sample(self.all, count)
        return {key: torch.stack([clip[key] for clip in clips]) for key in clips[0]}


def teach_steps(model: Path, clips: Path, out: Path, minutes: float, seed: int) -> None:
    """What `DEEP` leaves of UNet and both adapters."""
    parts = {name: channels_last(net) for name, net in open_parts(model, TRAINED).items()}
    names = [(p, n) for p, net in parts.items() for n, _ in net.named_parameters()]
    chosen = [(p, n) for p, n in names if not n.startswith(DEEP)]
    for part in parts.values():
        part.bfloat16()
    learner = Learner([parts[p].get_parameter(n) for p, n in chosen], 6e-4, 60, 0.997)
    teacher, kinds = Teacher(parts, model), [Clips(clips, kind) for kind in ("scenes", "faces")]
    if (state := out / "state.pt").is_file():
        learner.load(torch.load(state))
        torch.manual_seed(seed + learner.count)
        random.seed(seed + learner.count)
    for number, share in enumerate(passing(minutes)):
        count, cells = SCENE_CROPS[number % len(SCENE_CROPS)]
        is_face = random.random() < FACES
        losses = teacher.faces if is_face else teacher.scenes
        learner.step(share, *losses(kinds[is_face].draw(count), cells))
        if number % 100 == 99:
            for kind in kinds:
                kind.look()
        if number % KEEP_EVERY == KEEP_EVERY - 1:
            learner.save(state)
    whole = open_parts(model, TRAINED)
    for (part, name), average in zip(chosen, learner.averages, strict=True):
        whole[part].get_parameter(name).data.copy_(average)
    for name, part in whole.items():
        save_part(name, part, read_config(model / name), out / name, torch.float16)
    state.unlink(missing_ok=True)


class Teacher:
    """Losses of parts of clips."""

    def __init__(self, parts: dict[str, nn.Module], model: Path):
        self.unet, self.adapter, self.landmark_adapter = (parts[name] for name in TRAINED)
        self.ids = torch.tensor([Settings.load(model / "settings.json").time_ids])

    def scenes(self, clips: sources.Stored, cells: int) -> tuple[Tensor, dict]:
        latents = clips["latents"].float()
        places = video.busy_places(latents, cells, SCENE_UNIT)
        part = lambda whole: video.cut(whole, places, cells, latents.shape[-1])  # noqa: E731
        fine = self.features(clips, places, cells)
        with torch.no_grad():
            coarser = self.adapter.flow_encoder(fine)
        warped = tuple(level.unflatten(0, latents.shape[:2]) for level in (fine, *coarser))
        free = torch.rand(len(latents)) < FREE  # without residuals nothing moves
        told = torch.where(free.view(-1, 1, 1, 1, 1), latents[:, :1], latents)
        known = Conditioning(told[:, 1:, :2], (), warped)
        return self.steps(self.adapter, known, clips, part, told, places, (~free).float())

    def features(self, clips: sources.Stored, places: Tensor, cells: int) -> Tensor:
        """The finest features of parts. A margin is seen around each, within the picture, which
        ends as networks see it end."""
        wide, grid = cells + 2 * MARGIN, clips["latents"].shape[-1]
        corners = (places - MARGIN).clamp(0, grid - wide)
        pictures = torch.cat([clips["first"][:, None], clips["moved"]], 1).float() / 127.5 - 1
        around = video.cut(pictures, corners, wide, grid)
        fine = self.adapter.controlnet_cond_embedding(as_last(around.flatten(0, 1).bfloat16()))
        fine = fine.unflatten(0, around.shape[:2])
        return video.cut(fine, places - corners, cells, wide).flatten(0, 1)

    def faces(self, clips: sources.Stored, cells: int) -> tuple[Tensor, dict]:
        latents, adapter = clips["latents"].float(), self.landmark_adapter
        places = video.busy_places(latents, cells, FACE_UNIT, clips["uncovered"])
        part = lambda whole: video.cut(whole, places, cells, latents.shape[-1])  # noqa: E731
        first, marks = (clips[key].bfloat16() for key in ("first", "images"))
        moved = lambda _: clips["moved"].bfloat16() / 127.5 - 1  # noqa: E731
        flow = clips["given"].float()
        reference = adapter.reference(first / 127.5 - 1, flow, marks / 255, moved)
        window = adapter.window(reference, range(latents.shape[1]), part)
        known = Conditioning(window.flow, (), window.warped, window.landmarks)
        everywhere = torch.ones(len(latents))
        loss, figures = self.steps(adapter, known, clips, part, latents, places, everywhere)
        masks = video.mask_loss(window.occlusion, part(clips["uncovered"].float()))
        return loss + 0.1 * masks, {f"face {key}": value for key, value in figures.items()}

    def steps(
        self, adapter: Adapter, known: Conditioning, clips: sources.Stored, part, latents: Tensor,
        places: Tensor, keep: Tensor,
    ) -> tuple[Tensor, dict]:  # fmt: skip
        """The first step's error, now and then the second's, too, or that at another level."""
        weight = inner(places, known.warped[0].shape[-1], latents.shape[-1])
        wanted, image = part(latents), part(clips["image_latents"].float())
        image = image[:, None].expand(-1, latents.shape[1], -1, -1, -1)
        token, noise = clips["token"].bfloat16(), torch.randn_like(wanted)

        def step(clean: Tensor, levels: tuple[float, float]) -> tuple[Tensor, Tensor]:
            low, high = map(math.log, levels)
            sigmas = torch.empty(len(wanted)).uniform_(low, high).exp()
            noisy, scaled, timestep = objective.add_noise(clean, noise, sigmas)
            sample = torch.cat([scaled, image], 2).bfloat16()
            velocity = self.predict(adapter, known, sample, timestep, token, keep)
            made = objective.denoised(velocity.float(), noisy, sigmas)
            return made, ((made - wanted).square() * weight).mean()

        if random.random() < OTHER:
            _, error = step(wanted, BETWEEN)
            return error, {"between": error}
        made, first = step(wanted, HIGH)
        if random.random() >= SECOND:
            return first, {"first": first}
        _, second = step(made.detach(), LOW)
        return first + second, {"first": first, "second": second}

    def predict(
        self, adapter: Adapter, known: Conditioning, sample: Tensor, timestep: Tensor,
        token: Tensor, keep: Tensor,
    ) -> Tensor:  # fmt: skip
        """What `VideoUNet` makes with an adapter's residuals, without gradients in deep blocks."""
        (batch, frames), unet = sample.shape[:2], self.unet
        ids, still = self.ids.expand(batch, -1), sample.new_zeros(batch, frames)
        context, factor = token.repeat_interleave(frames, 0), keep.repeat_interleave(frames)
        factor, flat = factor.view(-1, 1, 1, 1).to(sample), as_last(sample.flatten(0, 1))
        with torch.no_grad():
            emb = [time_embedding(net, sample, timestep, ids) for net in (adapter, unet)]

        def down(net: nn.Module, hidden: Tensor, which: slice, after: list[Tensor]) -> tuple:
            features = []
            for k in range(*which.indices(len(net.down_blocks))):
                block = net.down_blocks[k]
                attends = {"encoder_hidden_states": context}
                attends = attends if getattr(block, "has_cross_attention", False) else {}
                hidden, made = block(
                    hidden_states=hidden, temb=emb[net is unet], image_only_indicator=still,
                    **attends,
                )  # fmt: skip
                features += made
                hidden = hidden + after[k] if k < len(after) else hidden
            return hidden, features

        fine, *coarser = (level.flatten(0, 1) for level in known.warped)
        hidden, after = adapter.conv_in(flat) + fine, [*coarser, coarser[-1]]
        if known.landmarks is not None:
            marks = known.landmarks.flatten(0, 1)
            hidden, after = hidden + marks, adapter._add_landmarks(after, marks)
        after = [level.detach() for level in after]
        deeper, made = down(adapter, hidden, slice(0, 1), [])
        outer, base = [hidden, *made], unet.conv_in(flat)
        below, made = down(unet, base, slice(0, 1), [])
        skips, counts = [base, *made], residual_counts(unet.down_blocks)
        convs = adapter.controlnet_down_blocks
        with torch.no_grad():
            deep, made = down(adapter, deeper + after[0], slice(1, None), after)
            deep = adapter.mid_block(deep + after[-1], emb[0], context, still)
            middle = adapter.controlnet_mid_block(deep) * factor
            pairs = zip(convs[len(outer) :], made, strict=True)
            residuals = [conv(feature) * factor for conv, feature in pairs]
            below, made = down(unet, below, slice(1, None), [])
            below = unet.mid_block(below, emb[1], context, still) + middle
            inner = zip(made, counts[len(outer) :], residuals, strict=True)
            stack = [s + k * r for s, k, r in inner]
            for block in unet.up_blocks[:-2]:
                below = decode_block(block, below, stack, emb[1], context, still)
        pairs = zip(skips, counts, convs, outer, strict=False)
        stack = [s + k * conv(feature) * factor for s, k, conv, feature in pairs] + stack
        for block in unet.up_blocks[-2:]:
            below = decode_block(block, below, stack, emb[1], context, still)
        below = unet.conv_out(unet.conv_act(unet.conv_norm_out(below)))
        return below.unflatten(0, (batch, frames))


def teach_vae(model: Path, clips: Path, out: Path, minutes: float, seed: int) -> None:
    """The finer levels of the decoder, without time; the stock class reads what is written, too."""
    parts = open_parts(model, ("vae", "unet", "adapter"))
    latents, frames = painted(parts, Clips(clips, "scenes").all[:PAINTED], model)
    vae, stored = channels_last(parts["vae"]), open_parts(model, ("vae",))["vae"]
    decode_alone(vae)
    values, targets = finer_levels(vae.bfloat16().decoder), finer_levels(stored.decoder)
    for level in vae.decoder.up_blocks[1:]:
        for block in level.resnets:
            block.silent = True
    learner, cells = Learner(values, 3e-4, 40, 0.99), min(latents.shape[-1], 24)
    for share in passing(minutes):
        y, x = torch.randint(latents.shape[-1] - cells + 1, (2,)).tolist()
        chosen = torch.randint(len(frames), (5,)), torch.tensor([0, 0, 1, 1, 1])
        given = latents[chosen][..., y : y + cells, x : x + cells].float()
        given = given + stages.JITTER * (1 - chosen[1].view(-1, 1, 1, 1)) * torch.randn_like(given)
        # Group norm's backward pass in bfloat16 fails where its input needs no gradient.
        given = as_last((given / vae.config.scaling_factor).bfloat16()).requires_grad_()
        decoded = vae.decode(given, num_frames=1).sample.float()
        y, x, side, rim = 4 * y, 4 * x, 4 * cells, slice(8, -8)
        wanted = frames[chosen[0], :, y : y + side, x : x + side].float() / 127.5 - 1
        learner.step(share, *stages.picture_loss(decoded[..., rim, rim], wanted[..., rim, rim]))
    for target, average in zip(targets, learner.averages, strict=True):
        target.data.copy_(average)
    for level in stored.decoder.up_blocks[1:]:
        for block in level.resnets:
            for value in block.temporal_res_block.conv2.parameters():
                value.data.zero_()
    save_part("vae", stored, read_config(model / "vae"), out / "vae", torch.float16)


def finer_levels(decoder: nn.Module) -> list[nn.Parameter]:
    """What learns of a decoder: all but time of its finer levels, and its end."""
    layers: list[nn.Module] = []
    for level in decoder.up_blocks[1:]:
        spatial = ("spatial", "spatial_res_block")
        layers += [getattr(b, spatial[hasattr(b, spatial[1])]) for b in level.resnets]
        layers += [level.upsamplers] if level.upsamplers is not None else []
    layers += [decoder.conv_norm_out, decoder.conv_out]
    return [value for layer in layers for value in layer.parameters()]


@torch.no_grad()
def painted(parts: dict, clips: list[dict], model: Path) -> tuple[Tensor, Tensor]:
    """Latents [N, 2, C, h, w] of frames (bytes) as the VAE and as the networks in one step have
    them."""
    adapter, unet = (channels_last(parts[name]).bfloat16() for name in ("adapter", "unet"))
    ids, every = torch.tensor([Settings.load(model / "settings.json").time_ids]), []
    for clip in clips:
        known, image = clip["latents"].float()[None], clip["image_latents"].float()
        pictures = torch.cat([clip["first"][None], clip["moved"]]).bfloat16() / 127.5 - 1
        fine = adapter.controlnet_cond_embedding(as_last(pictures))
        warped = tuple(level[None] for level in (fine, *adapter.flow_encoder(fine)))
        sigma, noise = torch.tensor([HIGH[1]]), torch.randn_like(known)
        noisy, scaled, timestep = objective.add_noise(known, noise, sigma)
        sample = torch.cat([scaled, image.expand_as(known)], 2).bfloat16()
        inputs = (sample, timestep, clip["token"].bfloat16()[None], ids)
        residuals = adapter(*inputs, Conditioning(known[:, 1:, :2], (), warped))
        clean = objective.denoised(unet(*inputs, residuals).float(), noisy, sigma)
        every.append(torch.stack([known[0], clean[0]], 1).half())
    return torch.cat(every), torch.cat([clip["frames"] for clip in clips])


def inner(places: Tensor, cells: int, grid: int) -> Tensor:
    """1 but for the outermost cells where a part was cut out: they lack what was beside them."""
    weight = torch.ones(len(places), 1, 1, cells, cells)
    for one, (y, x) in zip(weight[:, 0, 0], places.tolist(), strict=True):
        one[: int(y > 0)], one[:, : int(x > 0)] = 0, 0
        one[cells - int(y + cells < grid) :], one[:, cells - int(x + cells < grid) :] = 0, 0
    return weight


class Learner:
    """AdamW on float32 copies of parameters, with averages of them."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, warmup: int, decay: float):
        self.values = [value.requires_grad_(True) for value in parameters]
        self.copies = [value.detach().float().clone().requires_grad_() for value in self.values]
        self.averages = [value.detach().clone() for value in self.copies]
        self.rate, self.warmup, self.decay, self.count = rate, warmup, decay, 0
        settings = {"lr": rate, "weight_decay": 1e-3, "betas": (0.9, 0.98), "foreach": True}
        self.optimiser, self.sums = torch.optim.AdamW(self.copies, **settings), {}

    def step(self, share: float, loss: Tensor, figures: dict[str, Tensor]) -> None:
        """One step; `share` of the time has passed, which the cosine of the rate follows."""
        loss.backward()
        for copy, value in zip(self.copies, self.values, strict=True):
            copy.grad, value.grad = None if value.grad is None else value.grad.float(), None
        nn.utils.clip_grad_norm_([c for c in self.copies if c.grad is not None], 0.5, foreach=True)
        warm = min(1, (self.count + 1) / self.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.03 + 0.97 * (1 + math.cos(math.pi * share)) / 2)
        self.optimiser.step()
        torch._foreach_copy_([v.data for v in self.values], [c.data for c in self.copies])
        keep = min(self.decay, self.count / (self.count + 10))
        torch._foreach_lerp_(self.averages, [c.detach() for c in self.copies], 1 - keep)
        self.count += 1
        for key, value in figures.items():
            self.sums.setdefault(key, []).append(float(value.detach()))
        if self.count % 100 == 0:
            means = {key: f"{sum(each) / len(each):.4f}" for key, each in self.sums.items()}
            print(self.count, means, flush=True)
            self.sums = {}

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"copies": self.copies, "averages": self.averages, "count": self.count}
        with whole_file(path) as partial:
            torch.save(state | {"optimiser": self.optimiser.state_dict()}, partial)

    def load(self, state: dict) -> None:
        for name in ("copies", "averages"):
            torch._foreach_copy_([each.data for each in getattr(self, name)], state[name])
        torch._foreach_copy_([v.data for v in self.values], self.copies)
        self.optimiser.load_state_dict(state["optimiser"])
        self.count = state["count"]

    def use_averages(self) -> None:
        torch._foreach_copy_([v.data for v in self.values], self.averages)


def passing(minutes: float) -> Iterator[float]:
    """The share of the minutes that has passed, until all has."""
    begin = time.monotonic()
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        yield share


def as_last(pictures: Tensor) -> Tensor:
    return pictures.contiguous(memory_format=torch.channels_last)


def channels_last(net: nn.Module) -> nn.Module:
    """Convolutions laid out as a CPU takes them fastest."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return net


WORK = {
    "clips": make_clips, "embedder": teach_embedder, "steps": teach_steps, "vae": teach_vae,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=WORK)
    for name in ("model", "source", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    torch.manual_seed(given.seed)
    WORK[given.work](given.model, given.source, given.out, given.minutes, given.seed)


if __name__ == "__main__":
    main()
