"""Lids and lips that open or close: there a face shows what its photograph does not."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.faces.points import to_68

WIDER, HAIR, NECK = 1.25, 0.55, 0.2  # of the head's region; the latter of chin to brows


def face_region(
    points: Float[np.ndarray, "T P C"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Where the head is in any frame, 255 inside: what the landmark adapter may move.

    The hull of the 68 or 478 points, a little wider, with room for the hair above and the neck
    below; `size` is (width, height)."""
    import cv2

    mask = np.zeros((size[1], size[0]), np.uint8)
    marks = to_68(points) if points.shape[1] > 68 else points
    for frame in np.asarray(marks, np.float64):
        centre, up = frame.mean(0), frame[17:27].mean(0) - frame[8]
        wider = centre + (frame - centre) * WIDER
        hair, neck = wider[17:27] + HAIR * up, wider[5:12] - NECK * up
        outline = cv2.convexHull(np.concatenate([wider, hair, neck]).astype(np.float32))
        cv2.fillConvexPoly(mask, np.int32(np.round(outline)), 255)
    return mask


def nearest(
    faces: Sequence[Float[Tensor, "T 68 2"]], size: tuple[int, int]
) -> list[Bool[np.ndarray, "H W"]]:
    """For each face, which pixels of an image of `size` (height, width) lie nearest to it."""
    y, x = np.mgrid[: size[0], : size[1]]
    away = [np.hypot(x - column, y - row) for column, row in (f[0].mean(0).tolist() for f in faces)]
    return [one == np.min(away, axis=0) for one in away]


# Points of each feature, and pairs of them that part as it opens (iBUG's 68 points).
FEATURES = (
    (slice(36, 42), ((37, 41), (38, 40))),
    (slice(42, 48), ((43, 47), (44, 46))),
    (slice(48, 68), ((61, 67), (62, 66), (63, 65))),
)
PARTED = 1.0  # pixels by which an opening has changed where nothing old is kept
MARGIN = 0.15  # of a feature's width, around it


def unopened(
    landmarks: Float[Tensor, "T 68 2"], first: Float[Tensor, "68 2"], size: tuple[int, int]
) -> Float[Tensor, "T 1 H W"]:
    """1 where a face looks as it did, down to 0 around lids and lips that part or meet.

    `first` are the photograph's landmarks, `size` is (height, width)."""
    share = np.ones((len(landmarks), *size), np.float32)
    for points, pairs in FEATURES:
        upper, lower = np.array(pairs).T
        gap = (landmarks[:, upper] - landmarks[:, lower]).norm(dim=-1).mean(1)
        change = (gap - (first[upper] - first[lower]).norm(dim=-1).mean()).abs() / PARTED
        for kept, part, much in zip(share, landmarks[:, points], change.clamp(max=1), strict=True):
            if much > 0:
                kept *= 1 - float(much) * _around(part.numpy(), size)
    return torch.from_numpy(share)[:, None]


def _around(points: Float[np.ndarray, "N 2"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """1 on what the points enclose and a margin around it, fading out beyond."""
    import cv2

    margin, area = max(MARGIN * float(np.ptp(points[:, 0])), 1.0), np.zeros(size, np.float32)
    cv2.fillConvexPoly(area, cv2.convexHull(points.round().astype(np.int32)), 1.0)
    reach = 2 * round(margin) + 1
    area = cv2.dilate(area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return cv2.GaussianBlur(area, (0, 0), margin / 2)
