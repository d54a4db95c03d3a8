"""How 68 points reach the landmark adapter and S2D: images, hints, and masks of what may move."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import Size, whole_number
from mofa_nb.faces.points import Marks, Points, to_68
from mofa_nb.flow.dense import bend_flow
from mofa_nb.flow.sparse import Flow, Hints
from mofa_nb.media.images import Picture

CANVAS = 320  # side of the square on which the release draws
THICKNESS = 2
WIDER, HAIR, NECK = 1.25, 0.55, 0.2  # of the head's region; the latter of chin to brows

BROWS = [17, 18, 19, 20, 21, 22, 23, 24, 25, 26]
LIDS = [36, 37, 37, 38, 39, 42, 43, 44, 44, 45]  # the one below each of them
BELOW, BENT = 0.4, 1.3  # of the way from brow to lid; of the farthest landmark from their middle

Images, Seen = Float[Tensor, "*batch 3 H W"], Float[Tensor, "T 68 2"]


@functools.cache
def landmark_parts() -> tuple[dict, ...]:
    """The 15 polylines of a face: name, point numbers (counted from 1) and colour, in order."""
    return tuple(json.loads(Path(__file__).with_name("landmark_parts.json").read_text("utf-8")))


def drawn_landmarks(landmarks: Marks, size: Size) -> UInt8[np.ndarray, "T side side"]:
    """The landmarks as lines on the release's fixed square canvas: 0 where nothing is drawn, else
    the place in `landmark_parts()`, from 1; later ones lie on top."""
    height, width = size
    places = np.trunc(np.asarray(landmarks) / (width, height) * CANVAS).astype(np.int32)
    canvas = np.zeros((len(places), CANVAS, CANVAS), np.uint8)
    for image, points in zip(canvas, places, strict=True):
        for number, part in enumerate(landmark_parts(), start=1):
            line = points[np.array(part["points_1based"]) - 1]
            cv2.polylines(image, [line], False, number, THICKNESS, cv2.LINE_8)
    return canvas


def landmark_images(landmarks: Float[Tensor, "*batch 68 2"], size: Size) -> Images:
    """What the landmark embedder is shown (paper: landmark sequence), float32 in [0, 1]; resized
    bilinearly without smoothing, as in the release: a line may thin out on a smaller picture."""
    flat = landmarks.detach().reshape(-1, 68, 2).double().cpu().numpy()
    numbers = torch.from_numpy(drawn_landmarks(flat, size)).to(landmarks.device)
    return coloured_landmarks(numbers, size).reshape(*landmarks.shape[:-2], 3, *size)


def coloured_landmarks(numbers: UInt8[Tensor, "N side side"], size: Size) -> Images:
    """`landmark_images` of what `drawn_landmarks` drew, on the device where that lies."""
    colours = [(0, 0, 0), *(part["color"] for part in landmark_parts())]
    palette = torch.tensor(colours, device=numbers.device, dtype=torch.float64) / 255
    canvas = palette[numbers.int()].permute(0, 3, 1, 2)
    return functional.interpolate(canvas, size, mode="bilinear").float()


def landmarks_over(image: Picture, landmarks: Float[np.ndarray, "68 2"]) -> Picture:
    """The picture with one frame's landmarks drawn over it, for looking at."""
    drawn = np.ascontiguousarray(image).copy()
    fine = np.int32(np.round((np.asarray(landmarks) - 0.5) * 16))  # sixteenths of a pixel
    for part in landmark_parts():
        bright = [min(colour + 30, 255) for colour in part["color"]]
        line = fine[np.array(part["points_1based"]) - 1]
        cv2.polylines(drawn, [line], False, bright, 1, cv2.LINE_AA, shift=4)
    return drawn


def landmark_hints(landmarks: Seen, size: Size, grid: Size) -> Hints:
    """Displacement of every point since frame 0, in pixels of the S2D `grid`, where it truncates to
    in frame 0; of points that share a pixel the last one counts (as in the release on a CPU)."""
    whole_number(len(landmarks), 2, 100_000, "the number of frames of landmarks")
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


def flow_to_landmarks(flow: Flow, landmarks: Seen) -> Flow:
    """A face's flow, bent so that every landmark goes where it is asked to: S2D sees no lid. What
    is just below a brow goes with it, so that no lid pulls the brow down."""
    brows, lids = landmarks[:, BROWS], landmarks[:, LIDS]
    below = landmarks[0, BROWS] + BELOW * (lids[0] - brows[0])
    places = torch.cat([landmarks[0], below])
    moved = landmarks[1:] - landmarks[:1]
    moved = torch.cat([moved, moved[:, BROWS]], dim=1)
    reach = BENT * float((landmarks[0] - landmarks[0].mean(0)).norm(dim=-1).max())
    return bend_flow(flow, places, moved, reach)


def face_region(points: Points, size: Size) -> UInt8[np.ndarray, "H W"]:
    """Where the head is in any frame, 255 inside: what the landmark adapter may move. The hull of
    the 68 or 478 points, a little wider, with room for hair and neck; `size` is (width, height)."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    marks = to_68(points) if points.shape[1] > 68 else points
    for frame in np.asarray(marks, np.float64):
        centre, up = frame.mean(0), frame[17:27].mean(0) - frame[8]
        wider = centre + (frame - centre) * WIDER
        hair, neck = wider[17:27] + HAIR * up, wider[5:12] - NECK * up
        outline = cv2.convexHull(np.concatenate([wider, hair, neck]).astype(np.float32))
        cv2.fillConvexPoly(mask, np.int32(np.round(outline)), 255)
    return mask


def nearest(faces: Sequence[Seen], size: Size) -> list[Bool[np.ndarray, "H W"]]:
    """For each face, which pixels of an image lie nearest to it."""
    y, x = np.mgrid[: size[0], : size[1]]
    away = [np.hypot(x - column, y - row) for column, row in (f[0].mean(0).tolist() for f in faces)]
    return [one == np.min(away, axis=0) for one in away]
