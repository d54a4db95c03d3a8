"""What the VAE keeps of photographs it never saw: `python -m tests.benchmarks.evaluate_vae`.

PSNR, and sharpness (gradient energy over the photograph's own), of the middle squares of seven
held-out photographs, encoded and decoded.
"""

import argparse
from pathlib import Path

import cv2
import torch
from PIL import Image

from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.models.load import load_models
from mofa_nb.paths import data_file
from mofa_nb.study.metrics import psnr
from tests.benchmarks.report import cell, table
from tests.benchmarks.scoring import sharpness

PHOTOS = ("china", "flower", "grace_hopper", "chelsea", "coffee", "palace", "piazza")


def square(name: str, side: int) -> torch.Tensor:
    """The middle of a photograph, [3, side, side] in [0, 1]."""
    photo = read_image(data_file(f"{name}.jpg"))
    height, width = photo.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    middle = photo[top : top + short, left : left + short]
    return to_unit(cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA))


@torch.no_grad()
def through(vae: torch.nn.Module, photo: torch.Tensor) -> torch.Tensor:
    """Encoded and decoded."""
    latents = vae.encode((photo[None] * 2 - 1).to(vae.dtype)).latent_dist.mode()
    decoded = vae.decode(latents, num_frames=1).sample.float()
    return ((decoded[0] + 1) / 2).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="mini, release or a model folder")
    parser.add_argument("--side", type=int, default=128, metavar="N", help="pixels")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="photographs above, VAE below")
    given = parser.parse_args()
    models = load_models(given.model, "cpu")
    photos = [square(name, given.side) for name in PHOTOS]
    made = [through(models.vae, photo) for photo in photos]
    pairs = list(zip(made, photos, strict=True))
    decibels = [psnr(ours[None], true[None]) for ours, true in pairs]
    sharp = [sharpness(ours, true) for ours, true in pairs]
    rows = [
        [name, f"{db:.1f}", f"{share:.2f}"]
        for name, db, share in zip(PHOTOS, decibels, sharp, strict=True)
    ]
    rows.append(["median [quartiles]", cell(decibels, 1), cell(sharp, 2)])
    print(table(f"{models.name}, weights {models.hash}", ["photograph", "dB", "sharpness"], rows))
    if given.picture:
        both = torch.cat([torch.cat(photos, 2), torch.cat(made, 2)], 1)
        Image.fromarray(to_uint8(both)).save(given.picture)


if __name__ == "__main__":
    main()
