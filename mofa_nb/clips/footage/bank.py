"""Decode a folder of clips into tensors, and draw batches from them."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.index import files_below, read_index, video_files
from mofa_nb.clips.footage.passages import Window, thinned
from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.clips.scenes.surfaces import cropped, tile
from mofa_nb.media.video import video_frames

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
CLIP_SIZE = (144, 256)  # H, W of stored clips: room to crop 128x128 or 128x192 from
log = logging.getLogger(__name__)
NEARER = (1.0, 1.25, 1.5)  # how far clips are zoomed in, in turn
Dense = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bank:
    """Everything a training run draws from.

    photos: square tiles for `clips.scenes.random_scenes`; clips: frames of real footage with
    their estimated flow (pixels, frame 0 -> t) and where that flow can be trusted.
    """

    photos: UInt8[Tensor, "P 3 S S"]
    clips: UInt8[Tensor, "N T 3 H W"]
    flow: Float[Tensor, "N T-1 2 H W"]
    trusted: Bool[Tensor, "N T-1 1 H W"]

    def check_crop(self, size: tuple[int, int]) -> None:
        """InputError unless crops of (H, W) `size` can be cut out of the clips."""
        height, width = self.clips.shape[-2:]
        if not len(self.clips) or height < size[0] or width < size[1]:
            raise InputError(
                f"crops of {size[0]}x{size[1]} need clips at least as large, but the bank has "
                f"{len(self.clips)} clips of {height}x{width}"
            )

    def to(self, device: torch.device | str) -> "Bank":
        """The same bank on another device."""
        return Bank(**{name: value.to(device) for name, value in vars(self).items()})


def load_bank(
    folder: str | Path,
    side: int = 256,
    num_frames: int = 14,
    *,
    clip_size: tuple[int, int] = CLIP_SIZE,
    max_clips: int = 600,
    max_stills: int = 1500,
    tiles_per_photo: int = 40,
    dense: Dense | None = None,
    seed: int = 0,
) -> Bank:
    """Decode a folder of photographs and videos.

    Args:
        folder: holds `photos/` and/or `videos/`.
        side: S of the photo tiles.
        clip_size: (H, W) of the clips.
        max_stills: tiles taken from the videos, besides those of the photographs.
        tiles_per_photo: crops at random scales of every photograph larger than a tile.
        dense: (RGB uint8, RGB uint8) -> flow [H, W, 2]; classical flow (DIS) if not given.
        seed: of the random crops.
    Raises:
        InputError: nothing to read in the folder, or a file that cannot be read.
    """
    rng = np.random.default_rng(seed)
    tiles = list(photo_tiles(Path(folder), side, tiles_per_photo, rng))
    found = read_index(folder, num_frames) if max_clips else []
    windows = thinned(found, max_clips)
    if len(windows) < len(found):
        log.warning("%d of %d clips fit into memory's limit", len(windows), len(found))
    clips: list[np.ndarray] = []
    files = video_files(folder)
    for file in files:
        own = [w for w in windows if w.video == file.relative_to(folder).as_posix()]
        stills, cut = decoded(file, own, num_frames, clip_size, side, max_stills // len(files), rng)
        tiles += stills
        clips += cut
    if not tiles and not clips:
        raise InputError(f"nothing to read in {folder}: it needs photos/ or videos/ with files")
    estimates = flows_of(clips, dense or classical_flow)
    kept = [i for i, (_, trust) in enumerate(estimates) if trust[-1].mean() > 0.3]
    shape = (0, num_frames, 3, *clip_size)
    return Bank(
        photos=stacked(tiles, (0, 3, side, side), np.uint8),
        clips=stacked([clips[i] for i in kept], shape, np.uint8),
        flow=stacked([estimates[i][0] for i in kept], (0, num_frames - 1, 2, *clip_size), np.half),
        trusted=stacked([estimates[i][1] for i in kept], (0, num_frames - 1, 1, *clip_size), bool),
    )


def save_bank(bank: Bank, file: str | Path) -> None:
    """Write a decoded bank with its flow to one file, for many runs."""
    file = Path(file)
    torch.save(vars(bank), file.with_suffix(".part"))
    os.replace(file.with_suffix(".part"), file)


def open_bank(path: str | Path) -> Bank:
    """A saved bank, or a folder that is decoded now.

    Raises:
        InputError: neither is there, or the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return load_bank(path)
    try:
        return Bank(**torch.load(path, weights_only=True))
    except Exception as error:  # pickles break in many ways
        raise InputError(
            f"{path} is not a saved bank ({type(error).__name__}): make it again with "
            f"python -m mofa_nb.clips FOLDER --cache {path}"
        ) from error


def stacked(arrays: list[np.ndarray], empty: tuple[int, ...], dtype: type) -> Tensor:
    """One tensor, also of nothing."""
    whole = np.stack(arrays) if arrays else np.zeros(empty, dtype)
    return torch.from_numpy(np.ascontiguousarray(whole, dtype))


def photo_tiles(
    folder: Path, side: int, count: int, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "3 S S"]]:
    """Square crops of each photograph, from the whole view to full resolution."""
    where = folder / "photos"
    for file in files_below(where if where.is_dir() else folder, IMAGE_SUFFIXES):
        photo = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if photo is None:
            raise InputError(f"{file.name} cannot be read as an image: convert it to JPEG or PNG")
        photo = cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
        short = min(photo.shape[:2])
        yield tile(photo, side, 1.0, rng)
        for _ in range(count - 1 if short > 1.1 * side else 0):
            yield tile(photo, side, rng.uniform(1.0, short / side), rng)


def decoded(
    path: Path,
    windows: list[Window],
    num_frames: int,
    clip_size: tuple[int, int],
    side: int,
    max_stills: int,
    rng: np.random.Generator,
) -> tuple[list[UInt8[np.ndarray, "3 S S"]], list[UInt8[np.ndarray, "T 3 H W"]]]:
    """Read a video once: tiles of evenly spread frames, and the frames of the windows."""
    total = max(1, int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = set(np.linspace(0, total - 1, min(max_stills, total)).round().astype(int).tolist())
    users: dict[int, list[tuple[int, int]]] = {}
    for i, window in enumerate(windows):
        for t, frame in enumerate(window.frames(num_frames)):
            users.setdefault(frame, []).append((i, t))
    places = rng.uniform(size=(len(windows), 2))
    clips = np.zeros((len(windows), num_frames, *clip_size, 3), np.uint8)
    stills = []
    for number, image in enumerate(video_frames(path)):
        if number in wanted and image.std() > 8:
            stills.append(tile(image, side, rng.choice([1.0, 1.0, 1.3]), rng))
        for i, t in users.get(number, ()):
            clips[i, t] = cropped(image, clip_size, NEARER[i % len(NEARER)], places[i])
    return stills, list(clips.transpose(0, 1, 4, 2, 3))


def classical_flow(
    first: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]
) -> Float[np.ndarray, "H W 2"]:
    """Dense flow by OpenCV's DIS, medium preset."""
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, other))
    return finder.calc(*grey, None)


def flows_of(
    clips: list[UInt8[np.ndarray, "T 3 H W"]], dense: Dense
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Flow frame 0 -> t and where its round trip closes, for each clip, in threads."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda clip: clip_flow(clip, dense), clips))


def clip_flow(
    clip: UInt8[np.ndarray, "T 3 H W"], dense: Dense
) -> tuple[Float[np.ndarray, "T-1 2 H W"], Bool[np.ndarray, "T-1 1 H W"]]:
    """Estimated flow of one clip, and where going there and back ends within a pixel or 5%."""
    images = np.ascontiguousarray(clip.transpose(0, 2, 3, 1))
    height, width = images.shape[1:3]
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    flows, trusted = [], []
    for image in images[1:]:
        there, back = dense(images[0], image), dense(image, images[0])
        end = pixels + there
        returned = there + cv2.remap(back, end[..., 0], end[..., 1], cv2.INTER_LINEAR)
        inside = (end >= 0).all(-1) & (end[..., 0] < width) & (end[..., 1] < height)
        allowed = 1 + 0.05 * np.linalg.norm(there, axis=-1)
        flows.append(there.transpose(2, 0, 1).astype(np.half))
        trusted.append((inside & (np.linalg.norm(returned, axis=-1) < allowed))[None])
    return np.stack(flows), np.stack(trusted)


def random_clips(
    bank: Bank, batch: int, size: tuple[int, int] = (128, 128), generator=None
) -> SceneBatch:
    """Crops of the bank's clips in the form of generated scenes, half of them mirrored.

    `visible` is where the estimated flow can be trusted; `layers` is zero.

    Args:
        size: (H, W), at most the size of the bank's clips.
        generator: on the CPU.
    Raises:
        InputError: the bank has no clips, or they are smaller than `size`.
    """
    bank.check_crop(size)
    height, width = bank.clips.shape[-2:]
    draws = torch.rand(batch, 4, generator=generator)
    pieces = []
    for pick, down, along, mirror in draws.tolist():
        i = int(pick * len(bank.clips))
        top, left = int(down * (height - size[0] + 1)), int(along * (width - size[1] + 1))
        area = (slice(None), slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
        piece = [field[i][area] for field in (bank.clips, bank.flow, bank.trusted)]
        if mirror < 0.5:
            piece = [field.flip(-1) for field in piece]
            piece[1] = piece[1] * piece[1].new_tensor([-1.0, 1.0])[:, None, None]
        pieces.append(piece)
    clips, flow, trusted = (torch.stack(fields) for fields in zip(*pieces, strict=True))
    flow = flow.float()
    visible = trusted & stays_inside(flow)
    layers = torch.zeros(batch, *size, dtype=torch.long, device=flow.device)
    return SceneBatch(clips.float() / 255, flow, visible, layers)


def stays_inside(flow: Float[Tensor, "B steps 2 H W"]) -> Bool[Tensor, "B steps 1 H W"]:
    """Whether each pixel's end lies in the frame."""
    height, width = flow.shape[-2:]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, :, 1]
    x = torch.arange(width, device=flow.device) + flow[:, :, 0]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return inside[:, :, None]
