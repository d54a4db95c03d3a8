"""Commands beside `animate`: other tools' tracks, tracks from a film, lists of jobs, a check."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mofa_nb.checks import InputError, shown


def add_commands(commands, shared, checked: Callable, animate: Callable, say: Callable) -> None:
    """Add `convert`, `tracks`, `batch` and `check` to the command line.

    Args:
        commands: argparse's sub-parsers.
        shared: a parser of `animate`'s options.
        checked: from parsed options to image, motion, model and settings.
        animate: from these to a clip.
        say: takes notes for the user.
    """
    convert = commands.add_parser("convert", help="tracks of another tool to ours, or back")
    convert.add_argument("source", metavar="IN", help="a motion file, or another tool's tracks")
    convert.add_argument("target", metavar="OUT", help=".json (ours), .pth (ATI), .npy (Wan-Move)")
    convert.add_argument("--image", metavar="FILE", help="the picture, whose size IN may not name")
    convert.set_defaults(run=lambda arguments: run_convert(arguments, say))
    tracks = commands.add_parser("tracks", help="take a film's motion")
    add = tracks.add_argument
    add("film", metavar="VIDEO", help="one shot, or a GIF")
    add(
        "--points",
        metavar="N",
        type=points,
        default=64,
        help='how many, or "x,y x,y ..." (default: 64)',
    )
    add("--at", default="grid", help="where: on a grid, or at the strongest corners")
    add("--camera", action="store_true", help="the camera's motion alone, by homographies")
    add("--method", default="dis", help="dis, dis_fine, dis_smooth, raft, or a tracker plugged in")
    add("--frames", metavar="N", type=int, help="follow only so many (default: at most 241)")
    add("--out", metavar="FILE", required=True, help="a motion file, .json, .pth or .npy")
    tracks.set_defaults(run=lambda arguments: run_tracks(arguments, say))
    batch = commands.add_parser("batch", help="a clip of each job in a list", parents=[shared])
    about = "a .csv or .jsonl with image, motion, face and any setting, or a folder of pictures"
    batch.add_argument("jobs", metavar="JOBS", help=about)
    batch.set_defaults(run=lambda given: run_batch(given, checked, animate, say))
    check = commands.add_parser("check", help="try a model on this machine, and write it down")
    check.add_argument("--model", default="mini", help="as for animate")
    check.add_argument("--out", metavar="DIR", default="outputs/check", help="folder for the files")
    check.add_argument("--short", action="store_true", help="one step of a small clip in each way")
    check.add_argument(
        "--device", choices=("cpu", "cuda", "mps"), help="default: the best there is"
    )
    check.set_defaults(run=lambda arguments: run_check(arguments, say))


def run_check(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """`check`: what works here."""
    from mofa_nb.check import check

    check(arguments.model, arguments.device, Path(arguments.out), say, arguments.short)
    return 0


def run_convert(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """`convert`: one track file into another, at the picture's size if there is one."""
    from mofa_nb.media.images import read_image
    from mofa_nb.motion.formats import read_motion

    size = arguments.image and read_image(arguments.image).shape[1::-1]
    motion, notes = read_motion(arguments.source, size)
    return _write(motion.resized(size) if size else motion, notes, arguments.target, say)


def run_tracks(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """`tracks`: what moves in a film, as a motion file."""
    from mofa_nb.flow.film import film_motion

    motion, notes = film_motion(
        arguments.film, arguments.points, at=arguments.at, camera=arguments.camera,
        method=arguments.method, num_frames=arguments.frames,
    )  # fmt: skip
    return _write(motion, notes, arguments.out, say)


def run_batch(
    arguments: argparse.Namespace, checked: Callable, animate: Callable, say: Callable
) -> int:
    """`batch`: jobs with the settings of the line, where they do not name their own."""
    from tqdm import tqdm

    from mofa_nb.batch import own_share, read_jobs, run_jobs
    from mofa_nb.pipeline.session import Session

    if not arguments.out:
        raise InputError("a batch needs a folder for its clips: give --out DIR")
    given = {"image": None, "motion": None} | vars(arguments)
    own = ("command", "jobs", "out", "overwrite", "run")
    line = {name: value for name, value in given.items() if value and name not in own}
    jobs = [line | job for job in read_jobs(arguments.jobs)]
    unknown = sorted({name for job in jobs for name in job} - set(given) - {"error"})
    if unknown:
        raise InputError(f"a job has no {shown(unknown[0])}: use image, motion or an option's name")
    sessions: dict[tuple, Session] = {}

    def make(job):
        job = job | {"loop": str(job.get("loop")).lower() in ("true", "1", "yes", "on")}
        image, motion, model, settings = checked(argparse.Namespace(**given | job))
        key = model, settings.pop("device", device)
        session = sessions.setdefault(key, Session(*key))
        return animate(image, motion, model=session, settings=settings, name=job["image"])

    own, device = own_share(jobs)
    with tqdm(own, unit="clip", disable=sys.stderr is None) as bar:
        failed = run_jobs(bar, arguments.out, make, overwrite=arguments.overwrite)
    for job, reason in failed:
        say(f"mofa_nb: {job['image']}: {reason}")
    sys.stdout.write(f"{len(own) - len(failed)} of {len(own)} clips: {arguments.out}\n")
    return 0


def _write(motion, notes: Sequence[str], target: str, say: Callable[[str], None]) -> int:
    from mofa_nb.motion.formats import save_motion

    try:
        notes = (*notes, *save_motion(motion, target))
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror}): choose another"
        ) from error
    for note in notes:
        say(f"mofa_nb: {note}")
    sys.stdout.write(f"{len(motion.tracks)} tracks, {len(motion.pins)} pins: {target}\n")
    return 0


def points(text: str):
    """A number of points, or places: "10,20 30,40"."""
    import numpy as np

    if "," not in text:
        return int(text)
    return np.array([pair.split(",") for pair in text.split()], np.float64).reshape(-1, 2)
