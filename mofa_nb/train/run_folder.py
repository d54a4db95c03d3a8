"""The folder of one training run: checkpoints that are whole or not there, one run at a time."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mofa_nb.checks import InputError

MANIFEST, EXTRA, LOG = "manifest.json", "extra.pt", "log.jsonl"
WRITING = (OSError, RuntimeError, SafetensorError)  # what a full disk raises, by who writes


class RunFolder:
    """Checkpoints `step-00001000/` of one run, the last `keep` of them, and its log; `about` is
    what a checkpoint must agree on to be loaded here, as the trained tensors' shapes."""

    def __init__(self, path: Path, accelerator: Accelerator, about: str, keep: int = 3):
        self.path, self.accelerator, self.about, self.keep = Path(path), accelerator, about, keep
        self.own: set[Path] = set()  # checkpoints of this run: those of an older one make way
        self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder, at most as long as the process lives; InputError: another run has it."""
        lock = FileLock(self.path / "run.lock")
        try:
            if self.accelerator.is_main_process:
                lock.acquire(timeout=0)
        except Timeout:
            remedy = "wait for it, or give another --out"
            raise InputError(f"another run is writing to {self.path}: {remedy}") from None
        try:
            yield
        finally:
            lock.release()

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self.path.glob("step-*"))

    def save(self, step: int, progress: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        """Write what `accelerator` holds, `extra` tensors and JSON `progress`, then drop old ones.
        InputError: it cannot be written; the checkpoints before it stay as they were."""
        target, part = self.path / f"step-{step:08d}", self.path / "part"
        main = self.accelerator.is_main_process
        try:
            if main:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(part))
            self.accelerator.wait_for_everyone()
            if main:
                torch.save(dict(extra), part / EXTRA)
                sizes = {file.name: file.stat().st_size for file in part.iterdir()}
                manifest = {"about": self.about, "sizes": sizes, "progress": progress}
                (part / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
                shutil.rmtree(target, ignore_errors=True)
                os.replace(part, target)
                self.own = set(sorted({*self.own, target})[-self.keep :])
                for path in {*self.checkpoints()} - self.own:
                    shutil.rmtree(path, ignore_errors=True)
            self.accelerator.wait_for_everyone()
        except WRITING as error:
            shutil.rmtree(part, ignore_errors=True)
            wrong = f"checkpoint {target} cannot be written ({str(error).splitlines()[0]})"
            remedy = "free some space, then --resume from the one before it, if there is one"
            raise InputError(f"{wrong}: {remedy}") from None

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put the newest checkpoint into what `accelerator` holds; its `progress` and `extra`.
        InputError: there is none, it is damaged, or it belongs to another run."""
        found = self.checkpoints()
        if not found:
            raise InputError(f"no checkpoint to resume in {self.path}: leave --resume out")
        newest = found[-1]
        try:
            manifest = json.loads((newest / MANIFEST).read_text(encoding="utf-8"))
            about, progress, sizes = (manifest[key] for key in ("about", "progress", "sizes"))
            wrong = [name for name in sizes if (newest / name).stat().st_size != sizes[name]]
            if wrong:
                raise InputError(f"{wrong[0]} is cut off")
            if about == self.about:
                self.accelerator.load_state(str(newest))
                self.accelerator.step = 0  # micro-batches of a step; their number may have changed
                extra = torch.load(newest / EXTRA, map_location="cpu", weights_only=True)
        except Exception as error:  # broken files raise anything
            reason = error if isinstance(error, InputError) else type(error).__name__
            wrong = f"checkpoint {newest} is damaged or not one of ours ({reason})"
            remedy = "delete that folder, and --resume goes on from the one before it"
            raise InputError(f"{wrong}: {remedy}") from error
        if about != self.about:
            wrong = f"{newest} belongs to another run (it has {about}, this run has {self.about})"
            raise InputError(f"{wrong}: resume with that run's options, or give another --out")
        self.own = set(found)
        return progress, extra

    def rewrite_log(self, lines: list[dict[str, Any]]) -> None:
        """The log up to here: what a killed run wrote after its last checkpoint goes."""
        if self.accelerator.is_main_process:
            (self.path / LOG).write_text("".join(json.dumps(x) + "\n" for x in lines))

    def append_log(self, line: dict[str, Any]) -> None:
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
