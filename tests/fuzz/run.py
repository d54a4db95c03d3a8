"""One process makes inputs and tries them; another watches its time, its memory and its words."""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CPU_SECONDS, HANG_SECONDS, PEAK = 5.0, 90.0, 2e9  # of one input; bytes in the whole process
LIMIT = 6 * 10**9  # bytes at which a process is stopped, so that the machine lives on
LONGEST_SENTENCE = 500
KINDS = {"motions": 10_000, "pictures": 8_000, "media": 1_000, "models": 300}


@dataclass
class Report:
    """What became of the inputs of one kind."""

    kind: str
    counts: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak: float = 0.0

    def __str__(self):
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        worst = f"at most {self.slowest:.1f} s of one core and {self.peak / 1e9:.2f} GB each"
        lines = [f"{self.kind}: {told}; {worst}", *sorted(self.failures)]
        return "\n  ".join(lines)


def fuzz(kind: str, count: int, *, begin: int = 0) -> Report:
    """Try inputs number `begin` to `begin + count` of a kind; number and kind make them again."""
    report, at, end = Report(kind), begin, begin + count
    while at < end:
        at = _watch(report, at, end)
    return report


def _watch(report: Report, at: int, end: int) -> int:
    """Follow one worker until it is through or must be ended; the next input's number."""
    command = [sys.executable, "-m", "tests.fuzz.run", report.kind, str(at), str(end)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as worker:
        while at < end:
            if not select.select([worker.stdout], [], [], HANG_SECONDS)[0]:
                worker.send_signal(signal.SIGKILL)
                report.failures.append(f"{at}: nothing happens for {HANG_SECONDS:g} seconds")
                return at + 1
            line = worker.stdout.readline()
            if not line and worker.wait() == 1:
                raise RuntimeError("the worker cannot even begin: " + " ".join(command))
            if not line:
                report.failures.append(f"{at}: the process ended ({worker.wait()})")
                return at + 1
            said = json.loads(line)
            report.counts.update(said["counts"])
            report.counts["inputs"] += 1
            report.failures += [f"{at}: {sentence}" for sentence in said["failures"]]
            report.slowest = max(report.slowest, said["seconds"])
            report.peak = max(report.peak, said["peak"])
            at += 1
    return at


def work(kind: str, begin: int, end: int, out) -> None:
    """The watched process: make, try and tell."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    module = __import__(f"tests.fuzz.{kind}", fromlist=["inputs"])
    warnings.simplefilter("ignore")
    for number in range(begin, end):
        rng = np.random.default_rng([number, list(KINDS).index(kind)])
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            out.write(json.dumps(_tried(module, rng, Path(folder))) + "\n")
            out.flush()


def _tried(module, rng: np.random.Generator, folder: Path) -> dict:
    """What became of one input, under every use that there is for it."""
    counts, failures, seconds, peak = Counter(), [], 0.0, 0.0
    name, uses = module.inputs(rng, folder)
    for use, act in uses.items():
        _forget_peak()
        begin = time.process_time()
        ending, problem = _ending(act)
        counts[ending] += 1
        seconds = max(seconds, spent := time.process_time() - begin)
        peak = max(peak, _peak())
        if not problem and spent > CPU_SECONDS:
            problem = f"took {spent:.1f} seconds"
        if not problem and _peak() > PEAK:
            problem = f"took {_peak() / 1e9:.1f} GB"
        if problem:
            failures.append(f"{name}, {use}: {problem}")
    return {"counts": counts, "failures": failures, "seconds": seconds, "peak": peak}


def _ending(act) -> tuple[str, str]:
    """("taken" or "refused" or "failed", what is wrong with that)."""
    from mofa_nb.checks import InputError

    try:
        act()
    except InputError as error:
        sentence = str(error)
        if "\n" in sentence or len(sentence) > LONGEST_SENTENCE or len(sentence) < 20:
            return "refused", f"a sentence of {len(sentence)} characters: {sentence[:300]!r}"
        return "refused", ""
    except Exception as error:  # whatever else comes is what is looked for
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "mofa_nb" in f.filename]
        return "failed", f"{type(error).__name__} at {ours[-1:]}: {str(error)[:200]!r}"
    return "taken", ""


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    kind, first, last = sys.argv[1:]
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not for the watcher
    work(kind, int(first), int(last), told)
