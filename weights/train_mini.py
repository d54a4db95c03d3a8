"""Teaches the mini model to make a clip in one step, on a CPU: minutes with fast bfloat16.

    python weights/train_mini.py clips MODEL BANK CLIPS --minutes 12
    python weights/train_mini.py embedder MODEL BANK OUT --minutes 5
    python weights/train_mini.py steps MODEL CLIPS OUT --minutes 70
    python weights/train_mini.py vae MODEL CLIPS OUT --minutes 11

BANK is a file of `python -m mofa_nb.clips FOLDER --cache BANK`. Several processes of one thread
(`OMP_NUM_THREADS=1`) get farther than one of several: clips with another `--seed` in each. `steps`
that was ended goes on with the state in OUT.

A clip of one step is one prediction out of noise, so that is what is learned here, now and then a
second one of what the first made, or one between; what is to be painted is the film, or the first
frame moved where S2D made the flow (`video.foreseeable`). The finest level and the blocks that read
it learn; the deeper ones stay and get no gradient, which halves a step's work. A quarter of the
steps are of faces.

Frames are decoded alone (`models.frame_decoder`), so that is taught last, on what the networks make
and on what they should make: the decoder's two finer levels, whose temporal branches fall silent.
"""

import argparse
import copy
import random
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from mini_learner import Learner, as_last, channels_last, passing
from mini_teacher import HIGH, TRAINED, Teacher
from torch import Tensor, nn

from mofa_nb.checks import whole_file
from mofa_nb.clips.footage.bank import open_bank
from mofa_nb.config import Settings
from mofa_nb.models.frame_decoder import decode_alone
from mofa_nb.models.weights import part_folder, read_config, save_part
from mofa_nb.train import objective, sources, stages, video
from mofa_nb.train.job import Job, Schedule
from mofa_nb.train.parts import open_parts
from mofa_nb.train.s2d import recoloured

FRAMES, SCENE, FACE, PICTURES, CHUNK = 8, (128, 128), (160, 160), 1600, 8
FACES = 0.27  # share of the steps
KEEP_EVERY = 400  # steps between two states on disk
PAINTED = 400  # clips on which the decoder learns
JITTER = 0.05  # of scaled latents: a decoder is given what networks make, not what a VAE makes
SCENE_CROPS = ((3, 16), (3, 16), (2, 24))  # clips and cells of a step in turn
DEEP = (
    "time_emb", "add_emb", "down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block",
    "up_blocks.0", "up_blocks.1", "flow_encoder", "controlnet_mid", "zero_outs.8", "zero_outs.16",
    "zero_outs.32", *(f"controlnet_down_blocks.{k}." for k in range(3, 8)),
)  # fmt: skip


def make_clips(model: Path, bank: Path, out: Path, minutes: float, seed: int) -> None:
    """Files of some clips each, three of scenes to one of faces."""
    job = Job(
        stage="joint", schedule=Schedule(), model=model, data=bank, out=out, distill=True,
        frames=FRAMES, s2d_share=0.3, clips_share=0.0, device="cpu", precision="auto",
    )  # fmt: skip
    settings = Settings.load(model / "settings.json")
    parts = open_parts(model, ("vae", "s2d", "landmark_s2d", "image_encoder"))
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
    made = video.prepare_clips(parts, batch, given, settings)
    return made | {"moved": sources.in_bytes(moved), "frames": sources.in_bytes(batch.frames)}


@torch.no_grad()
def faces(job: Job, parts: dict, source: sources.Source, settings) -> sources.Stored:
    batch, points = source.faces(CHUNK, FRAMES, FACE)
    told = sources.landmark_clip_hints(points, FACE)
    job = replace(job, s2d_share=0.5)
    given = stages._given_flow(job, parts["landmark_s2d"], source, batch, told).float()
    fresh = video.uncovered_share(batch.flow, batch.visible, 4).half()
    marks = {"images": stages.landmark_pictures(points, FACE), "uncovered": fresh}
    marks["moved"] = sources.in_bytes(video.moved_clips(batch, given))
    return video.prepare_clips(parts, batch, given, settings) | marks


def known_pictures(vae: nn.Module, photos: sources.Photos) -> tuple[Tensor, Tensor]:
    """Crops in [-1, 1] with their latents."""
    pictures = drawn(photos, PICTURES)
    return pictures, torch.cat([latents_of(vae, part) for part in pictures.split(8)])


def drawn(photos: sources.Photos, count: int) -> Tensor:
    if random.random() < 0.3:
        photos = sources.varied_photos(photos, count, torch.default_generator)
    crops = stages.photo_crops(photos, count, SCENE)
    return recoloured(crops[:, None])[:, 0] * 2 - 1


@torch.no_grad()
def latents_of(vae: nn.Module, pictures: Tensor) -> Tensor:
    mode = vae.encode(as_last(pictures).to(vae.dtype)).latent_dist.mode()
    return mode.float() * vae.config.scaling_factor


def teach_embedder(model: Path, bank: Path, out: Path, minutes: float, seed: int) -> None:
    """The trajectory adapter's first-frame embedder, until a linear read-out of its features gives
    the VAE's latents; what they were stays in them, for the layers that read them."""
    name = "trajectory_adapter"
    parts = open_parts(model, (name, "vae"))
    adapter, vae = channels_last(parts[name]), channels_last(parts["vae"]).bfloat16()
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
    save_part(name, adapter, read_config(part_folder(model, name)), out / name, torch.float16)


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


def teach_vae(model: Path, clips: Path, out: Path, minutes: float, seed: int) -> None:
    """The finer levels of the decoder, whose temporal branches are made silent; the stock class
    reads what is written, too."""
    parts = open_parts(model, ("vae", "unet", "trajectory_adapter"))
    latents, frames = painted(parts, Clips(clips, "scenes").all[:PAINTED], model)
    stored = parts["vae"]
    for level in stored.decoder.up_blocks[1:]:
        for block in level.resnets:
            for value in block.temporal_res_block.conv2.parameters():
                value.data.zero_()
    vae = channels_last(copy.deepcopy(stored))
    decode_alone(vae)
    values, targets = finer_levels(vae.bfloat16().decoder), finer_levels(stored.decoder)
    learner, cells = Learner(values, 3e-4, 40, 0.99), min(latents.shape[-1], 24)
    for share in passing(minutes):
        y, x = torch.randint(latents.shape[-1] - cells + 1, (2,)).tolist()
        chosen = torch.randint(len(frames), (5,)), torch.tensor([0, 0, 1, 1, 1])
        given = latents[chosen][..., y : y + cells, x : x + cells].float()
        given = given + JITTER * (1 - chosen[1].view(-1, 1, 1, 1)) * torch.randn_like(given)
        # Group norm's backward pass in bfloat16 fails where its input needs no gradient.
        given = as_last((given / vae.config.scaling_factor).bfloat16()).requires_grad_()
        decoded = vae.decode(given, num_frames=1).sample.float()
        y, x, side, rim = 4 * y, 4 * x, 4 * cells, slice(8, -8)
        wanted = frames[chosen[0], :, y : y + side, x : x + side].float() / 127.5 - 1
        learner.step(share, *stages.picture_loss(decoded[..., rim, rim], wanted[..., rim, rim]))
    for target, average in zip(targets, learner.averages, strict=True):
        target.data.copy_(average)
    save_part("vae", stored, read_config(model / "vae"), out / "vae", torch.float16)


def finer_levels(decoder: nn.Module) -> list[nn.Parameter]:
    """What learns of a decoder: all but time of its finer levels, and its end."""
    layers: list[nn.Module] = []
    for level in decoder.up_blocks[1:]:
        layers += [block.spatial_res_block for block in level.resnets]
        layers += [level.upsamplers] if level.upsamplers is not None else []
    layers += [decoder.conv_norm_out, decoder.conv_out]
    return [value for layer in layers for value in layer.parameters()]


@torch.no_grad()
def painted(parts: dict, clips: list[dict], model: Path) -> tuple[Tensor, Tensor]:
    """Latents [N, 2, C, h, w] of frames (bytes) as the VAE and as the networks in one step have
    them."""
    names = ("trajectory_adapter", "unet")
    adapter, unet = (channels_last(parts[name]).bfloat16() for name in names)
    ids, every = torch.tensor([Settings.load(model / "settings.json").time_ids]), []
    for clip in clips:
        known, image = clip["latents"].float()[None], clip["image_latents"].float()
        first, moved = (clip[key][None].bfloat16() / 127.5 - 1 for key in ("first", "moved"))
        unused = moved[:, :, :2].float()  # a flow: the pictures are moved already
        reference = adapter.reference(first, unused, pictures=lambda _, moved=moved: moved)
        conditioning = adapter.window(reference, range(known.shape[1]))
        sigma, noise = torch.tensor([HIGH[1]]), torch.randn_like(known)
        noisy, scaled, timestep = objective.add_noise(known, noise, sigma)
        sample = torch.cat([scaled, image.expand_as(known)], 2).bfloat16()
        inputs = (sample, timestep, clip["token"].bfloat16()[None], ids)
        velocity = unet(*inputs, adapter(*inputs, conditioning))
        clean = objective.denoised(velocity.float(), noisy, sigma)
        every.append(torch.stack([known[0], clean[0]], 1).half())
    return torch.cat(every), torch.cat([clip["frames"] for clip in clips])


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
