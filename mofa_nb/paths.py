"""Where things lie: the folders of the repository, found from a notebook or an installation."""

import os
from pathlib import Path

ROOT_VARIABLE = "MOFA_NB_ROOT"


def repository() -> Path:
    """The folder that holds weights/ and data/.

    What the variable MOFA_NB_ROOT says, else the one this package lies in (an editable install),
    else the nearest one from the working directory upwards, else the working directory.
    """
    if os.environ.get(ROOT_VARIABLE):
        return Path(os.environ[ROOT_VARIABLE])
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        if (folder / "weights").is_dir() and (folder / "data").is_dir():
            return folder
    return here


def weights_folder(name: str) -> Path:
    """Where a shipped model lies, for example "mini" (whether or not it is there)."""
    return repository() / "weights" / name


def data_file(name: str) -> Path:
    """A photograph, clip or motion file that comes with the repository."""
    return repository() / "data" / name


def output_folder_for(image: str | os.PathLike, motion: str | os.PathLike) -> Path:
    """outputs/<name> under the working directory, named after the image and its motion file."""
    picture, movement = Path(image).stem, Path(motion).stem
    name = movement if movement.startswith(picture) else f"{picture}-{movement}"
    return Path("outputs") / name
