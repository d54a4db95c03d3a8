"""From hints to dense flow: S2D at the image's size, its image features computed once; and without
a network or the image, by what S2D is compared with."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.flow.resize import resize_flow, resize_nearest
from mofa_nb.flow.s2d import S2D, ImageFeatures
from mofa_nb.flow.sparse import BrushedHints, Flow, Hints, combine_brush

AROUND = 24  # places around what is bent that stay where they are
FEWEST = 3  # hints; a thin plate has no unique shape through fewer


@torch.no_grad()
def grid_features(s2d: S2D, image: Float[Tensor, "3 H W"]) -> ImageFeatures:
    """What S2D needs of an image in [0, 1]: once per image, whatever is drawn on it later."""
    grid = (s2d.config.grid,) * 2
    return s2d.image_features(resize_nearest(image[None].to(next(s2d.parameters())), grid))


@torch.no_grad()
def grid_flow(s2d: S2D, features: ImageFeatures, hints: Hints) -> Float[Tensor, "steps 2 G G"]:
    """Dense flow on the S2D grid, in pixels of it; zero where nothing is hinted at all."""
    flow, mask = (part.to(next(s2d.parameters())) for part in (hints.flow, hints.mask))
    if hints.is_empty:
        return torch.zeros_like(flow)
    # Frames whose hints repeat are computed once.
    unique, index = torch.unique(torch.cat([flow, mask], dim=1), dim=0, return_inverse=True)
    return s2d(features, unique[:, :2], unique[:, 2:])[index]


def dense_flow(
    s2d: S2D, features: ImageFeatures, hints: BrushedHints | Hints, size: tuple[int, int],
    *, as_released: bool = False,
) -> Flow:  # fmt: skip
    """Sparse-to-dense motion (paper section 3.2): flow in pixels of an image of `size` (height,
    width), saturated at the end of S2D's range; for `as_released` see `combine_brush`."""
    hints = BrushedHints(hints) if isinstance(hints, Hints) else hints
    flow = grid_flow(s2d, features, hints.outside)
    if hints.inside is not None:
        inside, alpha = grid_flow(s2d, features, hints.inside), hints.alpha.to(flow)
        parts = (inside * alpha, flow) if as_released else (inside, flow, alpha)
        flow = combine_brush(*parts)
    return resize_flow(flow.float(), size)


def clip_dense_flow(
    s2d: S2D, features: ImageFeatures, hints: Callable[[Sequence[int]], BrushedHints | Hints],
    num_frames: int, size: tuple[int, int], *, chunk: int = 8, as_released: bool = False,
) -> Flow:  # fmt: skip
    """`dense_flow` of a whole clip, `chunk` frames at once, of `hints`: those of some frames, 0
    first. It lies in main memory."""
    flow = torch.empty(num_frames - 1, 2, *size)
    for begin in range(1, num_frames, chunk):
        frames = range(begin, min(begin + chunk, num_frames))
        part = dense_flow(s2d, features, hints([0, *frames]), size, as_released=as_released)
        flow[begin - 1 : frames[-1]] = part
    return flow


def nearest_flow(hints: Hints) -> Flow:
    """Every pixel moves as the nearest hint does; InputError without any."""
    from scipy.interpolate import NearestNDInterpolator

    return _interpolated(hints, NearestNDInterpolator)


def thin_plate_flow(hints: Hints) -> Flow:
    """The smoothest surface through all hints (thin-plate spline), each component by itself; of
    fewer than three, or of all on one line, the nearest counts."""
    from scipy.interpolate import NearestNDInterpolator, RBFInterpolator

    def surface(places: np.ndarray, values: np.ndarray) -> Callable:
        if len(places) < FEWEST or np.linalg.matrix_rank(places - places.mean(0), tol=1e-6) < 2:
            return NearestNDInterpolator(places, values)
        return RBFInterpolator(places, values, kernel="thin_plate_spline")

    return _interpolated(hints, surface)


def bend_flow(
    flow: Flow, places: Float[Tensor, "N 2"], moved: Float[Tensor, "steps N 2"], reach: float
) -> Flow:
    """The flow, changed as smoothly as can be (linear radial basis functions) so that places (x, y)
    move as asked; what lies farther than `reach` pixels from their middle keeps its own."""
    from scipy.interpolate import RBFInterpolator

    height, width = flow.shape[-2:]
    grid = places.to(flow) * 2 / flow.new_tensor([width - 1, height - 1]) - 1
    where = grid[None, None].expand(len(flow), -1, -1, -1)
    own = F.grid_sample(flow, where, padding_mode="border", align_corners=True)[:, :, 0].mT
    missed = (moved.to(flow) - own).transpose(0, 1).flatten(1).double().cpu().numpy()  # N steps*2
    known, middle = places.double().cpu().numpy(), places.mean(0).double().cpu().numpy()
    angles = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    circle = middle + reach * np.stack([np.cos(angles), np.sin(angles)], -1)
    known = np.concatenate([known, circle])
    missed = np.concatenate([missed, np.zeros((AROUND, missed.shape[1]))])
    y, x = np.indices((height, width))
    near = np.hypot(x - middle[0], y - middle[1]) < reach
    pixels = np.stack([x[near], y[near]], -1).astype(np.float64)
    # Hardly smoothed: places may coincide.
    change = RBFInterpolator(known, missed, kernel="linear", smoothing=1e-3)(pixels)
    result, change = flow.clone(), torch.from_numpy(change.T).view(-1, 2, len(pixels))
    result[..., torch.from_numpy(near)] += change.to(flow)
    return result


def _interpolated(hints: Hints, kind: Callable) -> Flow:
    """By a kind of interpolator (places (x, y), values) of the first frame's hints."""
    if hints.is_empty:
        raise InputError("there is no hint to interpolate: draw a track or sample points first")
    rows, columns = np.nonzero(hints.mask[0, 0].cpu().numpy())
    places = np.stack([columns, rows], -1).astype(np.float64)
    values = hints.flow.cpu().numpy()[:, :, rows, columns].reshape(-1, len(places))  # steps*2 N
    pixels = np.indices(hints.grid)[::-1].reshape(2, -1).T.astype(np.float64)
    dense = torch.from_numpy(np.ascontiguousarray(kind(places, values.T)(pixels).T))
    return dense.view(-1, 2, *hints.grid).to(hints.flow)
