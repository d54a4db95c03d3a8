"""The finest detail of a clip, carried along from the photograph.

A small autoencoder blurs, and what its decoder guesses has a grain that repeats from cell to cell.
Of a decoded clip only what a blur leaves is kept; what is finer is the photograph's, where the flow
takes it. The release does without."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.resize import blurred
from mofa_nb.flow.warp import carried, whole

FINE = 3 / 8  # of a cell of the latents: sigma of the blur that parts fine from coarse

Frames, Picture = Float[Tensor, "t 3 H W"], Float[Tensor, "1 3 H W"]
WeightOf = Callable[[int, int], Float[Tensor, "t 1 H W"]]


@dataclass(frozen=True)
class DetailLayer:
    """Where detail goes; `tears` and `order` as in `flow.warp.carried`. What tears has the detail
    of what its holes are filled with; in a skin's, such as a mouth, a clip stays as it is."""

    flow: Float[Tensor, "steps 2 H W"]
    # Of the detail, in [0, 1], at most 1 in all layers; or what gives it from a frame to another.
    weight: float | Float[Tensor, "1 1 H W"] | WeightOf = 1.0
    tears: bool = True
    order: Float[Tensor, "1 H W"] | None = None


def with_detail(
    parts: Iterable[Frames], image: Picture, layers: Sequence[DetailLayer], sigma: float = 1.5
) -> Iterator[Frames]:
    """Decoded frames with the photograph's detail: what it has beyond its own blur, carried along.

    What the autoencoder changed in the blurred first frame is given back along the flow, too: so
    the first frame is the photograph. All in [-1, 1], parts in order from frame 0 on, `sigma` (of
    the blur) in pixels."""
    begin, lost = 0, None
    for part in parts:
        if lost is None:
            lost = blurred(image, sigma) - blurred(part[:1], sigma)
        count = len(part)
        frames = [_detailed(part, image, lost, layers, sigma, begin)]
        del part  # a long clip's is gone before the next one is decoded
        yield frames.pop()
        begin += count


def _detailed(
    part: Frames, image: Picture, lost: Picture, layers: Sequence, sigma: float, begin: int
) -> Frames:
    """Frames of the clip from `begin` on with their detail, and with what the decoder lost."""
    coarse, frames, end = blurred(part, sigma), part.clone(), begin + len(part)
    for layer in layers:
        flow = layer.flow[max(begin - 1, 0) : end - 1]
        if begin == 0:
            flow = torch.cat([torch.zeros_like(layer.flow[:1]), flow])
        flow = flow[None].to(part)
        moved, covered = carried(torch.cat([image, lost], dim=1), flow, layer.tears, layer.order)
        photo, regained = moved.split(3, dim=1)
        detailed = coarse + photo - blurred(photo, sigma) + whole(covered) * regained
        weight = layer.weight(begin, end) if callable(layer.weight) else layer.weight
        weight = weight if layer.tears else weight * whole(covered)
        frames += weight * (detailed - part)
    return frames
