"""Dense flow from hints without a network: what S2D is compared with. Neither sees the image."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.flow.sparse import Hints

FEWEST = 3  # hints; a thin plate has no unique shape through fewer


def nearest_flow(hints: Hints) -> Float[Tensor, "steps 2 H W"]:
    """Every pixel moves as the nearest hint does; InputError without any."""
    from scipy.interpolate import NearestNDInterpolator

    return _between(_places(hints), hints, NearestNDInterpolator)


def thin_plate_flow(hints: Hints) -> Float[Tensor, "steps 2 H W"]:
    """The smoothest surface through all hints (thin-plate spline), each component by itself.

    With fewer than three hints, or with all of them on one line, the nearest hint counts.
    """
    from scipy.interpolate import RBFInterpolator

    places = _places(hints)
    if len(places) < FEWEST or np.linalg.matrix_rank(places - places.mean(0), tol=1e-6) < 2:
        return nearest_flow(hints)
    return _between(places, hints, partial(RBFInterpolator, kernel="thin_plate_spline"))


def _places(hints: Hints) -> Float[np.ndarray, "N 2"]:
    """Pixels (x, y) of the hints (the first frame's mask)."""
    if hints.is_empty:
        raise InputError("there is no hint to interpolate: draw a track or sample points first")
    return np.argwhere(hints.mask[0, 0].cpu().numpy())[:, ::-1].astype(np.float64)


def _between(places: np.ndarray, hints: Hints, kind: Callable) -> Float[Tensor, "steps 2 H W"]:
    columns, rows = places.T.astype(int)
    known = hints.flow.cpu().numpy()[:, :, rows, columns].reshape(-1, len(places))  # steps*2 N
    pixels = np.indices(hints.grid)[::-1].reshape(2, -1).T.astype(np.float64)
    dense = torch.from_numpy(np.ascontiguousarray(kind(places, known.T)(pixels).T))
    return dense.view(-1, 2, *hints.grid).to(hints.flow)
