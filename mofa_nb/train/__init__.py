"""Training: base video model, S2D, and the two stages of a MOFA-Adapter, on clips or scenes."""
