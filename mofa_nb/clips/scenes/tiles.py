"""Square tiles of photographs."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def tile(
    photo: UInt8[np.ndarray, "H W 3"], side: int, nearness: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "3 S S"]:
    """A square crop at a random place; nearness 1 shows the whole short side."""
    return cropped(photo, (side, side), nearness, rng.uniform(size=2)).transpose(2, 0, 1)


def cropped(
    image: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    nearness: float,
    place: Float[np.ndarray, "2"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to cover `size`, `nearness` times larger, and cut at `place` in [0, 1]."""
    height, width = image.shape[:2]
    scale = nearness * max(size[0] / height, size[1] / width)
    target = max(size[1], round(width * scale)), max(size[0], round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, target, interpolation=how) if scale != 1 else image
    top = round((image.shape[0] - size[0]) * float(place[1]))
    left = round((image.shape[1] - size[1]) * float(place[0]))
    return image[top : top + size[0], left : left + size[1]]
