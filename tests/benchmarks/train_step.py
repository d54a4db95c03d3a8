"""Training steps of the adapter at the release's size: `python -m tests.benchmarks.train_step`.

The UNet is frozen in bfloat16, the adapter begins as a copy of its encoder (`--from-unet`) and
learns from a clip of noise: time and memory do not depend on what is learned. One run, one way:
compare `--gradient-checkpointing` with a second run. Needs 20 GiB of memory and nothing else.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from mofa_nb.config import Settings
from mofa_nb.models.checkpoints import SIZES
from mofa_nb.train import video
from mofa_nb.train.job import Job, Schedule
from mofa_nb.train.loop import Trainer
from mofa_nb.train.parts import save_memory
from tests.benchmarks.full_size import BASE_MODEL, made
from tests.benchmarks.report import table


def parts() -> dict[str, torch.nn.Module]:
    """UNet and trajectory adapter in bfloat16, with the weights that training starts from."""
    unet = made("unet", BASE_MODEL["unet"], torch.bfloat16, "cpu")
    adapter = made(
        "trajectory_adapter", SIZES["trajectory_adapter"].to_dict(), torch.bfloat16, "cpu"
    )
    video.start_as_unet(adapter, unet)
    return {"unet": unet, "trajectory_adapter": adapter.train()}


def noise_clip(frames: int, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What the loss takes of a clip of (H, W) `size`."""
    height, width = size
    cells = height // 8, width // 8
    return {
        "first": torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8),
        "given": 4 * torch.randn(1, frames - 1, 2, height, width),
        "latents": torch.randn(1, frames, 4, *cells),
        "image_latents": torch.randn(1, 4, *cells),
        "token": torch.randn(1, 1, 1024),
    }


def peak() -> float:
    """The most memory that this process has held, GiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    both = parts()
    if given.gradient_checkpointing:
        for part in both.values():
            save_memory(part)
    begun, nowhere, schedule = peak(), Path(), Schedule(steps=given.steps, lr=2e-5, warmup=0)
    job = Job(stage="trajectory", schedule=schedule, model=nowhere, data=nowhere, out=nowhere)
    loss = video.VideoLoss(job, both, both["trajectory_adapter"], Settings(), 0.0)
    clip = noise_clip(given.frames, tuple(given.size))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            {"trajectory_adapter": both["trajectory_adapter"]}, Path(folder), schedule
        )
        trainer.save = lambda: None  # 13 GB that nobody wants

        def told(line: str) -> None:
            moments.append(time.monotonic())
            spent = moments[-1] - moments[-2]
            rows.append((f"step {len(rows)}", f"{spent:.0f}", f"{peak():.1f}"))

        rows, moments = [("networks", "", f"{begun:.1f}")], [time.monotonic()]
        trainer.fit(lambda turn: loss(clip), every=1, report=told)
    learned = sum(value.numel() for value in trainer.parameters.values())
    way = " with gradient checkpointing" * given.gradient_checkpointing
    size = "x".join(map(str, given.size))
    title = f"{learned / 1e6:.0f} million weights learn{way}: {given.frames} frames of {size}"
    print(table(title, ("", "seconds", "peak, GiB"), rows))


if __name__ == "__main__":
    main()
