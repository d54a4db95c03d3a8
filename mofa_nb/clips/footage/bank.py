"""Videos and photographs of a folder: which passages are worth training on (inside one shot,
lively, not wild; kept in `index.json`), decoded into tensors, and batches of them. An index
that is made again looks only at new or changed files, known by content."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError, Size, read_json, refusing, whole_file
from mofa_nb.clips.draws import Rows
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes.surfaces import Tile, cropped, tile
from mofa_nb.flow.optical_flow import DIS, clip_flows, visible
from mofa_nb.media.images import PICTURES, Picture, read_image
from mofa_nb.media.video import CUT, Frames, frame_rate, shot_starts, video_frames

log = logging.getLogger(__name__)
Report = Callable[[str], None]
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"))
INDEX, VERSION, SAVE_SECONDS, ENDS = "index.json", 2, 10.0, 1 << 16
THUMB_HEIGHT = 64
LIVELY = (5.0, 48.0)  # motion over a clip, pixels at 128 px height
WANTED = 20.0  # the stride whose motion comes nearest to this is taken
MAX_STRIDE = 3
CLIP_SIZE = (144, 256)  # H, W of stored clips: room to crop 128x128 or 128x192 from
NEARER = (1.0, 1.25, 1.5)  # how far clips are zoomed in, in turn
ESTIMATOR = DIS(short_side=0, stride=3, smoothness=20.0)  # OpenCV's medium preset, not enlarged


@dataclass(frozen=True)
class Search:
    """What makes a passage of a video a clip."""

    num_frames: int = 14
    hop: int = 8  # frames between the starts of neighbouring clips
    motion: tuple[float, float] = LIVELY  # over a clip, least and most
    cut: float = CUT  # mean change of colour between two frames, [0, 1], that may be a cut
    rate: float = 0.0  # frames per second; 0 takes every first to third frame, by the motion


@dataclass(frozen=True)
class Passage:
    """Frames start, start + stride, ... of one video file (its path in the folder)."""

    video: str
    start: int
    stride: int

    def frames(self, num_frames: int) -> list[int]:
        return [self.start + self.stride * t for t in range(num_frames)]


def find_passages(path: str | Path, search: Search | None = None) -> list[Passage]:
    """The lively passages of a video, each inside one shot; InputError if it is no video."""
    path, search, windows = Path(path), search or Search(), []
    change, motion = _video_changes(path)
    starts = shot_starts(change, search.cut)
    travelled = np.concatenate([[0.0], np.cumsum(motion)])
    strides = range(1, MAX_STRIDE + 1)
    if search.rate:
        strides = (max(1, round(frame_rate(path) / search.rate)),)
    least, most = search.motion
    for first, last in zip(starts, [*starts[1:], len(change) + 1], strict=True):
        for start in range(first, last, search.hop):
            ends = {s: start + s * (search.num_frames - 1) for s in strides}
            travel = {s: travelled[e] - travelled[start] for s, e in ends.items() if e < last}
            fit = {s: distance for s, distance in travel.items() if least <= distance <= most}
            if fit:
                nearest = min(fit, key=lambda s: abs(np.log(max(fit[s], 1e-6) / WANTED)))
                windows.append(Passage(path.name, start, nearest))
    return windows


def _video_changes(path: Path) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Mean change of colour ([0, 1]), and the 90th percentile of a coarse flow's length (pixels at
    128 px height), per frame step."""
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    before, changes, motions = None, [], []
    for frame in video_frames(path):
        width = max(16, round(frame.shape[1] * THUMB_HEIGHT / frame.shape[0]))
        thumb = cv2.resize(frame, (width, THUMB_HEIGHT), interpolation=cv2.INTER_AREA)
        if before is not None:
            changes.append(float(cv2.absdiff(thumb, before).mean()) / 255)
            grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, thumb))
            length = np.linalg.norm(finder.calc(*grey, None), axis=-1)
            motions.append(float(np.percentile(length, 90)) * 128 / THUMB_HEIGHT)
        before = thumb
    return np.array(changes), np.array(motions)


def evenly_spread(windows: list[Passage], count: int) -> list[Passage]:
    places = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
    return [windows[i] for i in places]


def files_below(folder: str | Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> list[Path]:
    """Files of a folder and its subfolders by name; hidden ones and `._` companions are not."""
    paths = [path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes]
    return sorted(p for p in paths if not p.name.startswith(".") and p.is_file())


def write_index(
    folder: str | Path, search: Search | None = None, clips: int = 0,
    *, workers: int | None = None, report: Report = lambda sentence: None,
) -> list[Passage]:  # fmt: skip
    """Find the passages of all videos and write them to `folder`/index.json; InputError: no videos.

    `clips`: at most so many, evenly spread; 0 takes all. `workers`: videos read at once. `report`:
    called with a sentence per file that is skipped, and at the end."""
    folder, search = Path(folder), search or Search()
    if not (files := files_below(folder)):
        raise InputError(f"no videos in {folder} and its subfolders: put mp4 files there")
    document = {"version": VERSION, "search": asdict(search), "clips": clips}
    before, entries, saved = _read(folder), {}, time.monotonic()
    same = before.get("search") == json.loads(json.dumps(document["search"]))
    cached = {entry["content"]: entry for entry in before["files"].values()} if same else {}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = {pool.submit(_entry, file, search, cached): file for file in files}
        for job in as_completed(jobs):
            entries[jobs[job].relative_to(folder).as_posix()] = job.result()
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(folder, document | {"files": (before["files"] if same else {}) | entries})
                saved = time.monotonic()
    _save(folder, document | {"files": dict(sorted(entries.items()))})
    total = sum(len(entry["windows"]) for entry in entries.values())
    windows = read_index(folder, search.num_frames, report)
    rest = f"; {total - len(windows)} more are left out by --clips" if total > len(windows) else ""
    report(f"{len(windows)} clips in {folder / INDEX}{rest}")
    return windows


def read_index(folder: str | Path, num_frames: int, report: Report = log.warning) -> list[Passage]:
    """The passages of `folder`/index.json, or found anew where there is none that fits; `report` is
    called with a sentence per file that is skipped."""
    document = _read(folder)
    if not document or document["search"]["num_frames"] < num_frames:
        entries = {file: _entry(file, Search(num_frames), {}) for file in files_below(folder)}
        files = {file.relative_to(folder).as_posix(): entry for file, entry in entries.items()}
        document = {"files": files, "clips": 0}
    windows = []
    for name, entry in document["files"].items():
        windows += [Passage(name, *place) for place in entry["windows"]]
        if entry["error"]:
            report(f"skipped {name}: {entry['error']}")
    return evenly_spread(windows, document["clips"] or len(windows))


def films(
    folder: Path, windows: list[Passage], num_frames: int,
    crop: Callable[[Passage, Picture], Picture],
) -> Iterator[tuple[Passage, Frames]]:  # fmt: skip
    """The pictures of some passages, cropped as they are read, each passage as soon as it is whole;
    every video is read once."""
    for video in dict.fromkeys(window.video for window in windows):
        wanted = {w: w.frames(num_frames) for w in windows if w.video == video}
        begun = {window: [] for window in wanted}
        try:
            for number, image in enumerate(video_frames(Path(folder) / video)):
                for window in [w for w, numbers in wanted.items() if number in numbers]:
                    begun[window].append(crop(window, image))
                    if number == wanted[window][-1]:
                        yield window, np.stack(begun.pop(window))
                        del wanted[window]
                if not wanted:
                    break
        except (InputError, OSError) as error:
            log.warning("skipped %s: %s", video, error)


def _read(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / INDEX
    document = read_json(path, "index") if path.exists() else {}
    fits = isinstance(document, dict) and document.get("version") == VERSION
    return document if fits else {}


def _save(folder: Path, document: dict[str, Any]) -> None:
    with whole_file(folder / INDEX) as file:
        file.write_text(json.dumps(document), encoding="utf-8")


def _entry(file: Path, search: Search, cached: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the index holds of a video: as it is known there, or found now."""
    entry = {"content": None, "windows": [], "error": None}
    try:
        if (content := _content(file)) in cached:
            return cached[content]
        entry["content"] = content
        entry["windows"] = [[window.start, window.stride] for window in find_passages(file, search)]
    except (InputError, OSError) as refused:
        entry["error"] = str(refused)
    return entry


def _content(file: Path) -> str:
    """A hash of size, time, beginning and end, which knows a file again under another name."""
    about = file.stat()
    with file.open("rb") as stream:
        first = stream.read(ENDS)
        stream.seek(max(0, about.st_size - ENDS))
        text = f"{about.st_size} {about.st_mtime_ns}".encode() + first + stream.read(ENDS)
    return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True)
class Bank(Rows):
    """Everything a training run draws from."""

    photos: UInt8[Tensor, "P 3 S S"]  # square tiles for `clips.scenes.random_scenes`
    clips: UInt8[Tensor, "N T 3 H W"]  # real footage
    flow: Float[Tensor, "N T-1 2 H W"]  # estimated, pixels, frame 0 -> t
    trusted: Bool[Tensor, "N T-1 1 H W"]  # where that flow can be trusted

    def check_crop(self, size: Size) -> None:
        """InputError unless crops of (H, W) `size` can be cut out of the clips."""
        height, width = self.clips.shape[-2:]
        if not len(self.clips) or height < size[0] or width < size[1]:
            held = f"the bank has {len(self.clips)} clips of {height}x{width}"
            needed = f"crops of {size[0]}x{size[1]} need clips at least as large"
            raise InputError(f"{needed}, but {held}")


def load_bank(
    folder: str | Path, side: int = 256, num_frames: int = 14,
    *, clip_size: Size = CLIP_SIZE, max_clips: int = 600, max_stills: int = 1500,
    tiles_per_photo: int = 40,
) -> Bank:  # fmt: skip
    """Decode a folder of photographs and videos; always the same crops.

    `side`: S of the photo tiles; `clip_size`: (H, W); `max_stills`: tiles taken from the videos,
    besides the `tiles_per_photo` crops at random scales of every photograph larger than a tile.
    What cannot be read is left out, as the log says; InputError: nothing is left."""
    rng = np.random.default_rng(0)
    tiles = list(_photo_tiles(Path(folder), side, tiles_per_photo, rng))
    files, candidates = files_below(folder), read_index(folder, num_frames) if max_clips else []
    windows, clips = evenly_spread(candidates, max_clips), []
    if len(windows) < len(candidates):
        log.warning("%d of %d clips fit into memory's limit", len(windows), len(candidates))
    for file in files:
        own = [w for w in windows if w.video == file.relative_to(folder).as_posix()]
        places = zip(own, rng.uniform(size=(len(own), 2)), strict=True)
        crops = {w: (NEARER[i % len(NEARER)], place) for i, (w, place) in enumerate(places)}
        crop = lambda w, image, crops=crops: cropped(image, clip_size, *crops[w])  # noqa: E731
        cut = dict(films(folder, own, num_frames, crop))
        clips += [cut[w].transpose(0, 3, 1, 2) for w in own if w in cut]
        try:
            tiles += _stills(file, max_stills // len(files), side, rng)
        except (InputError, OSError) as error:
            log.warning("skipped %s: %s", file, error)
    if not tiles and not clips:
        raise InputError(f"nothing to read in {folder}: it needs photos/ or videos/ with files")
    with ThreadPoolExecutor() as pool:
        estimates = list(pool.map(_clip_flow, clips))
    indices = [i for i, (_, trust) in enumerate(estimates) if trust[-1].mean() > 0.3]
    flows, trusted = ([estimates[i][k] for i in indices] for k in range(2))

    fields = (  # reshaped, since there may be none
        np.array(tiles, np.uint8).reshape(-1, 3, side, side),
        np.array([clips[i] for i in indices], np.uint8).reshape(-1, num_frames, 3, *clip_size),
        np.array(flows, np.half).reshape(-1, num_frames - 1, 2, *clip_size),
        np.array(trusted, bool).reshape(-1, num_frames - 1, 1, *clip_size),
    )
    return Bank(*map(torch.from_numpy, fields))


def save_bank(bank: Bank, file: str | Path) -> None:
    """Write a decoded bank with its flow to one file, for many runs."""
    with whole_file(file) as part:
        torch.save(vars(bank), part)


def open_bank(path: str | Path) -> Bank:
    """A saved bank, or a folder that is decoded now; InputError: neither, or it is damaged."""
    path = Path(path)
    if not path.is_file():
        return load_bank(path)
    remedy = f"make it again with python -m mofa_nb.clips FOLDER --cache {path}"
    with refusing(f"{path} is not a saved bank", remedy, Exception):  # pickles break in many ways
        return Bank(**torch.load(path, weights_only=True))


def _photo_tiles(folder: Path, side: int, count: int, rng: np.random.Generator) -> Iterator[Tile]:
    """Square crops of each photograph, from the whole view to full resolution."""
    where = folder / "photos"
    for file in files_below(where if where.is_dir() else folder, PICTURES):
        try:
            photo = read_image(file)
        except (InputError, OSError) as error:
            log.warning("skipped %s: %s", file, error)
            continue
        short = min(photo.shape[:2])
        yield tile(photo, side, 1.0, rng)
        for _ in range(count - 1 if short > 1.1 * side else 0):
            yield tile(photo, side, rng.uniform(1.0, short / side), rng)


def _stills(path: Path, most: int, side: int, rng: np.random.Generator) -> Iterator[Tile]:
    """Tiles of a video's evenly spread frames, but for blank ones."""
    total = max(1, int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = set(np.linspace(0, total - 1, min(most, total)).round().astype(int).tolist())
    for number, image in enumerate(video_frames(path) if wanted else ()):
        if number in wanted and image.std() > 8:
            yield tile(image, side, rng.choice([1.0, 1.0, 1.3]), rng)


def _clip_flow(
    clip: UInt8[np.ndarray, "T 3 H W"],
) -> tuple[Float[np.ndarray, "T-1 2 H W"], Bool[np.ndarray, "T-1 1 H W"]]:
    """Estimated flow of one clip, and where going there and back ends within a pixel or 5%."""
    frames = torch.from_numpy(clip).float() / 255
    pairs = [clip_flows(frames[[0, t]], ESTIMATOR) for t in range(1, len(frames))]
    there, back = (torch.cat(flows) for flows in zip(*pairs, strict=True))
    return there.half().numpy(), visible(there, back, slack=1.0).numpy()


def random_clips(bank: Bank, batch: int, size: Size = (128, 128), generator=None) -> SceneBatch:
    """Crops of the bank's clips as scenes of one layer, visible where the flow can be trusted; half
    of them mirrored. `generator`: on the CPU. InputError: no clips as large as `size` (H, W)."""
    bank.check_crop(size)
    height, width = bank.clips.shape[-2:]
    pieces = []
    for pick, down, along, mirror in torch.rand(batch, 4, generator=generator).tolist():
        i = int(pick * len(bank.clips))
        top, left = int(down * (height - size[0] + 1)), int(along * (width - size[1] + 1))
        area = ..., slice(top, top + size[0]), slice(left, left + size[1])
        piece = [field[i][area] for field in (bank.clips, bank.flow, bank.trusted)]
        if mirror < 0.5:
            piece = [field.flip(-1) for field in piece]
            piece[1] = piece[1] * piece[1].new_tensor([-1.0, 1.0])[:, None, None]
        pieces.append(piece)
    clips, flow, trusted = (torch.stack(fields) for fields in zip(*pieces, strict=True))
    flow = flow.float()
    y = torch.arange(size[0], device=flow.device)[:, None] + flow[:, :, 1]
    x = torch.arange(size[1], device=flow.device) + flow[:, :, 0]
    inside = (x >= -0.5) & (x <= size[1] - 0.5) & (y >= -0.5) & (y <= size[0] - 0.5)
    layers = torch.zeros(batch, *size, dtype=torch.long, device=flow.device)
    return SceneBatch(clips.float() / 255, flow, trusted & inside[:, :, None], layers)
