"""The finest detail of a clip, carried along from the photograph.

A small autoencoder blurs, and its decoder's guess at what is finer than a cell of the latents has a
grain that repeats from cell to cell. Of a decoded clip only what a blur leaves is kept; what is
finer is the photograph's, where the flow takes it. The release does without.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.resize import blurred
from mofa_nb.flow.warp import carried, whole

FINE = 3 / 8  # of a cell of the latents: sigma of the blur that parts fine from coarse

WeightOf = Callable[[int, int], Float[Tensor, "t 1 H W"]]


@dataclass(frozen=True)
class DetailLayer:
    """Where detail goes.

    Attributes:
        flow: pixels, frame 0 -> frame t.
        weight: of the detail, in [0, 1], everywhere or pixel by pixel; or what gives it for the
            frames from one to another. Weights of several layers add up to at most 1.
        tears: as in `flow.warp.carried`. What tears is given the detail of what its holes are
            filled with, too; in a skin's holes, such as a mouth, a clip stays as it is.
        order: what is in front, see `flow.order`.
    """

    flow: Float[Tensor, "steps 2 H W"]
    weight: float | Float[Tensor, "1 1 H W"] | WeightOf = 1.0
    tears: bool = True
    order: Float[Tensor, "1 H W"] | None = None

    def weight_of(self, begin: int, end: int) -> float | Float[Tensor, "t 1 H W"]:
        """The weight in some frames."""
        return self.weight(begin, end) if callable(self.weight) else self.weight

    def flow_of(self, begin: int, end: int) -> Float[Tensor, "1 t 2 H W"]:
        """The flow to some frames of the clip, the first one's being zeros."""
        still = torch.zeros_like(self.flow[:1])
        return torch.cat([still, self.flow[max(begin - 1, 0) : end - 1]])[None, begin > 0 :]


def with_detail(
    parts: Iterable[Float[Tensor, "t 3 H W"]],
    image: Float[Tensor, "1 3 H W"],
    layers: Sequence[DetailLayer],
    sigma: float = 1.5,
) -> Iterator[Float[Tensor, "t 3 H W"]]:
    """Decoded frames with the photograph's detail: what it has beyond its own blur, carried along.

    What the autoencoder changed in the blurred first frame is given back along the flow, too: so
    the first frame is the photograph.

    Args:
        parts: of a clip in [-1, 1], in order; the first begins with the photograph's frame.
        image: first frame in [-1, 1].
        sigma: of the blur, pixels.
    """
    done, lost = 0, None
    for part in parts:
        if lost is None:
            lost = blurred(image, sigma) - blurred(part[:1], sigma)
        count = len(part)
        made = [_detailed(part, image, lost, layers, sigma, done)]
        del part  # a long clip's is gone before the next one is decoded
        yield made.pop()
        done += count


def _detailed(
    part: Float[Tensor, "t 3 H W"],
    image: Float[Tensor, "1 3 H W"],
    lost: Float[Tensor, "1 3 H W"],
    layers: Sequence[DetailLayer],
    sigma: float,
    begin: int,
) -> Float[Tensor, "t 3 H W"]:
    """Frames of the clip from `begin` on with their detail, and with what the decoder lost."""
    coarse, made = blurred(part, sigma), part.clone()
    for layer in layers:
        flow = layer.flow_of(begin, begin + len(part)).to(part)
        moved, covered = carried(torch.cat([image, lost], dim=1), flow, layer.tears, layer.order)
        photo, regained = moved.split(3, dim=1)
        detailed = coarse + photo - blurred(photo, sigma) + whole(covered) * regained
        weight = layer.weight_of(begin, begin + len(part))
        weight = weight if layer.tears else weight * whole(covered)
        made += weight * (detailed - part)
    return made
