"""Command line: `python -m mofa_nb animate IMAGE [MOTION.json] [--face FILE]`, and the others."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from mofa_nb import commands
from mofa_nb.checks import InputError
from mofa_nb.config import OLDER
from mofa_nb.motion.face import VOICES
from mofa_nb.motion.tracks import AFTER
from mofa_nb.pipeline.settings import OPTIONS

WRONG_INPUT, INTERRUPTED = 2, 130
OWN = "the model's"
OLDER_OPTIONS = {new: ["--" + old.replace("_", "-")] for old, new in OLDER.items()}

# Rows of arguments: names, letter of the value ("" for a switch), help, and what else argparse
# is told. All that says how an image is animated:
ANIMATED = (
    ("--face", "FILE", "video, sound or landmarks (.npy) that the face follows; a second one is"
     " the next face's", {"action": "append"}),
    ("--voice", "WAY", f"what a sound moves it by: {', '.join(VOICES)}"),
    ("--face-from", "S", "seconds of the face's file that are left out"),
    ("--face-to", "S", "second of the face's file where the part to follow ends"),
    ("--face-fps", "N", "rows per second of landmarks (default: one per frame)"),
    ("--sound", "FILE", "the sound that belongs to landmarks"),
    *((f"--{name}-strength", "X", f"share of the driving {name} motion, 0 to 2 (default: 1)")
      for name in commands.STRENGTHS),
    ("--choose", "N", "which face of the picture, counted from 0, the largest (default: 0)"),
    ("--mask", "PNG", "where the face's motion counts, tracks have the rest"),
    ("--select", "X,Y", "a pixel of a thing to brush; repeatable", {"action": "append"}),
    ("--select-not", "X,Y", "a pixel that is not of it", {"action": "append"}),
    ("--select-with", "DIR", "folder of SAM 2's weights (default: GrabCut)"),
    ("--after", "MODE", f"tracks in a longer clip: {', '.join(AFTER)}"),
    ("--loop", "", "the same as --after close, as a GIF and a WebP, too"),
    ("--camera", "MOVES", 'moves of the camera like "zoom_in 0.2, pan_left 0.1"'),
    ("--flow", "FILE", "dense flow (.npz, .npy, .flo) instead of what tracks make"),
    ("--model", "NAME", "mini, release, or a model folder (default: mini)", {"default": "mini"}),
    ("--base", "FILE", "of release: SVD-XT as one file (svd_xt.safetensors) or a folder"),
    ("--few-step", "FILE", "of release: a UNet distilled to a few steps (AnimateLCM-SVD)"),
    ("--out", "DIR", "folder for the files (default: outputs/<name>, a new one)"),
    ("--overwrite", "", "replace the clip that the folder holds"),
    *((" ".join([option, *OLDER_OPTIONS.get(rule.name, ())]), rule.metadata["letter"],
       f"{rule.metadata['about']} (default: {rule.metadata['usual'] or OWN})", {"dest": rule.name})
      for option, rule in OPTIONS.items()),
    ("--seconds", "N", "length of the clip, instead of --frames"),
    ("--size", "WIDTHxHEIGHT", "of the clip, pixels (default: fits the image)"),
    ("--device", "D", "cpu, cuda, cuda:1 or mps (default: the best there is)"),
)  # fmt: skip
PICTURE = (
    ("image", "IMAGE", "any photograph"),
    ("motion", "MOTION.json", "a motion file, or tracks of another tool", {"nargs": "?"}),
)
JOBS = "a .csv or .jsonl with image, motion, face and any setting, or a folder of pictures"
COMMANDS = {
    "animate": ("make a clip from an image and what moves it", *PICTURE, *ANIMATED),
    "sweep": ("make one for each combination of settings like --seed 1,2", *PICTURE, *ANIMATED),
    "convert": (
        "tracks of another tool to ours, or back",
        ("source", "IN", "a motion file, or another tool's tracks"),
        ("target", "OUT", ".json (ours), .pth (ATI), .npy (Wan-Move)"),
        ("--image", "FILE", "the picture, whose size IN may not name"),
    ),
    "tracks": (
        "take a film's motion",
        ("film", "VIDEO", "one shot, or a GIF"),
        ("--points", "N", 'how many, or "x,y x,y ..." (default: 64)',
         {"type": commands.points, "default": 64}),
        ("--at", "WAY", "where: on a grid, or at the strongest corners", {"default": "grid"}),
        ("--camera", "", "the camera's motion alone, by homographies"),
        ("--method", "NAME", "dis, dis_fine, dis_smooth, raft, or a tracker plugged in",
         {"default": "dis"}),
        ("--frames", "N", "follow only so many (default: at most 241)", {"type": int}),
        ("--out", "FILE", "a motion file, .json, .pth or .npy", {"required": True}),
    ),
    "batch": ("a clip of each job in a list", ("jobs", "JOBS", JOBS), *ANIMATED),
    "check": (
        "try a model on this machine, and write it down",
        ("--model", "NAME", "as for animate", {"default": "mini"}),
        ("--base", "FILE", "as for animate"),
        ("--few-step", "FILE", "as for animate"),
        ("--out", "DIR", "folder for the files", {"default": "outputs/check"}),
        ("--short", "", "one step of a small clip in each way"),
        ("--device", "D", "cpu, cuda, cuda:1 or mps (default: the best there is)"),
    ),
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one sentence like any other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 2 for wrong input, with one sentence on stderr;
    1 where all of a batch failed; 130 after Ctrl-C or a request to end, with nothing half-written.
    """
    for name in ("stdout", "stderr"):  # where there is none, what is said is lost and nothing else
        if getattr(sys, name) is None or getattr(sys, name).closed:
            setattr(sys, name, open(os.devnull, "w"))
    try:
        given = parser().parse_args(argv)
        with commands.enough_memory():
            return getattr(commands, given.command)(given) or 0
    except InputError as error:
        commands.note(" ".join(str(error).split()))
        return WRONG_INPUT
    except KeyboardInterrupt:
        commands.note("interrupted, nothing was written")
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The command line: what is `command`, and each command's arguments."""
    whole = _Parser(prog="python -m mofa_nb", description="Animate one still image.")
    subparsers = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (about, *rows) in COMMANDS.items():
        command = subparsers.add_parser(name, help=about)
        for names, letter, words, *more in rows:
            kind = {"metavar": letter} if letter else {"action": "store_true"}
            command.add_argument(*names.split(), help=words, **kind, **(more[0] if more else {}))
    return whole


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.exit(main())
