"""A square around a face."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.faces.detect import find_face
from mofa_nb.media.images import to_unit


def portrait_crop(
    image: UInt8[np.ndarray, "H W 3"], side: int, *, margin: float | int = 2.0
) -> tuple[Float[Tensor, "3 side side"], Float[Tensor, "478 3"]]:
    """A square around the largest face, `margin` times as wide as its box, and the points in it.

    `side` is the result's, pixels; less is shown where the picture ends. InputError: no usable
    face."""
    import cv2

    x0, y0, x1, y1 = find_face(image).box
    height, width = image.shape[:2]
    length = int(min(max(x1 - x0, y1 - y0) * margin, height, width))
    left = int(np.clip((x0 + x1 - length) / 2, 0, width - length))
    top = int(np.clip((y0 + y1 - length) / 2, 0, height - length))
    square = np.ascontiguousarray(image[top : top + length, left : left + length])
    square = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    return to_unit(square), torch.from_numpy(find_face(square).points).float()
