"""`python -m mofa_nb.clips FOLDER`: index a folder's videos, and decode it once for many runs."""

import argparse
import sys

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.passages import write_index


def main() -> int:
    """Write FOLDER/index.json; exit code 2 with one sentence if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mofa_nb.clips", description=__doc__)
    parser.add_argument("folder", help="holds photos/ and videos/")
    parser.add_argument("--clips", type=int, default=600, help="at most so many (default 600)")
    parser.add_argument("--frames", type=int, default=14, help="frames per clip (default 14)")
    parser.add_argument("--cache", metavar="FILE", help="also decode everything into one file")
    arguments = parser.parse_args()
    try:
        index = write_index(arguments.folder, clips=arguments.clips, num_frames=arguments.frames)
        if arguments.cache:
            from mofa_nb.clips.footage.bank import load_bank, save_bank

            bank = load_bank(arguments.folder, num_frames=arguments.frames)
            save_bank(bank, arguments.cache)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(index)} clips in {arguments.folder}/index.json\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
