"""A training run on a page: the same command that a cluster runs, with its curves as it goes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mofa_nb.checks import InputError
from mofa_nb.media.video import video_frames

Log = list[dict[str, float]]
Draw = Callable[[Log], UInt8[np.ndarray, "H W 3"]]


def command(module: str, *options: object, tick: Callable[[], None] | None = None) -> str:
    """Run `python -m MODULE OPTIONS`; returns the line that says so. `tick` is called twice a
    second while it runs. InputError: it failed, in its own last line."""
    words = [sys.executable, "-m", module, *map(str, options)]
    with TemporaryFile("w+") as errors:  # a pipe that nobody empties would stop a long run
        running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while running.poll() is None:
                time.sleep(0.5)
                if tick is not None:
                    tick()
        finally:
            running.terminate()  # the cell was interrupted
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if running.returncode:
        raise InputError(said[-1] if said else f"{module} ended with code {running.returncode}")
    return " ".join(["python", *words[1:]])


def read_log(run: Path) -> Log:
    """The lines that a run has logged so far: `OUT/STAGE_run/log.jsonl`."""
    path = run / "log.jsonl"
    text = path.read_text() if path.is_file() else ""
    whole, _, _ = text.rpartition("\n")  # the last line may still be being written
    return [json.loads(line) for line in whole.splitlines()]


def train(stage: str, options: Mapping[str, object], draw: Draw) -> Log:
    """Run `python -m mofa_nb.train STAGE` with a picture of its log that grows in place. options:
    by name, "out" among them; lists become several values, None a bare switch."""
    from IPython.display import Image, display

    from mofa_nb.show.notebook import picture_file

    given: list[object] = []
    for name, value in options.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        given += [f"--{name.replace('_', '-')}", *(v for v in values if v is not None)]
    run, handle, seen = Path(str(options["out"])) / f"{stage}_run", display(display_id=True), 0

    def tick() -> None:
        nonlocal seen
        log = read_log(run)
        if len(log) > seen:
            seen = len(log)
            data, kind = picture_file(draw(log))
            handle.update(Image(data, format=kind))

    command("mofa_nb.train", stage, *given, tick=tick)
    tick()
    return read_log(run)


def series(log: Log, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one figure, where the log has it."""
    lines = [line for line in log if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


def sample_clips(run: Path) -> dict[int, tuple[Any, Any]]:
    """What a run has made of its held-out clip, by step: the clip itself, and the made one."""
    samples = {}
    for path in sorted((run / "samples").glob("step-*.mp4")):
        both = np.stack(list(video_frames(path)))
        half = both.shape[2] // 2
        samples[int(path.stem.split("-")[1])] = both[:, :, :half], both[:, :, half:]
    return samples
