"""Tensors between sizes: images to the hint grid and to CLIP, flow between grids, and blur."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import Size


def resize_nearest(image: Float[Tensor, "B C H W"], size: Size) -> Tensor:
    """Each pixel of `size` (height, width) takes the source pixel under its corner (torch's
    "nearest"), as the release brings first frames to the S2D grid."""
    return functional.interpolate(image, size, mode="nearest")


def resize_flow(flow: Float[Tensor, "*batch 2 h w"], size: Size) -> Float[Tensor, "*batch 2 H W"]:
    """A flow in pixels of its grid -> a flow in pixels of a grid of `size` (height, width): nearest
    pixel, x times W/w, y times H/h, as in the release."""
    *batch, _, height, width = flow.shape
    scale = flow.new_tensor([size[1] / width, size[0] / height]).view(2, 1, 1)
    resized = resize_nearest(flow.reshape(-1, 2, height, width), size) * scale
    return resized.view(*batch, 2, *size)


def flow_pyramid(
    flow: Float[Tensor, "*batch 2 H W"], strides: Sequence[int]
) -> tuple[Float[Tensor, "*batch 2 h w"], ...]:
    """The flow on every feature level: every s-th pixel, in cells of that level (no averaging)."""
    return tuple(flow[..., ::s, ::s] / s for s in strides)


def resize_antialiased(image: Float[Tensor, "B C H W"], size: Size) -> Float[Tensor, "B C h w"]:
    """Gaussian blur of sigma (shrink factor - 1) / 2, then bicubic with corners aligned to `size`
    (height, width), in the image's own range: how SVD prepares one, in [0, 1] as released, for
    CLIP. ValueError: too small for the blur's reflected border."""
    for axis, target in zip((-2, -1), size, strict=True):
        image = _blur(image, axis, max((image.shape[axis] / target - 1) / 2, 0.001))
    return functional.interpolate(image, size, mode="bicubic", align_corners=True)


def blurred(image: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    """Gaussian blur, sigma in pixels, cut off at twice that; ValueError: an image too small."""
    return _blur(_blur(image, -2, sigma), -1, sigma)


def _blur(image: Float[Tensor, "B C H W"], axis: int, sigma: float) -> Float[Tensor, "B C H W"]:
    radius = max(int(4 * sigma), 3) // 2  # a window of 2 radius + 1: the next odd number
    side, channels = image.shape[axis], image.shape[1]
    if radius >= side:
        raise ValueError(f"an image side of {side} px is too short to be blurred by {sigma:g} px")
    offset = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    border, window = [0, 0, radius, radius], (1, 1, -1, 1)
    if axis == -1:
        border, window = [radius, radius, 0, 0], (1, 1, 1, -1)
    kernel = (kernel / kernel.sum()).view(window).expand(channels, -1, -1, -1)
    padded = functional.pad(image, border, mode="reflect")
    return functional.conv2d(padded, kernel, groups=channels)
