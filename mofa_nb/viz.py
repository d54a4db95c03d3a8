"""Arrays in, RGB uint8 arrays [H, W, 3] out."""

from mofa_nb.flow_colours import flow_to_rgb

__all__ = ["flow_to_rgb"]
