"""Train on a square part of the latent grid: half the side is a quarter of the work.

Features are warped over the whole picture first, so that what enters a part from outside is there.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def busy_places(latents: Float[Tensor, "B T C h w"], cells: int, unit: int) -> Int[Tensor, "B 2"]:
    """Row and column of a square part per clip, drawn where frames differ most from the first.

    Args:
        cells: side of the part on the latent grid.
        unit: places are multiples of it, so that the part is whole at every level.
    """
    change = (latents[:, 1:] - latents[:, :1]).square().mean((1, 2))[:, None]
    busy = torch.nn.functional.avg_pool2d(change.float(), cells, unit)
    chosen = torch.multinomial(busy.flatten(1) + 1e-6, 1)[:, 0]
    columns = busy.shape[-1]
    return torch.stack([chosen // columns, chosen % columns], 1) * unit


def cut(
    values: Sequence[Float[Tensor, "B *any h w"]],
    places: Int[Tensor, "B 2"],
    cells: int,
    grid: int,
) -> list[Tensor]:
    """The parts of maps that cover the same picture at several sizes.

    Args:
        grid: width of the map that `places` and `cells` are counted on.
    """
    spots = places.tolist()
    return [
        torch.stack([_part(*one, cells, grid) for one in zip(clips, spots, strict=True)])
        for clips in values
    ]


def _part(clip: Tensor, place: list[int], cells: int, grid: int) -> Tensor:
    top, left, side = (n * clip.shape[-1] // grid for n in (*place, cells))
    return clip[..., top : top + side, left : left + side]
