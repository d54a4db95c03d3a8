"""What a GPU teaches the mini model in nine minutes, with one command.

    python weights/train_on_gpu.py weights/mini DATA OUT

DATA is the folder of make_training_data.py (37 MB), OUT a new model folder: as the one it starts
from, with a small decoder; its adapter moves the picture (`warp`). In 8 bits, so that no file is
larger than 16 MiB. Stages that come too late are left out. What follows `--` is for all:

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

MINUTES = 8.5  # of nine: starting takes the rest
LEAST = 0.25  # minutes that are worth a stage
STILLS = 4000  # of the film
# Stage, minutes, options. High noise is where sampling begins; the rest is where it ends.
STAGES = (
    ("small_decoder", 1.7, "--batch 64 --lr 1e-3 --average 0.995 --from-scratch small_decoder"),
    ("joint", 5.5, "--distill --batch 24 --lr 4e-4 --high-share 0.8 --free-share 0.05 "
     "--drop-rate 0 --s2d-share 0.3 --pool 384 --chunk 48 --renew 24 --average 0.998"),
)  # fmt: skip


def prepare(model: Path, data: Path, out: Path, bank: Path) -> None:
    """A model folder to train in, and the bank of pictures."""
    unused = shutil.ignore_patterns(SUMS, "curves*", "*.jpg")
    shutil.copytree(model, out, dirs_exist_ok=True, ignore=unused)
    vae = read_config(out / "vae")
    fold = 2 ** (len(vae["block_out_channels"]) - 1)
    shared = {"latent_channels": vae["latent_channels"], "fold": fold}
    adapter = read_config(part_folder(out, "trajectory_adapter")) | {"warp": "picture"}
    configs = {"small_decoder": shared, "trajectory_adapter": adapter}
    for name, config in configs.items():
        (out / name).mkdir(exist_ok=True)
        text = json.dumps(config, indent=2) + "\n"
        (out / name / "config.json").write_text(text, encoding="utf-8")
    save_bank(load_bank(data, max_clips=0, max_stills=STILLS), bank)


def main(argv: list[str] | None = None) -> int:
    """Train the stages in turn; returns the exit code of the first that fails, or 0."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("rest", nargs="*", help="options for every stage, after --")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank.pt"
        prepare(given.model, given.data, given.out, bank)
        return stages(begin, bank, given.out, given.rest)


def stages(begin: float, bank: Path, out: Path, rest: list[str]) -> int:
    """Train `out` stage by stage, as long as time is left; only what a model needs stays."""
    folders = ["--model", str(out), "--data", str(bank), "--out", str(out)]
    for stage, minutes, options in STAGES:
        left = min(minutes, MINUTES - (time.monotonic() - begin) / 60)
        if left < LEAST:
            break
        shared = ["--clips-share", "0", "--bits", "8", "--minutes", f"{left:.2f}"]
        code = train([stage, *folders, *shared, *options.split(), *rest])
        shutil.rmtree(out / f"{stage}_run", ignore_errors=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
