"""Train on a square part of the latent grid: half the side is a quarter of the work.

Features are warped over the whole picture first, so that what enters a part from outside is there.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def busy_places(
    latents: Float[Tensor, "B T C h w"],
    cells: int,
    unit: int,
    uncovered: Float[Tensor, "B steps 1 h w"] | None = None,
) -> Int[Tensor, "B 2"]:
    """Row and column of a square part per clip, drawn where frames differ most from the first.

    Args:
        cells: side of the part on the latent grid.
        unit: places are multiples of it, so that the part is whole at every level.
        uncovered: what the first frame does not show draws as much as all other change.
    """
    busy = _busy((latents[:, 1:] - latents[:, :1]).square().mean((1, 2)), cells, unit)
    if uncovered is not None:
        busy = busy + _busy(uncovered.mean((1, 2)), cells, unit)
    chosen = torch.multinomial(busy.flatten(1) + 1e-6, 1)[:, 0]
    columns = busy.shape[-1]
    return torch.stack([chosen // columns, chosen % columns], 1) * unit


def _busy(change: Float[Tensor, "B h w"], cells: int, unit: int) -> Float[Tensor, "B 1 p q"]:
    """Shares of the parts that one can choose."""
    sums = torch.nn.functional.avg_pool2d(change[:, None].float(), cells, unit)
    return sums / sums.sum((2, 3), keepdim=True).clamp(min=1e-9)


def cut(
    whole: Float[Tensor, "B *any h w"], places: Int[Tensor, "B 2"], cells: int, grid: int
) -> Float[Tensor, "B *any c c"]:
    """The part of each clip's map, which covers the picture with any number of cells.

    Args:
        grid: width of the map that `places` and `cells` are counted on.
    """
    spots = places.tolist()
    return torch.stack([_part(*one, cells, grid) for one in zip(whole, spots, strict=True)])


def _part(clip: Tensor, place: list[int], cells: int, grid: int) -> Tensor:
    top, left, side = (n * clip.shape[-1] // grid for n in (*place, cells))
    return clip[..., top : top + side, left : left + side]
