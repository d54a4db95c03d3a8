"""Where things lie: the folders of the repository, found from a notebook or an installation."""

import os
from pathlib import Path

from mofa_nb.checks import File, InputError, existing_file, shown


def repository() -> Path:
    """The folder that holds weights/ and data/: what the variable MOFA_NB_ROOT says, else the one
    this package lies in, else the nearest one from the working directory upwards, else that."""
    if os.environ.get("MOFA_NB_ROOT"):
        return Path(os.environ["MOFA_NB_ROOT"])
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        if (folder / "weights").is_dir() and (folder / "data").is_dir():
            return folder
    return here


def weights_folder(name: str) -> Path:
    """Where a shipped model lies, for example "mini" (whether or not it is there)."""
    return repository() / "weights" / name


def model_folder(model: File) -> Path | None:
    """Where the model "mini" lies, or one in a folder; None for "release". InputError: nowhere."""
    named = isinstance(model, str) or not os.path.isdir(model)  # a Path may be a folder so called
    if named and str(model) == "release":
        return None
    folder = weights_folder("mini") if named and str(model) == "mini" else Path(model)
    if os.path.isdir(folder):  # Path.is_dir raises at names that no file can have
        return folder
    if str(model) == "mini":
        remedy = "run from the repository, or set MOFA_NB_ROOT"
        raise InputError(f"the mini model is not at {folder}: {remedy}")
    remedy = "choose mini, release, or an existing model folder"
    raise InputError(f"there is no model {shown(str(model), 200)}: {remedy}")


def check_parts(folder: Path | None, base: str | Path | None, few_step: str | Path | None) -> None:
    """InputError: no such file or folder, or the model in `folder` takes none."""
    if folder and (folder / "settings.json").is_file() and (base or few_step):
        raise InputError("only a released model takes another base or UNet: use model release")
    for place, what in ((base, "the base model"), (few_step, "the UNet's weight file")):
        if place and not os.path.isdir(place):
            existing_file(place, what)


def data_file(name: str) -> Path:
    """A photograph, clip or motion file that comes with the repository."""
    return repository() / "data" / name


def output_folder_for(image: File, motion: File) -> Path:
    """outputs/<name> under the working directory, named after the image and its motion file."""
    picture, movement = Path(image).stem, Path(motion).stem
    name = movement if movement.startswith(picture) else f"{picture}-{movement}"
    return Path("outputs") / name
