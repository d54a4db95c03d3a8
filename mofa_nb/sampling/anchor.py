"""Anchored sampling: what the flow carries along stays the photograph.

A small model paints the mean of what it is unsure about: soft, and not quite where it should be.
While a clip is still mostly noise, its estimate of the clean latents is therefore replaced by the
photograph splatted along the flow, wherever that reaches. What gets uncovered is inpainted from
around it or left to the networks, or both in shares; the last steps are theirs alone. So do RePaint
(arXiv 2201.09865) and blended latent diffusion (2206.02779). The release does without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mofa_nb.flow.warp import carried, whole
from mofa_nb.models.models import Models

Latents = Float[Tensor, "1 T C h w"]


@dataclass(frozen=True)
class Anchor:
    """The photograph where the flow takes it, for some frames."""

    latents: Latents  # scaled as the networks take them
    weight: Float[Tensor, "1 T 1 h w"]  # how far they replace the estimate, in [0, 1]


AnchorOf = Callable[[Sequence[int]], Anchor]


def anchoring(
    models: Models,
    image: Float[Tensor, "1 3 H W"],
    flow: Float[Tensor, "1 steps 2 H W"],
    share: float = 1.0,
    in_holes: float = 0.0,
    tears: bool = True,
    order: Float[Tensor, "1 H W"] | None = None,
) -> AnchorOf:
    """What makes the anchor of some frames of a clip, frame 0 first, when it is needed.

    `share`: weight of what is carried along, in [0, 1]; `in_holes`: the part of it that what the
    holes are inpainted with has; `tears` and `order` as in `flow.warp.carried`. The flow may lie on
    another device than the first frame, in [-1, 1]."""

    @torch.no_grad()
    def anchor(frames: Sequence[int]) -> Anchor:
        steps = flow[:, [f - 1 for f in list(frames)[1:]]].to(image.device)
        moved, covered = carried(image, steps, tears, order)
        clip = torch.cat([image, moved])
        latents = models.encode(clip)
        least = -F.max_pool2d(-whole(covered), clip.shape[-1] // latents.shape[-1])
        least = in_holes + (1 - in_holes) * least
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
