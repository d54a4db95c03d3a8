"""What a GPU teaches the mini model in nine minutes, with one command.

    python weights/train_on_gpu.py weights/mini DATA OUT

DATA is the folder of make_training_data.py (37 MB), OUT a new model folder: as the one it starts
from, but its adapter moves the picture (`warp`). In 8 bits, so that no file is larger than 16 MiB.
What follows `--` is for the training:

    python weights/train_on_gpu.py weights/mini DATA OUT -- --steps 3 --batch 2 --pool 4 --chunk 2
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from mofa_nb.clips.footage.bank import load_bank, save_bank
from mofa_nb.models.weights import SUMS, part_folder, read_config
from mofa_nb.train.__main__ import main as train

MINUTES = 8.5  # of nine, reading the data included: starting takes the rest
STILLS = 4000  # of the film
# High noise is where sampling begins; the rest is where it ends.
OPTIONS = (
    "--distill --batch 24 --lr 4e-4 --high-share 0.8 --free-share 0.05 --drop-rate 0 "
    "--s2d-share 0.3 --pool 384 --chunk 48 --renew 24 --average 0.998 --clips-share 0 --bits 8"
)


def prepare(model: Path, data: Path, out: Path, bank: Path) -> None:
    """A model folder to train in, and the bank of pictures."""
    unused = shutil.ignore_patterns(SUMS, "curves*", "*.jpg")
    shutil.copytree(model, out, dirs_exist_ok=True, ignore=unused)
    adapter = part_folder(out, "trajectory_adapter")
    text = json.dumps(read_config(adapter) | {"warp": "picture"}, indent=2) + "\n"
    (adapter / "config.json").write_text(text, encoding="utf-8")
    save_bank(load_bank(data, max_clips=0, max_stills=STILLS), bank)


def main(argv: list[str] | None = None) -> int:
    """Train UNet and adapters together for the minutes left; returns the exit code."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("rest", nargs="*", help="options of the training, after --")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bank, out = Path(folder) / "bank.pt", str(given.out)
        prepare(given.model, given.data, given.out, bank)
        left = MINUTES - (time.monotonic() - begin) / 60
        job = ["joint", "--model", out, "--data", str(bank), "--out", out]
        code = train([*job, "--minutes", f"{left:.2f}", *OPTIONS.split(), *given.rest])
    shutil.rmtree(given.out / "joint_run", ignore_errors=True)  # only what a model needs stays
    return code


if __name__ == "__main__":
    sys.exit(main())
