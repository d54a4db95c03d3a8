"""From noise to a clip: denoising in windows, steered by adapters."""
