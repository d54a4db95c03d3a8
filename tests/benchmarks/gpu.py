"""Time and memory of the release on a card: `python -m tests.benchmarks.gpu`.

Networks of full size with random weights, so nothing is downloaded. In this order, until
`--minutes` are over: the original's loop (`card_clip`) beside ours; what every memory way takes;
the faster speeds, no guidance, and its halves in turn, each beside the original's; compiled loops,
in a process of their own that is stopped in time. Runs of a group take turns, A B B A, and what is
compared are medians of a group. Whatever is measured is written at once, and what fails becomes a
sentence there; nothing else is lost. `--t4`: a T4's number formats.

A bare machine, with torch and transformers but no network, needs diffusers and a copy of this
folder, the wheel in `.whl/` included, which git ignores; `$OUT`, what comes back:

    pip download --no-deps -d .whl diffusers==0.42.1                     # here
    pip install --no-index --no-deps --target /tmp/site .whl/*.whl       # there
    PYTHONPATH=/tmp/site python3 -m tests.benchmarks.gpu --json "$OUT/gpu.json"
"""

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from mofa_nb.config import SPEEDS, WAYS
from mofa_nb.models.load import load_models
from mofa_nb.models.memory import Memory, fitted_into_memory
from mofa_nb.models.models import Models
from mofa_nb.sampling.speed import compile_blocks
from tests.benchmarks.card_clip import CLIPS, DECODED, GIB, TIMED, UNGUIDED, Loop, run_clip
from tests.benchmarks.full_size import KINDS, card_dtypes, full_size
from tests.benchmarks.report import table, write_json
from tests.benchmarks.work import Pace, Work

ROOT = Path(__file__).parents[2]
LOOPS = {
    "original": Loop(original=True),
    "exact": Loop(),
    "exact, halves in turn": Loop(in_turn=True),
    "exact, unguided": Loop(guidance=UNGUIDED),
    "fast": Loop(SPEEDS["fast"]),
    "draft": Loop(SPEEDS["draft"]),
    "exact, compiled": Loop(compiled=True),
    "fast, compiled": Loop(SPEEDS["fast"], compiled=True),
}
WARM_STEPS = 5  # in which every speed does all that it ever does
PRODUCT = 8192  # side of the matrices whose product says what the card can do
DRY = {TIMED: (4, (64, 64), "tracks"), "both": (4, (64, 64), "both")}


class Record:
    """What was found so far, as it is in a file; and the time that is left."""

    def __init__(self, path: Path, minutes: float):
        self.path, self.found = path, {}
        self.begin = time.monotonic()
        self.end = self.begin + 60 * minutes

    def in_time(self) -> bool:
        return time.monotonic() < self.end

    def attempt(self, entry: dict, work: Callable[[], dict], what: str) -> None:
        """Put what some work finds into an entry, or the sentence why it found nothing."""
        if "failed" in entry:
            return
        if not self.in_time():
            entry["left out"] = "no time was left"
        else:
            try:
                entry |= work()
            except Exception as error:
                lines = str(error).split(". ")[0].splitlines() or [""]
                entry["failed"] = f"{type(error).__name__}: {lines[0][:300]}"
        write_json(self.path, self.found)
        brief = {key: value for key, value in entry.items() if not isinstance(value, dict | list)}
        print(f"{time.monotonic() - self.begin:5.0f} s  {what}: {brief}", flush=True)


class Timer:
    """Seconds by stage and peak memory of a run that is not waited for between its stages."""

    def __init__(self, device: torch.device):
        self.cuda, self.device = device.type == "cuda", device
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(device)
        self.begin = self._waited()
        self.marks = [("", self._now())]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        yield
        self.marks.append((name, self._now()))

    def figures(self) -> dict:
        """Wait for the end; `loop` is all that is done for denoising, the conditioning included."""
        clip, stages = self._waited() - self.begin, {}
        for (_, before), (name, now) in pairwise(self.marks):
            took = before.elapsed_time(now) / 1000 if self.cuda else now - before
            stages.setdefault(name, []).append(took)
        found = {"clip": clip, "loop": sum(stages["conditioning"] + stages["denoising"])}
        found |= {"stages": {name: sum(each) for name, each in stages.items()}}
        found |= {"steps": stages["denoising"]}
        if self.cuda:
            found["allocated GiB"] = torch.cuda.max_memory_allocated(self.device) / GIB
            found["reserved GiB"] = torch.cuda.max_memory_reserved(self.device) / GIB
        return found

    def _waited(self) -> float:
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _now(self) -> "torch.cuda.Event | float":
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def release() -> None:
    """Give back what no tensor holds; a card that is out of order says so where it is measured."""
    gc.collect()
    with suppress(RuntimeError):
        torch.cuda.empty_cache()


def measured(models: Models, clip: tuple, loop: Loop, steps: int, memory: Memory, stage=None):
    """Figures of one clip; `stage` in place of a timer."""
    frames, size, _ = clip
    timer = Timer(models.device)
    draw = torch.Generator(models.device).manual_seed(0)
    new = partial(torch.randn, device=models.device, generator=draw)
    with torch.compiler.set_stance("default" if loop.compiled else "force_eager"):
        run_clip(models, frames, size, stage or timer, new, steps=steps, loop=loop, memory=memory)
    return {} if stage else timer.figures() | {"way": memory.way}


def race(
    record: Record,
    group: str,
    names: tuple[str, ...],
    models: Callable[[], Models],
    clip: tuple,
    given: argparse.Namespace,
) -> None:
    """Clips of every loop, in turns; the first one of each, short and apart, warms it up."""
    entries = record.found.setdefault(group, {name: {} for name in names})

    def clip_of(name: str, entry: dict, warm: bool = False) -> dict:
        loop, memory = LOOPS[name], fitted(models(), clip, "full")
        memory.way = "balanced" if loop.in_turn else "full"
        if warm:
            release()
            steps = min(WARM_STEPS, given.steps)
            return {"warm-up": measured(models(), clip, loop, steps, memory)}
        one = measured(models(), clip, loop, loop.speed.steps_of(given.steps), memory)
        samples = [*entry.get("samples", ()), one]
        medians = {f"{key} seconds": median(s[key] for s in samples) for key in ("clip", "loop")}
        return {"samples": samples, **medians}

    for name, entry in entries.items():
        record.attempt(entry, lambda n=name, e=entry: clip_of(n, e, warm=True), f"{group}, {name}")
    for turn in range(given.rounds):
        for name, entry in [*entries.items()][:: 1 if turn % 2 == 0 else -1]:
            record.attempt(entry, lambda n=name, e=entry: clip_of(n, e), f"{group}, {name}")
            compare(entries)
    write_json(record.path, record.found)


def compare(entries: Mapping[str, dict]) -> None:
    """How many times as fast each loop is as the original's, where both have run."""
    base = entries["original"].get("loop seconds")
    for entry in entries.values():
        if base and "loop seconds" in entry:
            entry["times as fast"] = base / entry["loop seconds"]


def fitted(models: Models, clip: tuple, way: str) -> Memory:
    """The model in a memory way, decoding as few frames at once as a card for this way can."""
    frames, size, _ = clip
    memory = fitted_into_memory(models, frames, size, guided=True, wanted=way)
    memory.decode_chunk = min(memory.decode_chunk or DECODED[way], DECODED[way])
    return memory


def taken(models: Models, clip: tuple, way: str) -> dict:
    """Figures of two steps in one memory way, picture and frames included."""
    release()
    memory = fitted(models, clip, way)
    found = measured(models, clip, LOOPS["exact"], 2, memory)
    return found | {"step seconds": found["steps"][-1]}


def roofline(models: Models, clip: tuple, entries: Mapping[str, dict]) -> dict:
    """A step's operations and bytes, and the least seconds that they take at the pace of a large
    matrix product and a large copy; `share`: these of the seconds that the step took."""
    samples = entries["exact"].get("samples")
    if not samples:
        return {"left out": "exact was not timed"}
    took = median(time for sample in samples for time in sample["steps"])
    work = Work()

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        with work if name == "denoising" else nullcontext():
            yield

    measured(models, clip, LOOPS["exact"], 1, fitted(models, clip, "full"), stage)
    large = models.device.type == "cuda"
    side, count = (PRODUCT, 2**30) if large else (512, 2**20)
    matrix = torch.randn(side, side, device=models.device, dtype=models.unet.dtype)
    source = torch.ones(count, device=models.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = 2 * side**3 / seconds(lambda: matrix @ matrix, models.device)
    copied = 2 * count / seconds(lambda: target.copy_(source), models.device)
    least = work.seconds(Pace(product, product, copied))
    counted = {"TFLOP": work.flops / 1e12, "GB": work.bytes / 1e9, "operations": len(work.parts)}
    return {
        "step": {"seconds": took, "at least": least} | counted,
        "card": {"TFLOP/s": product / 1e12, "GB/s": copied / 1e9},
        "share": least / took,
    }


def seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Of some work, once; the mean of many in a row."""
    taken = []
    for count in (3, times):  # the first ones warm up
        timer = Timer(device)
        for _ in range(count):
            work()
        taken.append((timer._waited() - timer.begin) / count)
    return taken[-1]


def machine(device: torch.device) -> dict:
    """What is installed, and which card there is."""
    found = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for name in ("torch", "triton", "diffusers", "transformers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    if device.type == "cuda":
        found["card"] = torch.cuda.get_device_name(device)
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            found["driver"] = subprocess.check_output(asked, text=True, timeout=30).strip()
    return found


def compiled_apart(record: Record, argv: list[str], seconds: float) -> dict:
    """Time the compiled loops in a process of their own, which is stopped when it takes too long;
    what it wrote until then counts."""
    place = record.path.with_suffix(".compiled.json").resolve()
    place.unlink(missing_ok=True)
    own = ["--compiled", "--json", str(place), "--minutes", str(seconds / 60), "--rounds", "2"]
    command = [sys.executable, "-m", "tests.benchmarks.gpu", *argv, *own]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        ended = f"ended with code {process.wait(seconds)}"
    except subprocess.TimeoutExpired:
        ended = f"was stopped after {seconds:.0f} s"
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the compiler's workers, too
    process.wait()
    if place.is_file():
        found = json.loads(place.read_text(encoding="utf-8"))
        record.found |= {group: found[group] for group in found if group.startswith("compiled")}
    return {"process": ended}


def compiled(record: Record, models: Callable[[], Models], clip: tuple, given) -> None:
    """The same in this process; `frames`: fewer "ok" than "total" were not compiled after all."""
    from torch._dynamo.utils import counters  # slow to import

    compile_blocks(models())
    for name in ("exact, compiled", "fast, compiled"):
        torch.compiler.reset()
        race(record, f"compiled: {name}", ("original", name), models, clip, given)
        record.found[f"compiled: {name}"][name]["frames"] = dict(counters["frames"])
        counters.clear()
        release()
    write_json(record.path, record.found)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing begins")
    parser.add_argument("--compile-minutes", type=float, default=3, help="of these; 0: none")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3, help="of the loops")
    parser.add_argument("--t4", action="store_true", help="float16 and float32 only, as on a T4")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", help="a model folder or mini instead: a dry run")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="FILE")
    parser.add_argument("--compiled", action="store_true", help="the compiled loops only")
    return parser.parse_args(argv)


@torch.no_grad()
def main(argv: list[str] | None = None) -> dict:
    """Measure, write and print; returns all figures."""
    argv = sys.argv[1:] if argv is None else argv
    given = arguments(argv)
    own = 0 if given.compiled else given.compile_minutes
    record = Record(given.json, given.minutes - own)
    clips, built = DRY if given.model else CLIPS, {}

    def models(kinds: str = "tracks") -> Models:
        """One at a time: made when asked for, and until another is."""
        if kinds not in built:
            built.clear()
            release()
            built[kinds] = made(given, kinds)
        return built[kinds]

    told = record.found["machine"] = {"model": given.model or "full size", "steps": given.steps}
    record.attempt(told, lambda: machine(torch.device(given.device)), "machine")
    if given.compiled:
        compiled(record, models, clips[TIMED], given)
        return record.found
    race(record, "ours", ("original", "exact"), models, clips[TIMED], given)
    found = record.found["roofline"] = {}
    work = lambda: roofline(models(), clips[TIMED], record.found["ours"])  # noqa: E731
    record.attempt(found, work, "roofline")
    for kinds in ("tracks", "both"):
        for way in WAYS:
            for name in (name for name, clip in clips.items() if clip[-1] == kinds):
                entry = record.found.setdefault("memory", {}).setdefault(f"{name}, {way}", {})
                work = lambda k=kinds, n=name, w=way: taken(models(k), clips[n], w)  # noqa: E731
                record.attempt(entry, work, f"{name}, {way}")
    built.clear()  # layers of the last way are brought
    others = tuple(name for name, loop in LOOPS.items() if not loop.compiled and name != "exact")
    race(record, "others", others, models, clips[TIMED], given)
    built.clear()
    release()
    left = record.end + 60 * own - time.monotonic()
    if own and given.minutes and left > 0:
        record.end += 60 * own
        entry = record.found["compile"] = {}
        record.attempt(entry, lambda: compiled_apart(record, argv, left), "compile")
    print(tables(record.found))
    return record.found


def made(given: argparse.Namespace, kinds: str) -> Models:
    """The release with random weights; in a dry run the given model with the same adapters."""
    if given.model is None:
        return full_size(KINDS[kinds], card_dtypes(wide=not given.t4), given.device)
    models = load_models(given.model, given.device)
    return replace(models, adapters={kind: models.adapter(kind) for kind in KINDS[kinds]})


def tables(found: Mapping[str, dict]) -> str:
    """Every loop and memory way, or the sentence in its place."""
    loops, ways = [], []
    peaks = ("allocated GiB", "reserved GiB")
    for group in (group for group, entries in found.items() if "original" in entries):
        for name, entry in found[group].items():
            figures = [entry.get(key) for key in ("loop seconds", "clip seconds", "times as fast")]
            figures += [entry.get("warm-up", {}).get(key) for key in peaks]
            loops.append([f"{group}, {name}", *map(cell, figures), sentence(entry)])
    for name, entry in found["memory"].items():
        figures = [entry.get(key) for key in ("step seconds", "clip", *peaks)]
        ways.append([name, *map(cell, figures), sentence(entry)])
    title = f"Denoising {TIMED}: {found['machine']}"
    header = ["loop", "seconds", "clip", "times as fast", *peaks, ""]
    parts = [table(title, header, loops)]
    parts += [table("Memory ways", ["clip, way", "a step", "clip", *peaks, ""], ways)]
    parts += [f"{name}: {found[name]}" for name in ("roofline", "compile") if name in found]
    return "\n".join(parts)


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def sentence(entry: Mapping[str, object]) -> str:
    return str(entry.get("failed", entry.get("left out", "")))


if __name__ == "__main__":
    main()
