"""`python -m mofa_nb.train.shards FOLDER OUT`: clips on disk, with what frozen parts make of them.

The files are tar archives in webdataset's layout, KEY.latents.npy, KEY.flow.npy and so on, which
webdataset and datasets read, too. Training takes single clips out of them by number, so that a
resumed run, on however many processes, goes on where it was.
"""

import argparse
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.bank import open_bank
from mofa_nb.clips.footage.index import Window, read_index
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes.surfaces import cropped
from mofa_nb.config import AdapterConfig, Settings
from mofa_nb.faces.track import track_face
from mofa_nb.flow.optical_flow import ESTIMATORS, clip_flow
from mofa_nb.flow.samplers import sample_points
from mofa_nb.media.images import to_unit
from mofa_nb.media.video import video_frames
from mofa_nb.models.parts import default_device
from mofa_nb.train.loop import drawn_seed
from mofa_nb.train.parts import open_parts
from mofa_nb.train.pool import Stored
from mofa_nb.train.s2d import Told, s2d_flow
from mofa_nb.train.sources import Source
from mofa_nb.train.video import encoded, image_token

PER_SHARD, USUAL_RATE, RELEASED_GRID = 100, 25.0, 384
Frames = UInt8[np.ndarray, "T H W 3"]
Taken = tuple[Frames, Tensor | None, np.ndarray | None, dict[str, Any]]  # film, flow, landmarks


def footage(folder: Path, windows: list[Window], frames: int, size: tuple[int, int]) -> Iterator:
    """The clips of some passages, cut to (H, W) `size` from the middle, one video at a time."""
    for video in dict.fromkeys(window.video for window in windows):
        open_clips = {
            w: np.zeros((frames, *size, 3), np.uint8) for w in windows if w.video == video
        }
        wanted = {w: w.frames(frames) for w in open_clips}
        for number, image in enumerate(video_frames(folder / video)):
            for window in [w for w, numbers in wanted.items() if number in numbers]:
                place = wanted[window].index(number)
                open_clips[window][place] = cropped(image, size, 1.0, np.array([0.5, 0.5]))
                if place == frames - 1:
                    yield open_clips.pop(window), None, None, vars(window)
                    del wanted[window]
            if not wanted:
                break


def rendered(source: Source, count: int, frames: int, size: tuple[int, int], seed: int) -> Iterator:
    """Drawn scenes, or heads where `source.faces_share` is 1, with exact flow."""
    for number in range(count):
        torch.manual_seed(drawn_seed(seed, number))
        heads = source.faces_share == 1
        batch, points = (
            source.faces(1, frames, size) if heads else (source.draw(1, frames, size), None)
        )
        film = (batch.frames[0].permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
        marks = None if points is None else points[0].cpu().numpy()
        yield film, batch.flow[0], marks, {"seed": seed, "number": number, "heads": heads}


@torch.no_grad()
def clip_tensors(parts: dict[str, nn.Module], settings: Settings, clip: Taken, flow: str) -> dict:
    """What is kept of one clip, arrays by name; about 0.8 MB for 25 frames of 384x384.

    Latents are float16, flow and S2D's flow from released hints are float16 pixels (frame 0 -> t)
    at every n-th pixel, which is all that an adapter reads; landmarks where a face is found.
    """
    film, given, marks, about = clip
    device = next(parts["vae"].parameters()).device
    frames = to_unit(film).to(device)
    dense = clip_flow(frames, flow) if given is None else given
    made = encoded(parts["vae"], frames[None], settings)
    made = {name: value[0].cpu().numpy() for name, value in made.items()}
    made["token"] = image_token(parts["image_encoder"], frames[:1])[0].cpu().half().numpy()
    every = settings_stride(parts)
    made["flow"] = dense[..., ::every, ::every].cpu().half().numpy()
    if "s2d" in parts:
        told = s2d_flow(parts["s2d"], _batch(frames[None], dense[None]), _released_hints(dense))
        made["s2d_flow"] = told[0, ..., ::every, ::every].cpu().half().numpy()
    if marks is None:
        marks = _landmarks(film)
    if marks is not None:
        made["landmarks"] = np.asarray(marks, np.float32)
    return made | {"first": film[0], "about": about | {"size": list(film.shape[1:3])}}


def settings_stride(parts: dict[str, nn.Module]) -> int:
    """Pixels between two cells of the latents."""
    return 2 ** (len(parts["vae"].config.block_out_channels) - 1)


def _batch(frames: Tensor, flow: Tensor) -> SceneBatch:
    known = torch.ones_like(flow[:, :, :1], dtype=torch.bool)
    return SceneBatch(frames, flow, known, torch.zeros_like(known[:, 0, 0], dtype=torch.long))


def _released_hints(flow: Float[Tensor, "steps 2 H W"]) -> Told:
    """Grid and watershed points of the last frame's flow, as the release draws them."""
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    part = min(flow.shape[-2:]) / RELEASED_GRID
    points = sample_points(
        flow[-1].cpu(), rng, stride=max(1, round(80 * part)), window=2 * round(7 * part) + 1
    )
    x, y = points.to(flow.device).unbind(-1)
    mask = torch.zeros(1, 1, *flow.shape[-2:], dtype=torch.bool, device=flow.device)
    mask[..., y, x] = True
    return Told(mask, flow[None])


def _landmarks(film: Frames) -> np.ndarray | None:
    """The 68 points of a face that is seen in every frame, else nothing."""
    try:
        track = track_face(film, USUAL_RATE)
    except InputError:
        return None
    return track.landmarks if track.found.all() else None


def write_shard(path: Path, clips: Iterable[dict]) -> int:
    """Write one archive through a temporary name; how many clips it holds."""
    part, count = path.with_suffix(".part"), 0
    with tarfile.open(part, "w") as archive:
        for count, clip in enumerate(clips, start=1):
            for name, value in clip.items():
                suffix, data = _bytes(value)
                member = tarfile.TarInfo(f"{path.stem}-{count - 1:05d}.{name}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    os.replace(part, path)
    return count


def _bytes(value: Any) -> tuple[str, bytes]:
    stream = io.BytesIO()
    if isinstance(value, dict):
        return "json", json.dumps(value).encode()
    if value.dtype == np.uint8:
        Image.fromarray(value).save(stream, "jpeg", quality=95)
        return "jpg", stream.getvalue()
    np.save(stream, value)
    return "npy", stream.getvalue()


def has_shards(folder: Path) -> bool:
    """Whether this is a folder of shards."""
    return any(Path(folder).glob("*.tar"))


class Shards:
    """Clips of a folder of archives in an order that `seed` shuffles anew for every epoch.

    Args:
        needs: clips without this array are left out.
        held_out: the last clip is kept out of training, for samples.
    """

    def __init__(self, folder: Path, seed: int, device: str, needs: str = "", held_out=False):
        self.seed, self.device = seed, device
        found = [clip for path in sorted(Path(folder).glob("*.tar")) for clip in _members(path)]
        self.clips = [clip for clip in found if not needs or f"{needs}.npy" in clip]
        if len(self.clips) <= held_out:
            raise InputError(
                f"no clips with {needs or 'latents'} in {folder}: make some with "
                "python -m mofa_nb.train.shards"
            )
        self.count = len(self.clips) - held_out

    def numbers(self, batch: int, turn: int) -> list[int]:
        """Which clips this process takes in its turn: every clip once an epoch, over all."""
        state = PartialState()
        first = (turn * state.num_processes + state.process_index) * batch
        picked = []
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
        """One clip."""
        made = {}
        for key, (path, offset, size) in self.clips[number].items():
            with open(path, "rb") as file:
                file.seek(offset)
                data = io.BytesIO(file.read(size))
            name, suffix = key.rsplit(".", 1)
            if suffix == "json":
                made[name] = json.load(data)
            elif suffix == "jpg":
                pixels = np.array(Image.open(data).convert("RGB"))
                made[name] = torch.from_numpy(pixels).permute(2, 0, 1)
            else:
                made[name] = torch.from_numpy(np.load(data))
        return made


def _members(path: Path) -> list[dict[str, tuple[Path, int, int]]]:
    """Where the arrays of each clip lie in an archive."""
    clips: dict[str, dict] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                key, name = member.name.split(".", 1)
                clips.setdefault(key, {})[name] = (path, member.offset_data, member.size)
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and make it again") from None
    return list(clips.values())


def full_flow(cells: Float[Tensor, "B steps 2 h w"], every: int) -> Float[Tensor, "B steps 2 H W"]:
    """Flow at its own size again, as far as an adapter looks: it reads every n-th pixel."""
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
    add("--s2d", action="store_true", help="also S2D's flow from released hints, for stage 2")
    add("--scenes", type=int, default=0, help="so many drawn scenes beside the footage")
    add("--heads", type=int, default=0, help="so many rendered heads")
    add("--per-shard", type=int, default=PER_SHARD)
    add("--seed", type=int, default=0)
    add("--device", default=default_device())
    try:
        _write_all(parser.parse_args(argv))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _write_all(given: argparse.Namespace) -> None:
    settings, size = Settings.load(given.model / "settings.json"), tuple(given.size)
    stride = AdapterConfig.load(given.model / "adapter" / "config.json").strides[-1]
    if any(side % stride for side in size):
        raise InputError(f"--size {size[0]} {size[1]}: both must be multiples of {stride}")
    names = ("vae", "image_encoder", *(("s2d",) if given.s2d else ()))
    parts = open_parts(given.model, names, given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    state = PartialState(cpu=given.device == "cpu")
    for number, (name, clips) in enumerate(_shards(given, size)):
        path = given.out / f"{name}.tar"
        if number % state.num_processes == state.process_index and not path.exists():
            torch.manual_seed(drawn_seed(given.seed, number))
            made = (clip_tensors(parts, settings, clip, given.flow) for clip in clips)
            sys.stdout.write(f"{path}: {write_shard(path, made)} clips\n")


def _shards(given: argparse.Namespace, size: tuple[int, int]) -> Iterator[tuple[str, Iterator]]:
    """Name and clips of every shard that there is to be."""
    windows = read_index(given.folder, given.frames)
    for k in range(0, len(windows), given.per_shard):
        part = windows[k : k + given.per_shard]
        yield f"footage-{k // given.per_shard:06d}", footage(given.folder, part, given.frames, size)
    for name, total, share in (("scenes", given.scenes, 0.0), ("heads", given.heads, 1.0)):
        bank = open_bank(given.folder).to(given.device) if total else None
        for k in range(0, total, given.per_shard):
            source = Source(bank, torch.default_generator, faces_share=share)
            count, seed = min(given.per_shard, total - k), drawn_seed(given.seed, k)
            made = rendered(source, count, given.frames, size, seed)
            yield f"{name}-{k // given.per_shard:06d}", made


if __name__ == "__main__":
    raise SystemExit(main())
