"""Head pose from 3-D points, and a face's own shape with the pose taken out."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.faces.mesh import LID_ROWS, expression_modes, mirror
from mofa_nb.faces.model_file import canonical_geometry

STABLE_CM = 0.12  # a vertex that no expression moves further than this tells the pose


@dataclass(frozen=True)
class HeadPose:
    """How head space (centimetres, x right, y up, z to the viewer) lies in the picture.

    rotation: head to picture axes. scale: pixels per cm. centre: of the head's origin, pixels
    (x, y, z), z growing away from the viewer as the detector has it.
    """

    rotation: Float[Tensor, "*batch 3 3"]
    scale: Float[Tensor, "*batch"]
    centre: Float[Tensor, "*batch 3"]


@functools.cache
def stable_vertices() -> np.ndarray:
    """Vertices that expressions hardly move: temples, nose bridge, cheekbones; int64 [n]."""
    moves = np.linalg.norm(expression_modes(), axis=-1).max(0)
    lids = [i for row in LID_ROWS for i in row]
    moves[lids] = np.inf
    moves = np.maximum(moves, moves[mirror()])
    return np.flatnonzero(moves < STABLE_CM)


def fit_head(
    points: Float[Tensor, "*batch P 3"], reference: Float[Tensor, "468 3"] | None = None
) -> HeadPose:
    """Least-squares similarity that lays a reference head onto detected points.

    Args:
        points: at least 468 detected points, pixels, y down, z away from the viewer.
        reference: the same head's neutral shape in head space; the canonical face when None.
    """
    index = torch.as_tensor(stable_vertices(), device=points.device)
    if reference is None:
        reference = torch.tensor(canonical_geometry()[0], device=points.device)
    source = reference.to(points.device, torch.float64)[index]
    target = points[..., index, :].double() * points.new_tensor((1, -1, -1)).double()
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, s, vh = torch.linalg.svd(b.transpose(-1, -2) @ a)
    sign = torch.linalg.det(u @ vh)
    mend = torch.ones_like(s)
    mend[..., 2] = sign
    rotation = (u * mend[..., None, :]) @ vh
    scale = (s * mend).sum(-1) / (a**2).sum()
    centre = target_mean - scale[..., None] * (rotation @ source_mean)
    dtype = points.dtype
    return HeadPose(rotation.to(dtype), scale.to(dtype), centre.to(dtype))


def to_head(points: Float[Tensor, "*batch P 3"], pose: HeadPose) -> Float[Tensor, "*batch P 3"]:
    """Detected points in head space: the pose taken out."""
    picture = points * points.new_tensor((1, -1, -1)) - pose.centre[..., None, :]
    return picture @ pose.rotation / pose.scale[..., None, None]


def to_picture(points: Float[Tensor, "*batch P 3"], pose: HeadPose) -> Float[Tensor, "*batch P 3"]:
    """Head-space points in the picture: pixels, y down, z away from the viewer."""
    turned = points @ pose.rotation.transpose(-1, -2) * pose.scale[..., None, None]
    return (turned + pose.centre[..., None, :]) * points.new_tensor((1, -1, -1))


def rotation_vector(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis times angle in radians, for angles below 180 degrees."""
    skew = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    sine = skew.norm(dim=-1) / 2
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    gain = torch.where(sine > 1e-6, angle / (2 * sine.clamp(min=1e-6)), torch.full_like(sine, 0.5))
    return skew * gain[..., None]


def rotation_from_vector(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Inverse of `rotation_vector`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return torch.linalg.matrix_exp(torch.stack([torch.stack(row, -1) for row in rows], -2))


def euler_degrees(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """(yaw, pitch, roll) of `mesh.rotation`, in degrees."""
    yaw = torch.asin((-rotation[..., 2, 0]).clamp(-1, 1))
    pitch = torch.atan2(-rotation[..., 2, 1], rotation[..., 2, 2])
    roll = torch.atan2(-rotation[..., 1, 0], rotation[..., 0, 0])
    return torch.rad2deg(torch.stack([yaw, pitch, roll], -1))
