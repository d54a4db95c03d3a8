"""`python -m tests.fuzz [KIND] [--count N] [--begin N]`: the long run, by hand (Linux)."""

import argparse
import sys

from tests.fuzz.run import KINDS, fuzz

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
parser.add_argument("--count", type=int, help=f"inputs of each kind (default: {KINDS})")
parser.add_argument("--begin", type=int, default=0, help="number of the first (default: 0)")
arguments = parser.parse_args()
failed = False
for kind in arguments.kinds or KINDS:
    report = fuzz(kind, arguments.count or KINDS[kind], begin=arguments.begin)
    sys.stdout.write(f"{report}\n")
    sys.stdout.flush()
    failed = failed or bool(report.failures)
sys.exit(failed)
