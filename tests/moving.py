"""A picture whose left half moves."""

import torch

SIZE, FRAMES = (64, 64), 4


def picture() -> torch.Tensor:
    """Noise [1, 3, H, W] in [-1, 1]."""
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def moving_right(pixels: float) -> torch.Tensor:
    """Flow [1, steps, 2, H, W]: the left half moves right, farther in every frame."""
    flow = torch.zeros(1, FRAMES - 1, 2, *SIZE)
    flow[0, :, 0, :, :32] = pixels * torch.arange(1, FRAMES).view(-1, 1, 1) / (FRAMES - 1)
    return flow
