"""Loading a whole model: mini, release, or a folder of either layout."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.models import weights
from mofa_nb.models.models import Models, assemble
from mofa_nb.models.parts import (
    FROZEN_PARTS,
    OPTIONAL_PARTS,
    check_device,
    default_device,
    model_dtypes,
)
from mofa_nb.paths import weights_folder


def load_models(
    model: str | Path = "mini",
    device: str | torch.device | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> Models:
    """Load a model strictly.

    Args:
        model: "mini", "release" (found in the hub's cache or downloaded), or a folder: of our
            layout, or of one of the released layouts.
        device: where to put it; a GPU if there is one by default.
        dtypes: number formats per part instead of `model_dtypes`.
    Raises:
        InputError: unknown model, damaged or misfitting weights, a hub that cannot be reached.
    """
    device = device or default_device()
    dtypes = model_dtypes(device) | dict(dtypes or {})
    check_device(device)
    folder = weights_folder(str(model)) if model == "mini" else Path(model)
    if model == "release" or (folder.is_dir() and not (folder / "settings.json").is_file()):
        from mofa_nb.models.release import load_release

        return load_release(None if model == "release" else folder, device, dtypes)
    if not folder.is_dir():
        raise InputError(
            f"there is no model {str(model)!r}: choose mini, release, or an existing model folder"
        )
    return _load_folder(folder, device, dtypes)


def _load_folder(
    folder: Path, device: str | torch.device, dtypes: Mapping[str, torch.dtype]
) -> Models:
    names = [*FROZEN_PARTS, *(p for p in OPTIONAL_PARTS if weights.has_weights(folder / p))]
    parts = {n: weights.load_part(n, folder / n, dtypes[n], device) for n in names}
    files = [weights.weight_file(folder / n, dtypes[n]) for n in names]
    return assemble(
        Settings.load(folder / "settings.json"), parts, folder / "scheduler", weights_hash(files)
    )


def weights_hash(files: list[Path]) -> str:
    """First 12 hex digits of sha256 over the files' contents, in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 22), b""):
                digest.update(block)
    return digest.hexdigest()[:12]
