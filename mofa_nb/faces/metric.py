"""A face in centimetres before a camera: its own metric mesh, and where moved meshes are seen.

The camera is the one that the face model was made with: at the origin, looking along -z, 63
degrees high. Head space is the canonical face's: x to the picture's right, y up, z to the viewer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mofa_nb.faces.mesh import SKIN, canonical_geometry, rigid_weights

FOCAL = 1 / np.tan(np.radians(63 / 2))  # over half of the picture's height
RELEASED_DEPTH = np.float32(1.0001)  # what the original divides by, as a share of the depth


Mesh = Float[np.ndarray, "468 3"]


@dataclass(frozen=True)
class MetricFace:
    """One face as it was photographed: its `mesh` in head space, cm, and the `transform` from there
    to camera space; `size` (width, height) of the picture, pixels."""

    mesh: Mesh
    transform: Float[np.ndarray, "4 4"]
    size: tuple[int, int]

    def seen(
        self,
        meshes: Float[np.ndarray, "T 468 3"],
        poses: Float[np.ndarray, "T 6"],
        *,
        as_released: bool = False,
    ) -> Float[np.ndarray, "T 468 2"]:
        """Pixels (x, y) of meshes in head space after the head has moved (see `pose_matrices`).

        `as_released`: with the depth 0.01 % too large, as the original has it."""
        matrices = self.transform @ pose_matrices(poses)
        moved = np.einsum("tij,tvj->tvi", matrices[:, :3, :3], meshes) + matrices[:, None, :3, 3]
        x, y, z = np.moveaxis(moved, -1, 0)
        depth = -z * (RELEASED_DEPTH if as_released else 1)
        width, height = self.size
        across, up = np.float32(FOCAL * height / width), np.float32(FOCAL)
        right = (across * x / depth + 1) * width / 2
        return np.stack([right, (1 - up * y / depth) * height / 2], -1)


def metric_face(
    points: Float[np.ndarray, "P 3"],
    size: tuple[int, int],
    canonical: Mesh | None = None,
    weights: Float[np.ndarray, " 468"] | None = None,
) -> MetricFace:
    """The detected face in centimetres, as MediaPipe's face geometry has it.

    points: detected, pixels, z smaller when nearer. size: (width, height). canonical, weights: the
    neutral face, and how much each vertex says of the pose; the face model's by default."""
    canonical = canonical_geometry()[0].astype(np.float64) if canonical is None else canonical
    weights = rigid_weights() if weights is None else weights
    width, height = size
    unit = 2 / FOCAL / height  # of a plane at depth 1, per pixel
    flat = (points[:SKIN] - (width / 2, height / 2, 0)) * (unit, -unit, unit)
    depth = flat[:, 2] - flat[:, 2].mean() + 1

    def before_camera(scale: float) -> np.ndarray:
        away = depth / scale
        return np.stack([flat[:, 0] * away, flat[:, 1] * away, -away], 1)

    scale = _similarity(canonical, flat * (1, 1, -1), weights)[0]
    scale *= _similarity(canonical, before_camera(scale), weights)[0]
    target = before_camera(scale)
    transform = _similarity(canonical, target, weights)[1]
    mesh = np.linalg.solve(transform[:3, :3], (target - transform[:3, 3]).T).T
    return MetricFace(mesh, transform, size)


def pose_matrices(poses: Float[np.ndarray, "T 6"]) -> Float[np.ndarray, "T 4 4"]:
    """Rotation about the fixed axes x, y, z in turn (degrees), then the shift in cm."""
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[:, :3, :3] = Rotation.from_euler("xyz", poses[:, :3], degrees=True).as_matrix()
    matrices[:, :3, 3] = poses[:, 3:]
    return matrices


def _similarity(
    source: Mesh, target: Mesh, weights: Float[np.ndarray, " 468"]
) -> tuple[float, Float[np.ndarray, "4 4"]]:
    """Scale and matrix that lay the source onto the target, weighted least squares."""
    share = weights / weights.sum()
    a, b = source - share @ source, target - share @ target
    turn, _ = Rotation.align_vectors(b, a, weights=share)
    scale = float(share @ (b * turn.apply(a)).sum(1) / (share @ (a**2).sum(1)))
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn.as_matrix()
    matrix[:3, 3] = share @ target - matrix[:3, :3] @ (share @ source)
    return scale, matrix
