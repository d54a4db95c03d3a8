"""Landmark images and landmark hints: how 68 points reach the landmark adapter and S2D."""

import functools
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.flow.sparse import Hints

PARTS_FILE = Path(__file__).with_name("landmark_parts.json")
CANVAS = 320  # side of the square on which the release draws
THICKNESS = 2
Part = dict[str, object]


@functools.cache
def landmark_parts() -> tuple[Part, ...]:
    """The 15 polylines of a face: name, point numbers (counted from 1) and colour, in order."""
    return tuple(json.loads(PARTS_FILE.read_text(encoding="utf-8")))


def drawn_landmarks(
    landmarks: Float[np.ndarray, "T 68 2"],
    size: tuple[int, int],
    *,
    parts: tuple[Part, ...] | None = None,
) -> UInt8[np.ndarray, "T side side"]:
    """The landmarks as lines on the release's fixed square canvas, numbered instead of coloured.

    Args:
        landmarks: pixels (x, y) of a picture of `size` (H, W); points outside are clipped by it.
        parts: polylines in drawing order, later ones on top; `landmark_parts()` when None.
    Returns:
        0 where nothing is drawn, else the part's place in the list, from 1.
    """
    import cv2

    height, width = size
    places = np.trunc(np.asarray(landmarks) / (width, height) * CANVAS).astype(np.int32)
    canvas = np.zeros((len(places), CANVAS, CANVAS), np.uint8)
    lines = [np.array(part["points_1based"]) - 1 for part in parts or landmark_parts()]
    for image, points in zip(canvas, places, strict=True):
        for number, index in enumerate(lines, start=1):
            cv2.polylines(image, [points[index]], False, number, THICKNESS, cv2.LINE_8)
    return canvas


def landmark_images(
    landmarks: Float[Tensor, "*batch 68 2"],
    size: tuple[int, int],
    *,
    parts: tuple[Part, ...] | None = None,
) -> Float[Tensor, "*batch 3 H W"]:
    """What the landmark embedder is shown (paper: landmark sequence), values in [0, 1].

    Drawn on a 320 x 320 canvas and resized bilinearly without smoothing, as in the release, so a
    line may thin out on a smaller picture; float32, on the device of the landmarks. Lines are
    drawn on the CPU, a tenth of a millisecond a frame.

    Args:
        landmarks: pixels (x, y) of a picture of `size` (H, W).
    """
    flat = landmarks.detach().reshape(-1, 68, 2).double().cpu().numpy()
    numbers = torch.from_numpy(drawn_landmarks(flat, size, parts=parts)).to(landmarks.device)
    image = coloured_landmarks(numbers, size, parts=parts)
    return image.reshape(*landmarks.shape[:-2], 3, *size)


def coloured_landmarks(
    numbers: UInt8[Tensor, "N side side"],
    size: tuple[int, int],
    *,
    parts: tuple[Part, ...] | None = None,
) -> Float[Tensor, "N 3 H W"]:
    """`landmark_images` of what `drawn_landmarks` drew, on the device where that lies."""
    colours = [(0, 0, 0), *(part["color"] for part in parts or landmark_parts())]
    palette = torch.tensor(colours, device=numbers.device, dtype=torch.float32) / 255
    (top, bottom, down), (left, right, across) = (
        _neighbours(side, numbers.device) for side in size
    )

    def seen(row: Tensor, column: Tensor) -> Tensor:
        picked = numbers[:, row[:, None], column].int()
        return functional.embedding(picked, palette)  # N H W 3

    across, down = across[:, None], down[:, None, None]
    upper = torch.lerp(seen(top, left), seen(top, right), across)
    lower = torch.lerp(seen(bottom, left), seen(bottom, right), across)
    return torch.lerp(upper, lower, down).permute(0, 3, 1, 2)


def _neighbours(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Per pixel along a side: the two canvas pixels it lies between, the second one's share."""
    place = (torch.arange(side, device=device, dtype=torch.float64) + 0.5) * (CANVAS / side) - 0.5
    first = place.floor()
    share = (place - first).float()
    low = first.long().clamp(0, CANVAS - 1)
    high = (first.long() + 1).clamp(0, CANVAS - 1)
    return low, high, share


def landmarks_over(
    image: UInt8[np.ndarray, "H W 3"],
    landmarks: Float[np.ndarray, "68 2"],
    *,
    thickness: int = 1,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with one frame's landmarks drawn over it, for looking at."""
    import cv2

    drawn = np.ascontiguousarray(image).copy()
    fine = np.int32(np.round((np.asarray(landmarks) - 0.5) * 16))  # sixteenths of a pixel
    for part in landmark_parts():
        line = fine[np.array(part["points_1based"]) - 1]
        bright = [int(c) for c in np.clip(np.array(part["color"]) + 30, 0, 255)]
        cv2.polylines(drawn, [line], False, bright, thickness, cv2.LINE_AA, shift=4)
    return drawn


def landmark_hints(
    landmarks: Float[Tensor, "T 68 2"],
    size: tuple[int, int],
    grid: tuple[int, int],
) -> Hints:
    """Displacement of every point since frame 0, written on the S2D grid.

    Args:
        landmarks: pixels (x, y) of a picture of `size` (H, W).
        grid: (H, W) of the hints.
    Returns:
        fractional displacements in pixels of the grid, at the truncated frame-0 position, which is
        clipped into the grid; of points that share a pixel the last one counts (as in the release
        on a CPU; there a GPU leaves it open).
    """
    if landmarks.shape[0] < 2:
        raise InputError("hints need landmarks of at least 2 frames, got 1")
    height, width = grid
    scale = landmarks.new_tensor((width / size[1], height / size[0]))
    points = landmarks * scale
    start = points[0].long()
    x, y = start[:, 0].clamp(0, width - 1), start[:, 1].clamp(0, height - 1)
    flow = torch.zeros(len(points) - 1, 2, height, width, device=landmarks.device)
    mask = torch.zeros(len(points) - 1, 1, height, width, device=landmarks.device)
    place = y * width + x
    same = place[:, None] == place[None]
    last = (same * torch.arange(1, len(place) + 1, device=place.device)).argmax(1)
    moved = (points[1:] - points[:1])[:, last]  # shared pixels all carry the last point's
    flow[:, :, y, x] = moved.transpose(1, 2).to(flow.dtype)
    mask[:, :, y, x] = 1
    return Hints(flow, mask)
