"""A list of jobs, each a clip with its card; over cards and nodes by `accelerate launch`."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from mofa_nb.checks import File, InputError, existing_file, refusing, shown
from mofa_nb.config import GONE, OLDER
from mofa_nb.media.images import PICTURES
from mofa_nb.motion.formats import TRACK_FILES

FILE_COLUMNS = ("image", "motion", "face", "mask", "flow")  # columns that name a file
JobRow = dict[str, str]
_PLACES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}  # set by `accelerate launch`


def read_jobs(path: File) -> list[JobRow]:
    """Jobs from a .csv, a .jsonl, or a folder of pictures with the motion files named after them.
    Names of files count from the list's folder. InputError: no such list, or no job in it."""
    path = Path(path)
    whole = os.path.isdir(path)
    jobs = list(_in_folder(path)) if whole else _rows(existing_file(path, "list of jobs"))
    if not jobs:
        raise InputError(f"there is no job in {path}: give lines, or pictures with motion files")
    return jobs


def _in_folder(folder: Path) -> Iterator[JobRow]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    images = [file for file in files if file.suffix.lower() in PICTURES]
    motions: dict[Path, list[JobRow]] = {image: [] for image in images}
    for file in files:
        named = [image for image in images if file.stem.startswith(image.stem)]
        if file.suffix in TRACK_FILES and named and not file.stem.endswith("visibility"):
            image = max(named, key=lambda image: len(image.stem))
            motions[image].append({"motion": str(file)})
    for image, entries in motions.items():
        yield from ({"image": str(image)} | motion for motion in entries or [{}])


def _rows(path: Path) -> list[JobRow]:
    with refusing(f"the list of jobs {path} cannot be read", "correct it", ValueError, csv.Error):
        lines = path.read_text("utf-8-sig").splitlines()
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(lines, strict=True))
        else:
            rows = [json.loads(line) for line in lines if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or None in row or not row.get("image"):
            raise InputError(f"job {number} of {path} must name an image, but {shown(row)} came")
    jobs: list[JobRow] = [{} for _ in rows]
    for job, row in zip(jobs, rows, strict=True):
        for column, value in row.items():
            name, beside = column.strip().replace("-", "_"), path.parent / str(value)
            if value not in ("", None) and name not in GONE:
                is_path = name in FILE_COLUMNS and os.path.exists(beside)
                text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
                job[OLDER.get(name, name)] = str(beside) if is_path else text
    return jobs


def own_share(jobs: Sequence[JobRow]) -> tuple[Sequence[JobRow], str | None]:
    """The jobs of this process and its device, where `accelerate launch` started several."""
    import torch  # here, not above: a list that cannot be used is told sooner

    rank, world, local = (int(os.environ.get(name, usual)) for name, usual in _PLACES.items())
    on_cards = world > 1 and torch.cuda.is_available()
    return jobs[rank::world], f"cuda:{local}" if on_cards else None


def run_jobs(
    jobs: Iterable[JobRow], out: File, make: Callable[[JobRow], Any], *, overwrite=False
) -> list[tuple[JobRow, str]]:
    """Clips of all jobs, each in a folder of its own; what is there is made again to `overwrite`.
    Returns the jobs that failed, and why; `failed.jsonl` in `out` lists them, too, as jobs."""
    from mofa_nb.pipeline.outputs import new_folder, write_files

    rank, failed = os.environ.get("RANK"), []
    listed = Path(out) / ("failed.jsonl" if rank is None else f"failed-{rank}.jsonl")
    with refusing(f"{out} cannot be written", "choose another --out folder", OSError):
        Path(out).mkdir(parents=True, exist_ok=True)
        listed.unlink(missing_ok=True)
    for job in jobs:
        folder = Path(out) / folder_of(job)
        try:
            if overwrite or not (folder / "card.json").exists():
                target = new_folder(folder, overwrite=overwrite)
                with target as partial, redirect_stderr(io.StringIO()):
                    write_files(make(job), partial, called=folder)
        except Exception as error:  # one job must not end the others
            failed.append((job, " ".join(str(error).split()) or type(error).__name__))
            with listed.open("a", encoding="utf-8") as file:
                file.write(json.dumps(job | {"error": failed[-1][1]}, ensure_ascii=False) + "\n")
    return failed


def folder_of(job: JobRow) -> str:
    """A name for a job's folder: what it is about, and a hash of all that it says."""
    stems = [Path(job[name]).stem for name in ("image", "motion", "face") if name in job]
    content = json.dumps({k: v for k, v in job.items() if k != "error"}, sort_keys=True).encode()
    return "-".join([*stems, hashlib.sha256(content).hexdigest()[:8]])
