"""`python -m mofa_nb.train.shards FOLDER OUT`: clips on disk, with what frozen parts make of them.
They are tar archives in webdataset's layout (KEY.latents.npy, KEY.flow.npy, ...). Training takes
clips out of them by number: a resumed run, on however many processes, goes on where it was."""

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mofa_nb.checks import InputError, Size, refusing, whole_number
from mofa_nb.clips.footage.bank import films, open_bank, read_index
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes.surfaces import cropped
from mofa_nb.config import AdapterConfig, Settings
from mofa_nb.faces.track import track_face
from mofa_nb.flow.optical_flow import ESTIMATORS, clip_flow
from mofa_nb.flow.samplers import sample_points
from mofa_nb.media.images import to_uint8, to_unit
from mofa_nb.media.video import USUAL_RATE, Frames
from mofa_nb.models.models import default_device
from mofa_nb.models.weights import part_folder
from mofa_nb.sampling.denoise import image_token
from mofa_nb.train.job import Job
from mofa_nb.train.parts import open_parts
from mofa_nb.train.s2d import ClipHints, s2d_flow
from mofa_nb.train.sources import Source, Stored, drawn_seed
from mofa_nb.train.video import Flow, Parts, encode_clips

PER_SHARD, RELEASED_GRID = 100, 384
Taken = tuple[Frames, Tensor | None, np.ndarray | None, dict[str, Any]]  # film, flow, landmarks


def rendered_clips(source: Source, count: int, frames: int, size: Size, seed: int) -> Iterator:
    """Drawn scenes, or heads where `source.faces_share` is 1, with exact flow."""
    for number in range(count):
        torch.manual_seed(drawn_seed(seed, number))
        batch, points = source.draw(1, frames, size)
        marks = None if points is None else points[0].cpu().numpy()
        about = {"seed": seed, "number": number, "heads": marks is not None}
        yield to_uint8(batch.frames[0]), batch.flow[0], marks, about


@torch.no_grad()
def clip_tensors(
    parts: Parts, settings: Settings, clip: Taken, flow: str, as_released: bool
) -> dict[str, Any]:
    """What is kept of one clip, arrays by name; about 0.8 MB for 25 frames of 384x384.
    Latents, and flow and S2D's flow from released hints in pixels (frame 0 -> t) at every n-th
    pixel, all that an adapter reads, are float16; landmarks are there where a face is found."""
    (film, given, marks, about), vae = clip, parts["vae"]
    frames = to_unit(film).to(next(vae.parameters()).device)
    dense = clip_flow(frames, flow) if given is None else given
    arrays = encode_clips(vae, frames[None], settings, as_released)
    arrays = {name: value[0].cpu().numpy() for name, value in arrays.items()}
    arrays["token"] = image_token(parts["image_encoder"], frames[:1])[0].cpu().half().numpy()
    every = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels between two cells of the latents
    arrays["flow"] = dense[..., ::every, ::every].cpu().half().numpy()
    if "s2d" in parts:
        estimate = s2d_flow(parts["s2d"], frames[:1], released_hints(dense[None]))
        arrays["s2d_flow"] = estimate[0, ..., ::every, ::every].cpu().half().numpy()
    if marks is None:
        with suppress(InputError):  # no face
            track = track_face(film, USUAL_RATE)
            marks = track.landmarks if track.found.all() else None
    if marks is not None:
        arrays["landmarks"] = np.asarray(marks, np.float32)
    about = about | {"size": list(film.shape[1:3]), "as_released": as_released}
    return arrays | {"first": film[0], "about": about}


def released_hints(flow: Flow, every: int = 1) -> ClipHints:
    """Grid and watershed points of the last frame's flow, as the release draws them; if on every
    n-th pixel, where `full_flow` is exact, then of a smooth flow between: its steps are no rims."""
    part = min(flow.shape[-2:]) / RELEASED_GRID
    stride, window = max(1, round(80 * part)), 2 * round(7 * part) + 1
    mask = torch.zeros_like(flow[:, 0, :1], dtype=torch.bool)
    cells = flow[:, -1, :, ::every, ::every].float().cpu()
    smooth = functional.interpolate(cells, scale_factor=every, mode="bilinear")
    for hints, last in zip(mask[:, 0], smooth, strict=True):
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        points = sample_points(last, rng, stride=stride, window=window) // every * every
        x, y = points.to(hints.device).unbind(-1)
        hints[y, x] = True
    return ClipHints(mask, flow)


def write_shard(path: Path, clips: Iterable[dict]) -> int:
    """Write one archive through a temporary name, unless it is empty; how many clips it holds."""
    part, count = path.with_suffix(".part"), 0
    with tarfile.open(part, "w") as archive:
        for count, clip in enumerate(clips, start=1):
            for name, value in clip.items():
                stream, suffix = io.BytesIO(), "npy"
                if isinstance(value, dict):
                    suffix = "json"
                    stream.write(json.dumps(value).encode())
                elif value.dtype == np.uint8:
                    suffix = "jpg"
                    Image.fromarray(value).save(stream, "jpeg", quality=95)
                else:
                    np.save(stream, value)
                member = tarfile.TarInfo(f"{path.stem}-{count - 1:05d}.{name}.{suffix}")
                member.size = stream.tell()
                stream.seek(0)
                archive.addfile(member, stream)
    part.replace(path) if count else part.unlink()
    return count


def _options(frames: int, size: Size, as_released: bool, s2d: bool | None) -> str:
    more = " --as-released" * as_released + " --s2d" * bool(s2d)
    return f"--frames {frames} --size {size[0]} {size[1]}{more}"


def has_shards(folder: Path) -> bool:
    return any(Path(folder).glob("*.tar"))


class Shards:
    """Clips of a folder of archives in an order that `seed` shuffles anew for every epoch; those
    without the array `needs` are left out, and so is the last if `held_out`, for samples."""

    def __init__(self, folder: Path, seed: int, device: str, needs: str = "", held_out=False):
        self.folder, self.seed, self.device = folder, seed, device
        clips = [clip for path in sorted(Path(folder).glob("*.tar")) for clip in _members(path)]
        self.clips = [clip for clip in clips if not needs or f"{needs}.npy" in clip]
        if len(self.clips) <= held_out:
            remedy = "make some with python -m mofa_nb.train.shards"
            raise InputError(f"no clips with {needs or 'latents'} in {folder}: {remedy}")
        self.count = len(self.clips) - held_out

    def check(self, *asked: Any, s2d: bool | None = None) -> None:
        """InputError unless all clips were made as asked: (frames, size, as_released), and with
        S2D's flow or without, if that matters."""
        clip, kinds = self.read(0), {each["latents.npy"][2] for each in self.clips}
        about, given = clip["about"], None if s2d is None else "s2d_flow" in clip
        actual = len(clip["latents"]), tuple(about["size"]), about.get("as_released", False), given
        asked, actual = (_options(*each) for each in ((*asked, s2d), actual))
        if actual != asked or len(kinds) > 1:
            came = actual if len(kinds) == 1 else "several sizes or lengths"
            remedy = "say what they were made with, or name another folder"
            raise InputError(f"{self.folder} has clips of {came}, but {asked} came: {remedy}")

    def numbers(self, batch: int, turn: int) -> list[int]:
        """Which clips this process takes in its turn: every clip once an epoch, over all."""
        state, picked = PartialState(), []
        first = (turn * state.num_processes + state.process_index) * batch
        for place in range(first, first + batch):
            epoch, within = divmod(place, self.count)
            order = np.random.default_rng(drawn_seed(self.seed, epoch)).permutation(self.count)
            picked.append(int(order[within]))
        return picked

    def draw(self, batch: int, turn: int) -> Stored:
        """The clips of a turn, as a pool keeps them (`first` as bytes), on the device."""
        read = [self.read(number) for number in self.numbers(batch, turn)]
        names = set.intersection(*(set(clip) for clip in read)) - {"about"}
        return {name: torch.stack([clip[name] for clip in read]).to(self.device) for name in names}

    def read(self, number: int) -> dict[str, Any]:
        arrays = {}
        for key, (path, offset, size) in self.clips[number].items():
            with open(path, "rb") as file:
                file.seek(offset)
                data = io.BytesIO(file.read(size))
            name, suffix = key.rsplit(".", 1)
            if suffix == "json":
                arrays[name] = json.load(data)
            elif suffix == "jpg":
                pixels = np.array(Image.open(data).convert("RGB"))
                arrays[name] = torch.from_numpy(pixels).permute(2, 0, 1)
            else:
                arrays[name] = torch.from_numpy(np.load(data))
        return arrays


def _members(path: Path) -> list[dict[str, tuple[Path, int, int]]]:
    clips: dict[str, dict] = {}
    damaged = f"{path} is damaged", "delete it and make it again", tarfile.TarError, ValueError
    with refusing(*damaged), tarfile.open(path, "r:") as archive:
        for member in archive:
            key, name = member.name.split(".", 1)
            clips.setdefault(key, {})[name] = (path, member.offset_data, member.size)
    return list(clips.values())


def open_shards(job: Job, needs: str) -> Shards:
    """The clips on disk that have what is needed, all of one size; InputError if not the job's."""
    shards = Shards(job.data, job.schedule.seed, job.device, needs, job.sample_every > 0)
    shards.check(job.frames, job.size, job.as_released)
    return shards


@torch.no_grad()
def held_out_clip(job: Job, vae: nn.Module) -> SceneBatch:
    """The clip of the shards that training leaves out, as the VAE keeps it."""
    shards = open_shards(job, "")
    clip = shards.read(shards.count)
    latents = clip["latents"].to(job.device, vae.dtype) / vae.config.scaling_factor
    frames = vae.decode(latents, num_frames=len(latents)).sample.float()
    frames = frames if job.as_released else (frames + 1) / 2
    cells = clip["flow"][None].to(job.device)
    flow = full_flow(cells, job.size[0] // cells.shape[-2])
    visible = torch.ones_like(flow[:, :, :1], dtype=torch.bool)
    return SceneBatch(frames[None].clamp(0, 1), flow, visible, visible[:, 0, 0].long())


def full_flow(cells: Float[Tensor, "B steps 2 h w"], every: int, smooth: bool = False) -> Flow:
    """Flow at its own size again: exact at every n-th pixel, which is all that an adapter reads,
    but one that moves pictures: `smooth` between them for that."""
    if smooth:
        ends = functional.pad(cells.flatten(0, 1).float(), [0, 1, 0, 1], mode="replicate")
        size = [side * every + 1 for side in cells.shape[-2:]]
        whole = functional.interpolate(ends, size=size, mode="bilinear", align_corners=True)
        return whole[..., :-1, :-1].unflatten(0, cells.shape[:2])
    return cells.float().repeat_interleave(every, -1).repeat_interleave(every, -2)


def main(argv: list[str] | None = None) -> int:
    """Write the shards that are missing; several processes share them out."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train.shards", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="of videos (see python -m mofa_nb.clips)")
    add("out", type=Path)
    add("--model", type=Path, required=True, help="model folder whose frozen parts are used")
    add("--frames", type=int, default=25)
    add("--size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH"))
    add("--flow", default="dis", choices=sorted(ESTIMATORS))
    add("--s2d", action="store_true", help="also S2D's flow: quicker, but hints are drawn once")
    add("--scenes", type=int, default=0, help="so many drawn scenes beside the footage")
    add("--heads", type=int, default=0, help="so many rendered heads")
    add("--per-shard", type=int, default=PER_SHARD)
    add("--seed", type=int, default=0)
    add("--as-released", action="store_true", help="for training with the same option")
    add("--device", default=default_device())
    try:
        given = parser.parse_args(argv)
        settings, size = Settings.load(given.model / "settings.json"), tuple(given.size)
        adapter = part_folder(given.model, "trajectory_adapter")
        stride = AdapterConfig.load(adapter / "config.json").strides[-1]
        if any(side < 1 or side % stride for side in size):
            raise InputError(f"--size {size[0]} {size[1]}: both must be multiples of {stride}")
        for name, least in {"frames": 2, "per_shard": 1, "scenes": 0, "heads": 0}.items():
            whole_number(getattr(given, name), least, 10**9, f"--{name.replace('_', '-')}")
        if has_shards(given.out):
            Shards(given.out, 0, "cpu").check(given.frames, size, given.as_released, s2d=given.s2d)
        names = ("vae", "image_encoder", *(("s2d",) if given.s2d else ()))
        parts = open_parts(given.model, names, given.device)
        given.out.mkdir(parents=True, exist_ok=True)
        state = PartialState(cpu=given.device == "cpu")
        for number, (name, clips) in enumerate(_shards(given, size)):
            path = given.out / f"{name}.tar"
            if number % state.num_processes == state.process_index and not path.exists():
                torch.manual_seed(drawn_seed(given.seed, number))
                how = given.flow, given.as_released
                tensors = (clip_tensors(parts, settings, clip, *how) for clip in clips)
                sys.stdout.write(f"{path}: {write_shard(path, tensors)} clips\n")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _shards(given: argparse.Namespace, size: Size) -> Iterator[tuple[str, Iterator]]:
    windows, middle = read_index(given.folder, given.frames), np.array([0.5, 0.5])
    crop = lambda _, image: cropped(image, size, 1.0, middle)  # noqa: E731
    for k in range(0, len(windows), given.per_shard):
        part = films(given.folder, windows[k : k + given.per_shard], given.frames, crop)
        clips = ((film, None, None, vars(window)) for window, film in part)
        yield f"footage-{k // given.per_shard:06d}", clips
    for name, total, fraction in (("scenes", given.scenes, 0.0), ("heads", given.heads, 1.0)):
        bank = open_bank(given.folder).to(given.device) if total else None
        for k in range(0, total, given.per_shard):
            source = Source(bank, torch.default_generator, faces_share=fraction)
            count, seed = min(given.per_shard, total - k), drawn_seed(given.seed, k)
            clips = rendered_clips(source, count, given.frames, size, seed)
            yield f"{name}-{k // given.per_shard:06d}", clips


if __name__ == "__main__":
    raise SystemExit(main())
