"""What is measured on a clip of a face: landmarks found again, identity, rest, seams, speech."""

from collections.abc import Sequence
from math import nan

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.faces.points import eye_distance
from mofa_nb.media.images import to_uint8
from mofa_nb.sampling.denoise import Window
from mofa_nb.study.faces import found_landmarks, landmark_error
from mofa_nb.study.metrics import STAYS, at_points, motion_scores, psnr, track_points
from tests.benchmarks.face_scenes import FaceScene
from tests.benchmarks.scoring import picture_scores

INNER_LIPS = ((61, 67), (62, 66), (63, 65))  # of the 68 points: upper and lower edge
CROP = 1.3  # side of the face crop over that of the landmarks' box
FACE = {  # key: column of the table, digits
    "error": ("landmark error", 3),
    "error_end": ("last frame", 3),
    "found": ("faces found", 2),
    "drift_median": ("drift px", 2),
    "drift_p90": ("drift p90 px", 2),
    "psnr": ("PSNR dB", 1),
    "psnr_face": ("face", 1),
    "psnr_uncovered": ("where uncovered", 1),
}
STANDING = {
    "psnr_crop": ("face crop dB", 1),
    "shape": ("landmark shape", 3),
    "found": ("faces found", 2),
    "drift_p90": ("drift p90 px", 2),
}


def landmark_errors(
    found: Float[np.ndarray, "T 68 2"], asked: Float[np.ndarray, "T 68 2"]
) -> Float[np.ndarray, " T"]:
    """`landmark_error` per frame; one without a face (NaN) counts as if the face had stayed as in
    the first one."""
    lost = ~shows_face(found)[:, None, None]
    return landmark_error(np.where(lost, asked[:1], found), asked)


def shows_face(found: Float[np.ndarray, "T 68 2"]) -> Bool[np.ndarray, " T"]:
    """Whether a face was found in each frame."""
    return np.isfinite(found).all((1, 2))


def share_above_floor(error: float, floor: float, still: float) -> float:
    """Error above the detector's own, as a share of the still clip's above it."""
    return (error - floor) / (still - floor) if still > floor else nan


def shape_error(points: Float[np.ndarray, "68 2"], truth: Float[np.ndarray, "68 2"]) -> float:
    """Mean distance of two faces' points after the best shift, turn and size.

    In distances between the eyes of `truth`.
    """
    here, there = (p[:, 0] + 1j * p[:, 1] for p in (points, truth))
    here, there = here - here.mean(), there - there.mean()
    fitted = here * (np.vdot(here, there) / np.vdot(here, here))
    return float(np.abs(fitted - there).mean() / eye_distance(truth))


def mouth_opening(points: Float[np.ndarray, "T 68 2"]) -> Float[np.ndarray, " T"]:
    """Gap between the inner lips, in distances between the eyes; NaN without a face."""
    upper, lower = (points[:, [pair[k] for pair in INNER_LIPS]] for k in (0, 1))
    return np.linalg.norm(upper - lower, axis=-1).mean(1) / eye_distance(points)


def opening_correlation(
    points: Float[np.ndarray, "T 68 2"], curve: Float[np.ndarray, " T"]
) -> float:
    """Pearson correlation of the mouth's opening with a curve.

    Where no face was found the mouth counts as in the first frame that shows one; 0 where it
    never moves, or there never is a face.
    """
    opening = mouth_opening(points)
    if not np.isfinite(opening).any():
        return 0.0
    opening = np.where(np.isfinite(opening), opening, opening[np.isfinite(opening)][0])
    if opening.std() < 1e-9 or curve.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(opening, curve)[0, 1])


def face_scores(scene: FaceScene, clip: Float[Tensor, "T 3 H W"]) -> dict[str, float]:
    """Everything measured on one clip that is to follow the scene's landmarks."""
    marks = found_landmarks(to_uint8(clip))
    errors = landmark_errors(marks, scene.landmarks.numpy())
    region = scene.region.expand(len(clip) - 1, 1, -1, -1)
    return {
        "error": float(errors[1:].mean()),
        "error_end": float(errors[-1]),
        "found": float(shows_face(marks).mean()),
        **rest_scores(scene, clip),
        **picture_scores(scene, clip),
        "psnr_face": psnr(clip[1:], scene.frames[1:], region),
    }


def rest_scores(scene: FaceScene, clip: Float[Tensor, "T 3 H W"]) -> dict[str, float]:
    """How far what should stay beside the head is off in the last frame, pixels.

    NaN where nothing beside the head stays in place.
    """
    points = scene.outside()
    way = at_points(scene.flow, points).norm(dim=-1).amax(1)
    points = points[(way < STAYS) & at_points(scene.seen, points)[:, -1, 0]]
    if not len(points):
        return {"drift_median": nan, "drift_p90": nan}
    asked = at_points(scene.flow[-1:], points)
    scores = motion_scores(track_points(clip[[0, -1]], points), asked)
    return {key: getattr(scores, key) for key in ("drift_median", "drift_p90")}


def standing_scores(scene: FaceScene, clip: Float[Tensor, "T 3 H W"]) -> dict[str, float]:
    """Identity, on a clip of a face that is asked to stand still."""
    marks = found_landmarks(to_uint8(clip))
    own = found_landmarks(to_uint8(scene.frames[:1]))[0]
    known = [shape_error(points, own) for points in marks[1:][shows_face(marks[1:])]]
    rows, columns = face_crop(scene)
    return {
        "psnr_crop": psnr(clip[1:, :, rows, columns], scene.frames[1:, :, rows, columns]),
        "shape": float(np.mean(known)) if known else nan,
        "found": float(shows_face(marks).mean()),
        **rest_scores(scene, clip),
    }


def face_crop(scene: FaceScene) -> tuple[slice, slice]:
    """Rows and columns of a box around the first frame's landmarks."""
    low, high = scene.landmarks[0].amin(0), scene.landmarks[0].amax(0)
    middle, half = (low + high) / 2, (high - low) / 2 * CROP
    (left, top), (right, bottom) = (
        (middle - half).floor().clamp(min=0).long().tolist(),
        (middle + half).ceil().long().tolist(),
    )
    return slice(top, bottom), slice(left, right)


def window_seams(windows: Sequence[Window], num_frames: int) -> list[int]:
    """Frames that other windows make than the frame before: where a seam could show."""
    makers = [
        {k for k, w in enumerate(windows) if frame in w.frames[w.own]}
        for frame in range(num_frames)
    ]
    return [t for t in range(1, num_frames) if makers[t] != makers[t - 1]]


def seam_ratios(
    frames: Float[Tensor, "T 3 H W"], seams: Sequence[int], reach: int = 4
) -> list[float]:
    """Change at each seam over the median change of its neighbours.

    The change of frame t is its mean absolute difference from frame t - 1.

    Args:
        seams: frames at which a seam lies; such frames are nobody's neighbours.
        reach: neighbours are at most so many frames away.
    """
    change = frames.diff(dim=0).abs().flatten(1).mean(1)  # of frame t at t - 1
    ratios = []
    for seam in seams:
        near = range(max(2, seam - reach), min(len(frames), seam + reach + 1))
        near = [t - 1 for t in near if t not in seams]
        if near:
            ratios.append(float(change[seam - 1] / change[near].quantile(0.5).clamp(min=1e-9)))
    return ratios


def edge_gradient(
    frames: Float[Tensor, "*T 3 H W"], region: Bool[Tensor, "H W"], reach: int = 2
) -> float:
    """Mean step of brightness between neighbouring pixels near a region's edge.

    Args:
        reach: the edge is a band of so many pixels to either side.
    """
    inside, size = region[None].float(), 2 * reach + 1
    grown = functional.max_pool2d(inside, size, 1, reach)
    shrunk = -functional.max_pool2d(-inside, size, 1, reach)
    band = (grown > shrunk)[0, :-1, :-1]
    grey = frames.mean(-3)
    across, down = grey.diff(dim=-1)[..., :-1, :], grey.diff(dim=-2)[..., :-1]
    return torch.hypot(across, down)[..., band].mean().item()
