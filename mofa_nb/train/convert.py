"""`python -m mofa_nb.train.convert FOLDER OUT`: a model folder in the original's layout, or back.
The original's files bear the same tensor names; folders, file names and configs differ."""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.models import weights
from mofa_nb.models.checkpoints import SIZES
from mofa_nb.models.load import load_models
from mofa_nb.models.models import FROZEN_PARTS, OPTIONAL_PARTS
from mofa_nb.paths import model_folder

# The original's folders of adapters; their tensors have the same names as ours.
ORIGINAL = {"trajectory_adapter": "controlnet", "landmark_adapter": "ldmk_controlnet"}
ORIGINAL_CONFIG = {"_class_name": "FlowControlNet"}


def to_original(folder: Path, out: Path, dtype: torch.dtype = torch.float16) -> list[Path]:
    """Write the adapters of a folder of ours as the original's `from_pretrained` finds them;
    InputError: there is none of the released sizes, which alone load there."""
    files = []
    places = {part: weights.part_folder(folder, part) for part in ORIGINAL}
    for part, source in places.items():
        if not weights.has_weights(source):
            continue
        module = weights.load_part(part, source)
        if module.config.block_out_channels != SIZES[part].block_out_channels:
            raise InputError(f"{source} is not of the released size, which alone loads")
        place = out / ORIGINAL[part]
        place.mkdir(parents=True, exist_ok=True)
        state = {key: value.to(dtype).contiguous() for key, value in module.state_dict().items()}
        files.append(place / "diffusion_pytorch_model.safetensors")
        save_file(state, files[-1], metadata={"format": "pt"})
        (place / "config.json").write_text(json.dumps(ORIGINAL_CONFIG) + "\n")
    if not files:
        raise InputError(f"{folder} has no adapter with weights: train one first")
    return files


def to_kit(model: str | Path, out: Path) -> list[Path]:
    """Write a released model (a folder, or "release" from the hub) in our layout, to train from;
    InputError: there is none, or it has our layout already."""
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
    """One direction or the other; exit code 2 with one sentence if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.train.convert", description=__doc__)
    parser.add_argument("folder", help="a model folder of ours; with --back a released one, or hub")
    parser.add_argument("out", type=Path)
    parser.add_argument("--back", action="store_true", help="from the original's layout to ours")
    given = parser.parse_args(argv)
    try:
        if given.back:
            files = to_kit("release" if given.folder == "hub" else given.folder, given.out)
        else:
            files = to_original(Path(given.folder), given.out)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
