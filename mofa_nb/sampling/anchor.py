"""What the flow carries along stays the photograph: coarse in the anchor, fine in the detail. The
release does without both, and so does the mini model unless asked.

A small model paints the mean of what it is unsure about. While a clip is still mostly noise, its
estimate of the clean latents is therefore replaced by the photograph splatted along the flow, as
known regions are kept by RePaint (arXiv 2201.09865) and blended latent diffusion (2206.02779). What
gets uncovered is left to the networks; the last steps are theirs alone. A small
autoencoder blurs, and its guess at what is finer than a cell of the latents repeats from cell to
cell: of a decoded clip only what a blur leaves is kept, what is finer is the photograph's."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.resize import blurred
from mofa_nb.flow.warp import carried, whole
from mofa_nb.models.models import Models

FINE = 3 / 8  # of a cell of the latents: sigma of the blur that parts fine from coarse

Latents = Float[Tensor, "1 T C h w"]
Frames, Picture = Float[Tensor, "t 3 H W"], Float[Tensor, "1 3 H W"]
WeightOf = Callable[[int, int], Float[Tensor, "t 1 H W"]]


@dataclass(frozen=True)
class Anchor:
    """The photograph where the flow takes it, for some frames."""

    latents: Latents  # scaled as the networks take them
    weight: Float[Tensor, "1 T 1 h w"]  # how far they replace the estimate, in [0, 1]


AnchorOf = Callable[[Sequence[int]], Anchor]


def anchoring(
    models: Models, image: Float[Tensor, "1 3 H W"], flow: Float[Tensor, "1 steps 2 H W"],
    share: float = 1.0, tears: bool = True, order: Float[Tensor, "1 H W"] | None = None,
) -> AnchorOf:  # fmt: skip
    """What makes the anchor of some frames of a clip, frame 0 first, when it is needed.

    `share`: weight of what is carried along, in [0, 1]; `tears` and `order` as in
    `flow.warp.carried`. The image is in [-1, 1]."""

    @torch.no_grad()
    def anchor(frames: Sequence[int]) -> Anchor:
        steps = flow[:, [f - 1 for f in list(frames)[1:]]].to(image.device)
        moved, covered = carried(image, steps, tears, order)
        clip = torch.cat([image, moved])
        latents = models.encode(clip)
        least = -F.max_pool2d(-whole(covered), clip.shape[-1] // latents.shape[-1])
        weight = share * torch.cat([torch.ones_like(least[:1]), least])
        return Anchor(latents[None], weight[None])

    return anchor


def anchored(
    velocity: Latents, latents: Latents, sigma: float, anchors: Sequence[tuple]
) -> Latents:
    """The v-prediction at `latents` of noise level `sigma` whose clean latents are anchored: by
    (anchor, share in [0, 1], a number or a map; at most 1 in all)."""
    if not anchors:
        return velocity
    level = (sigma**2 + 1) ** 0.5
    # EDM preconditioning of SVD: x0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1).
    estimate = latents / level**2 - velocity * sigma / level
    clean = estimate
    for anchor, share in anchors:
        clean = clean + share * anchor.weight * (anchor.latents - estimate)
    return (latents / level**2 - clean) * level / sigma


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
    """Decoded frames with the photograph's detail, carried along: what it has beyond its own blur
    (`sigma` in pixels), and what the autoencoder changed in the blurred first frame. In [-1, 1]."""
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
