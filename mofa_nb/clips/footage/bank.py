"""Decode a folder of clips into tensors, and draw batches from them."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError, refusing, whole_file
from mofa_nb.clips.draws import Rows
from mofa_nb.clips.footage.index import Window, files_below, read_index, thinned
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes.surfaces import cropped, tile
from mofa_nb.flow.optical_flow import DIS, clip_flows, visible
from mofa_nb.media.images import read_image
from mofa_nb.media.video import video_frames

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
CLIP_SIZE = (144, 256)  # H, W of stored clips: room to crop 128x128 or 128x192 from
log = logging.getLogger(__name__)
NEARER = (1.0, 1.25, 1.5)  # how far clips are zoomed in, in turn
ESTIMATOR = DIS(short_side=0, stride=3, smoothness=20.0)  # OpenCV's medium preset, not enlarged


@dataclass(frozen=True)
class Bank(Rows):
    """Everything a training run draws from."""

    photos: UInt8[Tensor, "P 3 S S"]  # square tiles for `clips.scenes.random_scenes`
    clips: UInt8[Tensor, "N T 3 H W"]  # real footage
    flow: Float[Tensor, "N T-1 2 H W"]  # estimated, pixels, frame 0 -> t
    trusted: Bool[Tensor, "N T-1 1 H W"]  # where that flow can be trusted

    def check_crop(self, size: tuple[int, int]) -> None:
        """InputError unless crops of (H, W) `size` can be cut out of the clips."""
        height, width = self.clips.shape[-2:]
        if not len(self.clips) or height < size[0] or width < size[1]:
            held = f"the bank has {len(self.clips)} clips of {height}x{width}"
            needed = f"crops of {size[0]}x{size[1]} need clips at least as large"
            raise InputError(f"{needed}, but {held}")


def load_bank(
    folder: str | Path,
    side: int = 256,
    num_frames: int = 14,
    *,
    clip_size: tuple[int, int] = CLIP_SIZE,
    max_clips: int = 600,
    max_stills: int = 1500,
    tiles_per_photo: int = 40,
) -> Bank:
    """Decode a folder of photographs and videos; always the same crops.

    `side`: S of the photo tiles; `clip_size`: (H, W); `max_stills`: tiles taken from the videos,
    besides the `tiles_per_photo` crops at random scales of every photograph larger than a tile.
    InputError: nothing to read in the folder, or a file that cannot be read."""
    rng = np.random.default_rng(0)
    tiles = list(_photo_tiles(Path(folder), side, tiles_per_photo, rng))
    files, found = files_below(folder), read_index(folder, num_frames) if max_clips else []
    windows, clips = thinned(found, max_clips), []
    if len(windows) < len(found):
        log.warning("%d of %d clips fit into memory's limit", len(windows), len(found))
    for file in files:
        own = [w for w in windows if w.video == file.relative_to(folder).as_posix()]
        cut = np.zeros((len(own), num_frames, *clip_size, 3), np.uint8)
        tiles += _decoded(file, own, cut, side, max_stills // len(files), rng)
        clips += list(cut.transpose(0, 1, 4, 2, 3))
    if not tiles and not clips:
        raise InputError(f"nothing to read in {folder}: it needs photos/ or videos/ with files")
    with ThreadPoolExecutor() as pool:
        estimates = list(pool.map(_clip_flow, clips))
    kept = [i for i, (_, trust) in enumerate(estimates) if trust[-1].mean() > 0.3]
    flows, trusted = ([estimates[i][k] for i in kept] for k in range(2))

    fields = (  # reshaped, since there may be none
        np.array(tiles, np.uint8).reshape(-1, 3, side, side),
        np.array([clips[i] for i in kept], np.uint8).reshape(-1, num_frames, 3, *clip_size),
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


def _photo_tiles(
    folder: Path, side: int, count: int, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "3 S S"]]:
    """Square crops of each photograph, from the whole view to full resolution."""
    where = folder / "photos"
    for file in files_below(where if where.is_dir() else folder, IMAGE_SUFFIXES):
        photo = read_image(file)
        short = min(photo.shape[:2])
        yield tile(photo, side, 1.0, rng)
        for _ in range(count - 1 if short > 1.1 * side else 0):
            yield tile(photo, side, rng.uniform(1.0, short / side), rng)


def _decoded(
    path: Path,
    windows: list[Window],
    clips: UInt8[np.ndarray, "N T H W 3"],
    side: int,
    max_stills: int,
    rng: np.random.Generator,
) -> list[UInt8[np.ndarray, "3 S S"]]:
    """Read a video once: tiles of evenly spread frames; the windows' frames are put into clips."""
    total = max(1, int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = set(np.linspace(0, total - 1, min(max_stills, total)).round().astype(int).tolist())
    users: dict[int, list[tuple[int, int]]] = {}
    for i, window in enumerate(windows):
        for t, frame in enumerate(window.frames(clips.shape[1])):
            users.setdefault(frame, []).append((i, t))
    places = rng.uniform(size=(len(windows), 2))
    stills = []
    for number, image in enumerate(video_frames(path)):
        if number in wanted and image.std() > 8:
            stills.append(tile(image, side, rng.choice([1.0, 1.0, 1.3]), rng))
        for i, t in users.get(number, ()):
            clips[i, t] = cropped(image, clips.shape[2:4], NEARER[i % len(NEARER)], places[i])
    return stills


def _clip_flow(
    clip: UInt8[np.ndarray, "T 3 H W"],
) -> tuple[Float[np.ndarray, "T-1 2 H W"], Bool[np.ndarray, "T-1 1 H W"]]:
    """Estimated flow of one clip, and where going there and back ends within a pixel or 5%."""
    frames = torch.from_numpy(clip).float() / 255
    pairs = [clip_flows(frames[[0, t]], ESTIMATOR) for t in range(1, len(frames))]
    there, back = (torch.cat(flows) for flows in zip(*pairs, strict=True))
    return there.half().numpy(), visible(there, back, slack=1.0).numpy()


def random_clips(
    bank: Bank, batch: int, size: tuple[int, int] = (128, 128), generator=None
) -> SceneBatch:
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
