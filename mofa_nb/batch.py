"""A list of jobs, each a clip with its card; over cards and nodes by `accelerate launch`."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path

import torch

from mofa_nb.checks import InputError, existing_file, shown
from mofa_nb.config import OLDER
from mofa_nb.motion.formats import TRACK_FILES
from mofa_nb.pipeline.outputs import Clip, new_folder, write_files

FILES = ("image", "motion", "face", "mask", "flow")  # columns that name a file
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
Job = dict[str, str]
_PLACES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}  # set by `accelerate launch`


def read_jobs(path: str | os.PathLike) -> list[Job]:
    """Jobs from a .csv, a .jsonl, or a folder of pictures with the motion files named after them.

    Names of files count from the list's folder.

    Raises:
        InputError: no such file, a line that cannot be read, or no job.
    """
    path = Path(path)
    if path.is_dir():
        jobs = list(_in_folder(path))
    else:
        rows = _rows(existing_file(path, "list of jobs"))
        jobs = [{k: _found(path.parent, k, v) for k, v in row.items()} for row in rows]
    if not jobs:
        raise InputError(f"there is no job in {path}: give lines, or pictures with motion files")
    return jobs


def _in_folder(folder: Path) -> Iterator[Job]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    images = [file for file in files if file.suffix.lower() in PICTURES]
    motions: dict[Path, list[Path]] = {image: [] for image in images}
    for file in files:
        named = [image for image in images if file.stem.startswith(image.stem)]
        if file.suffix in TRACK_FILES and named and not file.stem.endswith("visibility"):
            motions[max(named, key=lambda image: len(image.stem))].append(file)
    for image, found in motions.items():
        yield from ({"image": str(image), "motion": str(motion)} for motion in found)
        if not found:
            yield {"image": str(image)}


def _rows(path: Path) -> list[Job]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines(), strict=True))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise InputError(f"the list of jobs {path} cannot be read ({error}): correct it") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or None in row or not row.get("image"):
            raise InputError(f"job {number} of {path} must name an image, but {shown(row)} came")
    return [{_column(k): str(v) for k, v in row.items() if v not in ("", None)} for row in rows]


def _column(name: str) -> str:
    name = name.strip().replace("-", "_")
    return OLDER.get(name, name)


def _found(folder: Path, name: str, value: str) -> str:
    beside = folder / value
    return str(beside) if name in FILES and beside.exists() else value


def own_share(jobs: Sequence[Job]) -> tuple[Sequence[Job], str | None]:
    """The jobs of this process and its device, where `accelerate launch` started several."""
    rank, world, local = (int(os.environ.get(name, usual)) for name, usual in _PLACES.items())
    on_cards = world > 1 and torch.cuda.is_available()
    return jobs[rank::world], f"cuda:{local}" if on_cards else None


def run_jobs(
    jobs: Iterable[Job],
    out: str | os.PathLike,
    make: Callable[[Job], Clip],
    *,
    overwrite: bool = False,
) -> list[tuple[Job, str]]:
    """Make a clip of each job, in a folder of its own; those that are there are not made again,
    unless asked to `overwrite`.

    Args:
        make: a job to its clip.
    Returns:
        The jobs that failed, and why; `failed.jsonl` in `out` lists them, too, as a list of jobs.
    """
    rank, failed = os.environ.get("RANK"), []
    listed = Path(out) / ("failed.jsonl" if rank is None else f"failed-{rank}.jsonl")
    listed.unlink(missing_ok=True)
    for job in jobs:
        folder = Path(out) / folder_of(job)
        try:
            if overwrite or not (folder / "card.json").exists():
                with (
                    new_folder(folder, overwrite=overwrite) as partial,
                    redirect_stderr(io.StringIO()),
                ):
                    write_files(make(job), partial, called=folder)
        except Exception as error:  # one job must not end the others
            failed.append((job, " ".join(str(error).split()) or type(error).__name__))
            Path(out).mkdir(parents=True, exist_ok=True)
            with listed.open("a", encoding="utf-8") as file:
                file.write(json.dumps(job | {"error": failed[-1][1]}, ensure_ascii=False) + "\n")
    return failed


def folder_of(job: Job) -> str:
    """A name for a job's folder: what it is about, and a hash of all that it says."""
    stems = [Path(job[name]).stem for name in ("image", "motion", "face") if name in job]
    known = json.dumps({k: v for k, v in job.items() if k != "error"}, sort_keys=True).encode()
    return "-".join([*stems, hashlib.sha256(known).hexdigest()[:8]])
