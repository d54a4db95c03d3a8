"""`python -m mofa_nb.clips FOLDER`: index a folder's videos, and decode it once for many runs."""

import argparse
import sys

from mofa_nb.checks import InputError, number_between, whole_number
from mofa_nb.clips.footage.bank import LIVELY, Search, load_bank, save_bank, write_index
from mofa_nb.media.video import CUT


def main() -> int:
    """Write FOLDER/index.json; exit code 2 with one sentence if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.clips", description=__doc__)
    add = parser.add_argument
    add("folder", help="holds photographs and videos, in subfolders or not")
    add("--clips", type=int, default=0, help="at most so many, evenly spread (default: all)")
    add("--frames", type=int, default=14, help="frames per clip (default 14)")
    add("--hop", type=int, default=8, help="frames from one clip's start to the next (default 8)")
    add("--rate", type=float, default=0.0, help="frames per second (default: as motion asks for)")
    add("--motion", type=float, nargs=2, default=LIVELY, metavar=("LEAST", "MOST"),
        help="pixels over a clip at 128 px height (default %(default)s)")  # fmt: skip
    add("--cut", type=float, default=CUT, help="change of colour that may be a cut, of 1")
    add("--workers", type=int, help="videos read at once (default: one per core)")
    add("--cache", metavar="FILE", help="also decode everything into one file")
    given = parser.parse_args()

    say = lambda sentence: sys.stdout.write(f"{sentence}\n")  # noqa: E731
    try:
        for name, least in {"clips": 0, "frames": 2, "hop": 1}.items():
            whole_number(getattr(given, name), least, 10**9, f"--{name}")
        rate = number_between(given.rate, 0, 1000, "--rate")
        search = Search(given.frames, given.hop, tuple(given.motion), given.cut, rate)
        write_index(given.folder, search, given.clips, workers=given.workers, report=say)
        if given.cache:
            save_bank(load_bank(given.folder, num_frames=given.frames), given.cache)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
