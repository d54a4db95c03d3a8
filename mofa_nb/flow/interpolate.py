"""Dense flow from hints without a network: what S2D is compared with. Neither sees the image."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.flow.sparse import Hints

FEWEST = 3  # hints; a thin plate has no unique shape through fewer


def nearest_flow(hints: Hints) -> Float[Tensor, "steps 2 H W"]:
    """Every pixel moves as the nearest hint does; InputError without any."""
    from scipy.spatial import cKDTree

    points, vectors = _known(hints)
    _, index = cKDTree(points).query(_pixels(hints.grid))
    return _field(vectors[:, index], hints)


def thin_plate_flow(hints: Hints) -> Float[Tensor, "steps 2 H W"]:
    """The smoothest surface through all hints (thin-plate spline), each component by itself.

    With fewer than three hints, or with all of them on one line, the nearest hint counts.
    """
    from scipy.interpolate import RBFInterpolator

    points, vectors = _known(hints)
    spread = np.linalg.matrix_rank(points - points.mean(0), tol=1e-6)
    if len(points) < FEWEST or spread < 2:
        return nearest_flow(hints)
    joint = vectors.transpose(1, 0, 2).reshape(len(points), -1)  # N steps*2
    surface = RBFInterpolator(points, joint, kernel="thin_plate_spline")(_pixels(hints.grid))
    return _field(surface.reshape(-1, len(vectors), 2).transpose(1, 0, 2), hints)


def _known(hints: Hints) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 2] as (x, y) and vectors [steps, N, 2] of the hints (the first frame's mask)."""
    rows, columns = np.nonzero(hints.mask[0, 0].cpu().numpy())
    if not len(rows):
        raise InputError("there is no hint to interpolate: draw a track or sample points first")
    vectors = hints.flow.cpu().numpy()[:, :, rows, columns].transpose(0, 2, 1)
    return np.stack([columns, rows], -1).astype(np.float64), vectors


def _pixels(grid: tuple[int, int]) -> np.ndarray:
    return np.indices(grid)[::-1].reshape(2, -1).T.astype(np.float64)


def _field(vectors: np.ndarray, hints: Hints) -> Float[Tensor, "steps 2 H W"]:
    """[steps, H * W, 2] -> [steps, 2, H, W] beside the hints."""
    dense = torch.from_numpy(np.ascontiguousarray(vectors.transpose(0, 2, 1)))
    return dense.unflatten(2, hints.grid).to(hints.flow)
