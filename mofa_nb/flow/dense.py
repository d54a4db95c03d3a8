"""From hints to dense flow at the image's size: S2D with its image features computed once."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.resize import resize_flow, resize_nearest
from mofa_nb.flow.s2d import S2D, ImageFeatures
from mofa_nb.flow.sparse import BrushedHints, Hints, combine_brush


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
    s2d: S2D,
    features: ImageFeatures,
    hints: BrushedHints | Hints,
    size: tuple[int, int],
    *,
    as_released: bool = False,
) -> Float[Tensor, "steps 2 H W"]:
    """Sparse-to-dense motion (paper section 3.2): float32 flow in pixels of an image of `size`
    (height, width), from its `grid_features` and hints on the S2D grid.

    Displacements saturate at the end of S2D's range; with a brush, the tracks on it move only what
    it covers, joined `as_released` or not (`combine_brush`).
    """
    hints = BrushedHints(hints) if isinstance(hints, Hints) else hints
    flow = grid_flow(s2d, features, hints.outside)
    if hints.inside is not None:
        inside, alpha = grid_flow(s2d, features, hints.inside), hints.alpha.to(flow)
        parts = (inside * alpha, flow) if as_released else (inside, flow, alpha)
        flow = combine_brush(*parts)
    return resize_flow(flow.float(), size)


def clip_flow(
    s2d: S2D,
    features: ImageFeatures,
    hints: Callable[[list[int]], BrushedHints | Hints],
    num_frames: int,
    size: tuple[int, int],
    chunk: int,
) -> Float[Tensor, "steps 2 H W"]:
    """`dense_flow` of a clip of any length, on the CPU, made for `chunk` frames at a time: `hints`
    gives those of some frames, 0 first."""
    flow = torch.empty(num_frames - 1, 2, *size)
    for begin in range(1, num_frames, chunk):
        end = min(begin + chunk, num_frames)
        flow[begin - 1 : end - 1] = dense_flow(s2d, features, hints([0, *range(begin, end)]), size)
    return flow
