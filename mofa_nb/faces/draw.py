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


@functools.cache
def landmark_parts() -> tuple[dict, ...]:
    """The 15 polylines of a face: name, point numbers (counted from 1) and colour, in order."""
    return tuple(json.loads(PARTS_FILE.read_text(encoding="utf-8")))


@functools.cache
def _lines() -> list[np.ndarray]:
    return [np.array(part["points_1based"]) - 1 for part in landmark_parts()]


def drawn_landmarks(
    landmarks: Float[np.ndarray, "T 68 2"], size: tuple[int, int]
) -> UInt8[np.ndarray, "T side side"]:
    """The landmarks of a picture of `size` (H, W) as lines on the release's fixed square canvas: 0
    where nothing is drawn, else the place in `landmark_parts()`, from 1; later ones lie on top."""
    import cv2

    height, width = size
    places = np.trunc(np.asarray(landmarks) / (width, height) * CANVAS).astype(np.int32)
    canvas = np.zeros((len(places), CANVAS, CANVAS), np.uint8)
    for image, points in zip(canvas, places, strict=True):
        for number, index in enumerate(_lines(), start=1):
            cv2.polylines(image, [points[index]], False, number, THICKNESS, cv2.LINE_8)
    return canvas


def landmark_images(
    landmarks: Float[Tensor, "*batch 68 2"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 H W"]:
    """What the landmark embedder is shown (paper: landmark sequence), float32 in [0, 1], of the
    picture's `size` (H, W): drawn on a 320 x 320 canvas on the CPU and resized bilinearly without
    smoothing, as in the release, so a line may thin out on a smaller picture."""
    flat = landmarks.detach().reshape(-1, 68, 2).double().cpu().numpy()
    numbers = torch.from_numpy(drawn_landmarks(flat, size)).to(landmarks.device)
    return coloured_landmarks(numbers, size).reshape(*landmarks.shape[:-2], 3, *size)


def coloured_landmarks(
    numbers: UInt8[Tensor, "N side side"], size: tuple[int, int]
) -> Float[Tensor, "N 3 H W"]:
    """`landmark_images` of what `drawn_landmarks` drew, on the device where that lies."""
    colours = [(0, 0, 0), *(part["color"] for part in landmark_parts())]
    palette = torch.tensor(colours, device=numbers.device, dtype=torch.float64) / 255
    canvas = palette[numbers.int()].permute(0, 3, 1, 2)
    return functional.interpolate(canvas, size, mode="bilinear").float()


def landmarks_over(
    image: UInt8[np.ndarray, "H W 3"], landmarks: Float[np.ndarray, "68 2"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with one frame's landmarks drawn over it, for looking at."""
    import cv2

    drawn = np.ascontiguousarray(image).copy()
    fine = np.int32(np.round((np.asarray(landmarks) - 0.5) * 16))  # sixteenths of a pixel
    for part, line in zip(landmark_parts(), _lines(), strict=True):
        bright = [min(colour + 30, 255) for colour in part["color"]]
        cv2.polylines(drawn, [fine[line]], False, bright, 1, cv2.LINE_AA, shift=4)
    return drawn


def landmark_hints(
    landmarks: Float[Tensor, "T 68 2"], size: tuple[int, int], grid: tuple[int, int]
) -> Hints:
    """Displacement of every point since frame 0, in pixels of the S2D `grid` (H, W).

    It stands at the truncated frame-0 position, clipped into the grid; of points that share a pixel
    the last one counts (as in the release on a CPU). `size` is the picture's (H, W)."""
    if landmarks.shape[0] < 2:
        raise InputError("hints need landmarks of at least 2 frames, got 1")
    height, width = grid
    points = landmarks * landmarks.new_tensor((width / size[1], height / size[0]))
    x, y = points[0].long().unbind(-1)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    flow = torch.zeros(len(points) - 1, 2, height, width, device=landmarks.device)
    mask = torch.zeros(len(points) - 1, 1, height, width, device=landmarks.device)
    place = y * width + x
    same = place[:, None] == place[None]
    last = (same * torch.arange(1, len(place) + 1, device=place.device)).argmax(1)
    moved = (points[1:] - points[:1])[:, last]  # shared pixels all carry the last point's
    flow[:, :, y, x] = moved.transpose(1, 2).to(flow.dtype)
    mask[:, :, y, x] = 1
    return Hints(flow, mask)
