"""Head pose from 3-D points, and a face's own shape with the pose taken out."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.faces.mesh import LID_ROWS, canonical_geometry, expression_modes, mirror

STABLE_CM = 0.12  # a vertex that no expression moves further than this tells the pose

Points = Float[Tensor, "*batch P 3"]


@dataclass(frozen=True)
class HeadPose:
    """How head space (centimetres, x right, y up, z to the viewer) lies in the picture."""

    rotation: Float[Tensor, "*batch 3 3"]  # head to picture axes
    scale: Float[Tensor, "*batch"]  # pixels per cm
    centre: Float[Tensor, "*batch 3"]  # of its origin, pixels, y up and z to the viewer


@functools.cache
def stable_vertices() -> np.ndarray:
    """Vertices that expressions hardly move: temples, nose bridge, cheekbones; int64 [n]."""
    moves = np.linalg.norm(expression_modes(), axis=-1).max(0)
    moves[[i for row in LID_ROWS for i in row]] = np.inf
    return np.flatnonzero(np.maximum(moves, moves[mirror()]) < STABLE_CM)


def fit_head(points: Points, reference: Float[Tensor, "468 3"] | None = None) -> HeadPose:
    """Least-squares similarity that lays a head onto detected points (y down, z away).

    `reference` is the same head's neutral shape in head space; the canonical face when None."""
    index = torch.as_tensor(stable_vertices(), device=points.device)
    if reference is None:
        reference = torch.tensor(canonical_geometry()[0], device=points.device)
    source = reference.to(points.device, torch.float64)[index]
    target = points[..., index, :].double() * points.new_tensor((1, -1, -1)).double()
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, s, vh = torch.linalg.svd(b.transpose(-1, -2) @ a)
    mend = torch.ones_like(s)  # no mirror images
    mend[..., 2] = torch.linalg.det(u @ vh)
    rotation = (u * mend[..., None, :]) @ vh
    scale = (s * mend).sum(-1) / (a**2).sum()
    centre = target_mean - scale[..., None] * (rotation @ source_mean)
    return HeadPose(*(value.to(points.dtype) for value in (rotation, scale, centre)))


def to_head(points: Points, pose: HeadPose) -> Points:
    """Detected points in head space: the pose taken out."""
    picture = points * points.new_tensor((1, -1, -1)) - pose.centre[..., None, :]
    return picture @ pose.rotation / pose.scale[..., None, None]


def to_picture(points: Points, pose: HeadPose) -> Points:
    """Head-space points in the picture: pixels, y down, z away from the viewer."""
    turned = points @ pose.rotation.transpose(-1, -2) * pose.scale[..., None, None]
    return (turned + pose.centre[..., None, :]) * points.new_tensor((1, -1, -1))


def euler_degrees(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """(yaw, pitch, roll) of `mesh.rotation`, in degrees."""
    yaw = torch.asin((-rotation[..., 2, 0]).clamp(-1, 1))
    pitch = torch.atan2(-rotation[..., 2, 1], rotation[..., 2, 2])
    roll = torch.atan2(-rotation[..., 1, 0], rotation[..., 0, 0])
    return torch.rad2deg(torch.stack([yaw, pitch, roll], -1))
