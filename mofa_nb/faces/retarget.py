"""A driving face's motion since its neutral frame, put onto another face that keeps its own shape:
with the pose taken out of both, scaled to mouth and eyes; apart, the head's turn, shift and growth.
"""

import functools

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mofa_nb.checks import whole_number
from mofa_nb.faces import mesh
from mofa_nb.faces.mesh import HeadPose, fit_head, to_head, to_picture
from mofa_nb.faces.points import EYE_CORNERS
from mofa_nb.motion.face import Strengths

LEAD_IN_FRAMES = 4  # in which the clip leaves the photographed face
CLOSEST, FARTHEST = 0.6, 1.7  # limits of the size ratios between two faces

FacePoints = Float[np.ndarray, "478 3"]
Faces = Float[np.ndarray, "T 478 3"]


def retarget(
    source: FacePoints, driving: Faces, strengths: Strengths | None = None, *,
    neutral: int | None = None,
) -> Faces:  # fmt: skip
    """The source's points under the driving face's motion since its `neutral` frame (None: searched
    for), each in pixels of its own picture; frame 0 is the source itself."""
    strengths = strengths or Strengths()
    last = whole_number(len(driving), 2, 100_000, "the number of driving frames") - 1
    neutral = neutral_frame(driving) if neutral is None else neutral
    neutral = whole_number(neutral, 0, last, "the neutral frame")
    start, moving = (torch.from_numpy(np.array(p, np.float64)) for p in (source, driving))
    first = to_head(moving[neutral], fit_head(moving[neutral]))
    poses = fit_head(moving, first[: mesh.SKIN])  # on this very face's neutral shape
    local, start_pose = to_head(moving, poses), fit_head(start)
    own = to_head(start, start_pose)
    change = (local - local[neutral])[:, : mesh.SKIN]
    change = _fitted(change, local[neutral], own) * region_gain(strengths)[:, None]
    time = (torch.arange(len(driving)).double() / LEAD_IN_FRAMES).clamp(max=1)
    lead = time * time * (3 - 2 * time)
    skin = _kept_apart(own[: mesh.SKIN] + lead[:, None, None] * change, own)
    irises = own[mesh.SKIN :].expand(len(skin), -1, -1)
    pose = _followed(start_pose, poses, neutral, strengths.pose * lead)
    points = to_picture(torch.cat([skin, irises], 1), pose).numpy()
    points[0] = source
    return points


def without_retargeting(source: FacePoints, driving: Faces) -> Faces:
    """Without retargeting, for comparison: the driving face itself, moved and scaled so that its
    first frame's eyes lie on the source's."""
    here, there = source[list(EYE_CORNERS), :2], driving[0, list(EYE_CORNERS), :2]
    scale = np.linalg.norm(here[3] - here[0]) / np.linalg.norm(there[3] - there[0])
    moved = (driving - np.append(there.mean(0), 0)) * scale + np.append(here.mean(0), 0)
    moved[0] = source
    return moved


def neutral_frame(driving: Faces) -> int:
    """The frame with the mouth most closed, eyes open and the head in its usual pose."""
    points = torch.from_numpy(np.array(driving, np.float64))
    pose = fit_head(points)
    local = to_head(points, pose)
    mouth = (local[:, 13] - local[:, 14]).norm(dim=-1)
    lids = _lid_gap(local, True) + _lid_gap(local, False)
    shut = (1 - lids / lids.quantile(0.8)).clamp(min=0)
    turn = torch.from_numpy(Rotation.from_matrix(pose.rotation.numpy()).as_rotvec())
    away = (turn - turn.median(0).values).norm(dim=-1)
    return int((mouth + 3 * shut + 1.5 * away).argmin())


def _lid_gap(local: Tensor, right: bool) -> Tensor:
    upper, lower = (159, 145) if right else (386, 374)
    return (local[..., upper, :] - local[..., lower, :]).norm(dim=-1)


def _fitted(change: Tensor, driver: Tensor, own: Tensor) -> Tensor:
    """Scale the change to the source face: lips by its mouth, lids by its eyes."""

    def ratio(first: int, second: int) -> float:
        there = (driver[first] - driver[second]).norm()
        return float(((own[first] - own[second]).norm() / there).clamp(CLOSEST, FARTHEST))

    weights = torch.from_numpy(region_weights())  # 468 3
    sizes = torch.ones(mesh.SKIN, 3, dtype=change.dtype)
    mouth = torch.tensor((ratio(61, 291), ratio(2, 152), ratio(2, 152)), dtype=change.dtype)
    sizes += weights[:, :1] * (mouth - 1)
    for right in (True, False):
        lids = float((_lid_gap(own, right) / _lid_gap(driver, right)).clamp(CLOSEST, FARTHEST))
        side = torch.from_numpy(mesh.canonical_geometry()[0][:, 0] < 0) == right
        sizes[:, 1] += weights[:, 1] * side * (lids - 1)
    return change * sizes


@functools.cache
def region_weights() -> Float[np.ndarray, "468 3"]:
    """Share of the mouth (with jaw and cheeks), eyes and brows in each vertex; rows add up to 1."""
    v = mesh.canonical_geometry()[0].astype(np.float64)
    mouth = 1 / (1 + np.exp(np.clip((v[:, 1] + 0.5) * 2.5, -40, 40)))
    brows = 1 / (1 + np.exp(np.clip((4.0 - v[:, 1]) * 4.0, -40, 40)))
    away = ((np.abs(v[:, 0]) - 3.15) / 2.6) ** 2, ((v[:, 1] - 2.6) / 1.3) ** 2
    eyes = np.exp(-away[0] - away[1]) + 1e-3
    weights = np.stack([mouth, eyes, brows], 1)
    lids = sorted({i for row in mesh.LID_ROWS for i in row} | set(EYE_CORNERS))
    weights[lids] = (0, 1, 0)
    return weights / weights.sum(1, keepdims=True)


def region_gain(strengths: Strengths) -> Float[Tensor, " 468"]:
    """How much of its own motion each vertex makes."""
    gains = np.array([strengths.mouth, strengths.eyes, strengths.brows])
    return torch.from_numpy(region_weights() @ gains)


def _kept_apart(skin: Tensor, own: Tensor) -> Tensor:
    """Lips and lids may touch but not pass through each other."""
    skin = skin.clone()
    upper = [*mesh.LIPS_UPPER[0][1:-1], *mesh.RIGHT_UPPER[0], *mesh.LEFT_UPPER[0]]
    lower = [*mesh.LIPS_LOWER[0][1:-1], *mesh.RIGHT_LOWER[0], *mesh.LEFT_LOWER[0]]
    photographed = (own[upper, 1] - own[lower, 1]).clamp(max=0)
    crossed = (skin[:, upper, 1] - skin[:, lower, 1] - photographed).clamp(max=0)
    skin[:, upper, 1] -= crossed / 2
    skin[:, lower, 1] += crossed / 2
    return skin


def _followed(start: HeadPose, poses: HeadPose, neutral: int, fraction: Tensor) -> HeadPose:
    """The source's pose plus `fraction` [T] of the driving head's turn, shift and growth."""
    turn = Rotation.from_matrix((poses.rotation @ poses.rotation[neutral].T).numpy()).as_rotvec()
    part = Rotation.from_rotvec(turn * fraction[:, None].numpy()).as_matrix()
    growth = (poses.scale / poses.scale[neutral]) ** fraction
    shift = (poses.centre - poses.centre[neutral]) * (start.scale / poses.scale[neutral])
    centre = start.centre + shift * fraction[:, None]
    return HeadPose(torch.from_numpy(part) @ start.rotation, start.scale * growth, centre)
