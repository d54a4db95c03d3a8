"""A clip from landmarks, as every face benchmark makes it."""

import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.animate import Clip, Session, animate
from mofa_nb.motion.motion import Motion


def driven(
    session: Session,
    image: UInt8[np.ndarray, "H W 3"],
    landmarks: Float[Tensor, "T 68 2"],
    motion: Motion | None = None,
    **settings,
) -> Clip:
    """A clip that follows landmarks given in pixels of the image."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "landmarks.npy"
        np.save(file, landmarks.numpy())
        frames = len(landmarks)
        return animate(image, motion, face=file, model=session, num_frames=frames, **settings)
