"""What a clip costs, part by part, in operations: `python -m tests.benchmarks.count_work`.

Counted on PyTorch's meta device by its own counter (a multiply-add counts as two), so nothing is
computed and the numbers are the same everywhere.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from mofa_nb.adapter.adapter import Conditioning
from mofa_nb.config import Settings
from mofa_nb.models.frame_decoder import decode_alone
from mofa_nb.models.weights import load_part, part_folder
from mofa_nb.paths import weights_folder
from tests.benchmarks.report import table


def billions(call: Callable[[], object]) -> float:
    """Operations of a call, in 1e9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e9


def part(folder: Path, name: str, alone: bool = False) -> torch.nn.Module:
    """A part of the folder without its values; they tell what is silent in a decoder of frames
    `alone`."""
    net = load_part(name, part_folder(folder, name))
    if alone:
        decode_alone(net)
    return net.eval().to("meta")


def works(folder: Path, size: tuple[int, int], own: Settings) -> dict[str, float]:
    """1e9 operations by part, for a clip of (H, W) `size`."""
    frames, steps = own.num_frames, own.steps
    names = ("unet", "vae", "trajectory_adapter")
    unet, vae, adapter = (part(folder, name) for name in names)
    cell, (height, width) = adapter.config.downscale, size
    pictures = torch.zeros(frames, 3, height, width, device="meta")
    latents = torch.zeros(
        frames, vae.config.latent_channels, height // cell, width // cell, device="meta"
    )
    sample = torch.cat([latents, latents], 1)[None]
    alone = part(folder, "vae", alone=True)
    widths = (adapter.config.block_out_channels[0], *adapter.config.block_out_channels[:-1])
    warped = [
        torch.zeros(1, frames, channels, height // stride, width // stride, device="meta")
        for channels, stride in zip(widths, adapter.config.strides, strict=True)
    ]
    token = torch.zeros(1, 1, adapter.config.cross_attention_dim, device="meta")
    step = (sample, torch.tensor(0.0, device="meta"), token, torch.zeros(1, 3, device="meta"))
    moved = frames if adapter.config.warp == "picture" else 1

    def conditioning() -> None:
        adapter.flow_encoder(adapter.controlnet_cond_embedding(pictures[:moved]))

    known = Conditioning(sample[:, 1:, :2], (), tuple(warped))
    return {
        "VAE encodes one frame": billions(lambda: vae.encode(pictures[:1])),
        "adapter's features": billions(conditioning),
        f"adapter, {steps} steps": steps * billions(lambda: adapter(*step, known)),
        f"UNet, {steps} steps": steps * billions(lambda: unet(*step)),
        "VAE decodes frames together": billions(lambda: vae.decode(latents, num_frames=frames)),
        "or each alone": billions(lambda: alone.decode(latents, num_frames=1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=weights_folder("mini"), help="a folder")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 160), metavar=("H", "W"))
    given = parser.parse_args()
    own = Settings.load(given.model / "settings.json")
    found = works(given.model, tuple(given.size), own)
    title = f"{own.num_frames} frames of {given.size[0]}x{given.size[1]}: 1e9 operations"
    print(table(title, ["part", "1e9"], [[name, f"{value:.0f}"] for name, value in found.items()]))


if __name__ == "__main__":
    main()
