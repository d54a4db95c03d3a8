"""`python -m mofa_nb.train.convert FOLDER OUT`: a released model in our layout, to train from."""

import argparse
import json
import sys
from pathlib import Path

import torch

from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.models import weights
from mofa_nb.models.checkpoints import SIZES
from mofa_nb.models.load import load_models
from mofa_nb.models.models import FROZEN_PARTS, OPTIONAL_PARTS
from mofa_nb.paths import model_folder


def to_kit(model: str | Path, out: Path) -> list[Path]:
    """Write a released model (a folder, or "release" from the hub) in our layout; InputError: there
    is none, or it has our layout already."""
    if (folder := model_folder(model)) and (folder / "settings.json").is_file():
        raise InputError(f"{folder} has our layout already: train from it as it is")
    half = dict.fromkeys((*FROZEN_PARTS, *OPTIONAL_PARTS), torch.float16)
    models = load_models(model, "cpu", half)
    for name, part in models.parts.items():
        sizes = SIZES.get(name, part.config)
        values = sizes.to_dict() if hasattr(sizes, "to_dict") else dict(sizes)
        weights.save_part(name, part, values, out / name, torch.float16)
    models.scheduler.save_pretrained(out / "scheduler")
    (out / "settings.json").write_text(json.dumps(Settings().to_dict(), indent=1) + "\n")
    return [out / name for name in models.parts]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 2 with one sentence if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train.convert", description=__doc__)
    parser.add_argument("folder", help="a released model, or hub")
    parser.add_argument("out", type=Path)
    given = parser.parse_args(argv)
    try:
        files = to_kit("release" if given.folder == "hub" else given.folder, given.out)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
