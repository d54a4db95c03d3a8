"""The MOFA-Adapter, and the frozen UNet that takes its residuals (paper section 3.1)."""

from mofa_nb.adapter.unet import residual_counts
