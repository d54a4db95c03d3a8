"""What channels-last kernels save a CPU's decoder: `python -m tests.benchmarks.layout`.

The mini model's VAE decodes and encodes side by side with its kernels laid out both ways; seconds
are of the process, on one thread, the best of some rounds.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from mofa_nb.models.load import load_models

FRAMES, SIZE = 7, (160, 224)


def contiguous(net: nn.Module) -> nn.Module:
    """A copy with its kernels in PyTorch's usual order."""
    copy = deepcopy(net)
    for value in copy.parameters():
        value.data = value.data.contiguous()
    return copy


@torch.no_grad()
def seconds(
    call: Callable[[nn.Module], Tensor], net: nn.Module, rounds: int
) -> tuple[float, Tensor]:
    """The least seconds of a call, and what it returns."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        result = call(net)
        times.append(time.process_time() - begin)
    return min(times), result.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = load_models("mini", "cpu").vae
    cell, channels = 2 ** (len(vae.config.block_out_channels) - 1), vae.config.latent_channels
    latents = torch.randn(FRAMES, channels, *(side // cell for side in SIZE)).to(vae.dtype)
    picture = torch.rand(1, 3, *SIZE).to(vae.dtype) * 2 - 1
    usual = contiguous(vae)
    calls = {
        f"decode {FRAMES} frames": lambda net: net.decode(latents, num_frames=FRAMES).sample,
        "encode a picture": lambda net: net.encode(picture).latent_dist.mode(),
    }
    for name, call in calls.items():
        before, one = seconds(call, usual, rounds)
        after, other = seconds(call, vae, rounds)
        apart = f"apart by at most {(one - other).abs().max():.3f} ({vae.dtype})"
        print(
            f"{name}: {before:.2f} s, {after:.2f} s channels last: {before / after:.1f}x, {apart}"
        )


if __name__ == "__main__":
    main()
