"""Anchored sampling: what the flow carries along stays the photograph.

A small or briefly trained model paints the mean of what it is unsure about: soft, and not quite
where it was told. While a clip is still mostly noise, its estimate of the clean latents is
therefore replaced by the photograph splatted along the flow, wherever that reaches. What gets
uncovered is inpainted from around it or left to the networks, or both in shares; the last steps
are theirs alone. Known regions are kept in the same way by RePaint (arXiv 2201.09865) and blended
latent diffusion (2206.02779). The release does without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mofa_nb.splat import splat_plan

if TYPE_CHECKING:
    from mofa_nb.models import Models

THIN = 0.25  # a target pixel that receives less than this of a source pixel is a hole
DENSE = 0.75  # and with this much it counts in full
IN_FRONT = 2.0  # e-folds of weight per pixel of displacement, where several things land on one
FARTHEST = 20.0  # pixels beyond which no more difference is made


@dataclass(frozen=True)
class Anchor:
    """The photograph where the flow takes it, for some frames.

    Attributes:
        latents: of the splatted photograph, scaled as the networks take them.
        weight: how far they replace the estimate, cell by cell, in [0, 1].
    """

    latents: Float[Tensor, "1 T C h w"]
    weight: Float[Tensor, "1 T 1 h w"]


AnchorOf = Callable[[Sequence[int]], Anchor]


def anchoring(
    models: "Models",
    image: Float[Tensor, "1 3 H W"],
    flow: Float[Tensor, "1 steps 2 H W"],
    share: float = 1.0,
    in_holes: float = 0.0,
) -> AnchorOf:
    """What makes the anchor of some frames of a clip when it is needed; the first one is frame 0.

    Args:
        image: first frame in [-1, 1].
        flow: pixels, frame 0 -> frame t; may lie on another device.
        share: weight of what is carried along, in [0, 1].
        in_holes: the part of it that what the holes are inpainted with has.
    """

    @torch.no_grad()
    def made(frames: Sequence[int]) -> Anchor:
        way = flow[:, [f - 1 for f in list(frames)[1:]]].to(image.device)
        moved, covered = carried(image, way)
        vae, clip = models.vae, torch.cat([image, moved])
        modes = [vae.encode(f[None].to(vae.dtype)).latent_dist.mode() for f in clip]
        latents = torch.cat(modes).float() * vae.config.scaling_factor
        whole = ((covered - THIN) / (DENSE - THIN)).clamp(0, 1)
        least = -F.max_pool2d(-whole, clip.shape[-1] // latents.shape[-1])
        least = in_holes + (1 - in_holes) * least
        weight = share * torch.cat([torch.ones_like(least[:1]), least])
        return Anchor(latents[None], weight[None])

    return made


def carried(
    image: Float[Tensor, "1 3 H W"], flow: Float[Tensor, "1 steps 2 H W"]
) -> tuple[Float[Tensor, "steps 3 H W"], Float[Tensor, "steps 1 H W"]]:
    """The image splatted along the flow, holes inpainted, and how much lands on each pixel.

    Where things heap up on a pixel, the one that moved farther counts as being in front: a flow
    does not tell, but what is dragged usually is.
    """
    length = torch.linalg.vector_norm(flow, dim=2, keepdim=True).clamp(max=FARTHEST)
    moved = splat_plan(flow, "soft", IN_FRONT * length).apply(image)[0]
    covered = splat_plan(flow, "sum").coverage()[0]
    return inpainted((moved + 1) / 2, covered[:, 0] < THIN) * 2 - 1, covered


def inpainted(
    frames: Float[Tensor, "T 3 H W"], holes: Bool[Tensor, "T H W"], *, radius: float = 3.0
) -> Float[Tensor, "T 3 H W"]:
    """Frames in [0, 1] whose holes are filled from around them by OpenCV (Telea)."""
    import cv2

    pictures = (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    masks = holes.byte().cpu().numpy()
    filled = [
        cv2.inpaint(np.ascontiguousarray(picture), mask, radius, cv2.INPAINT_TELEA)
        for picture, mask in zip(pictures, masks, strict=True)
    ]
    found = torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).float() / 255
    return torch.where(holes[:, None], found.to(frames), frames)


def anchored(
    velocity: Float[Tensor, "1 T C h w"],
    latents: Float[Tensor, "1 T C h w"],
    sigma: float,
    anchors: Sequence[tuple[Anchor, float | Tensor]],
) -> Float[Tensor, "1 T C h w"]:
    """The v-prediction whose clean latents are anchored; unchanged without anchors.

    Args:
        latents: noisy, at level `sigma`.
        anchors: each with its share in [0, 1], a number or a map; shares add up to at most 1.
    """
    if not anchors:
        return velocity
    level = (sigma**2 + 1) ** 0.5
    estimate = latents / level**2 - velocity * sigma / level
    clean = estimate
    for anchor, share in anchors:
        clean = clean + share * anchor.weight * (anchor.latents - estimate)
    return (latents / level**2 - clean) * level / sigma
