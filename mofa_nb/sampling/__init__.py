"""From noise to a clip: denoising in windows, steered by adapters."""

from mofa_nb.sampling.denoise import (
    Control,
    Start,
    Step,
    decode,
    denoise_windows,
    encode_start,
    initial_noise,
)
from mofa_nb.sampling.windows import Window, periodic_windows

__all__ = [
    "Control",
    "Start",
    "Step",
    "Window",
    "decode",
    "denoise_windows",
    "encode_start",
    "initial_noise",
    "periodic_windows",
]
