"""The MOFA-Adapter, and the frozen UNet that takes its residuals (paper section 3.1)."""

from mofa_nb.adapter.adapter import Adapter, Conditioning, Reference
from mofa_nb.adapter.unet import Residuals, VideoUNet, residual_counts

__all__ = [
    "Adapter",
    "Conditioning",
    "Reference",
    "Residuals",
    "VideoUNet",
    "residual_counts",
]
