"""The folder of one training run: checkpoints that are whole or not there, one run at a time."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
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
    """Checkpoints `step-00001000/` of one run, the last `keep` of them, and its log.

    Args:
        about: what a checkpoint must agree on to be loaded here, as the trained tensors' shapes.
    """

    def __init__(self, path: Path, accelerator: Accelerator, about: str, keep: int = 3):
        self.path, self.accelerator, self.about, self.keep = Path(path), accelerator, about, keep
        self.own: set[Path] = set()  # checkpoints of this run: those of an older one make way
        self.path.mkdir(parents=True, exist_ok=True)

    def held(self) -> AbstractContextManager:
        """A lock on the folder, which ends with the process, however that ends.

        Raises:
            InputError: another run holds it.
        """
        lock = FileLock(self.path / "run.lock")
        if self.accelerator.is_main_process:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise InputError(
                    f"another run is writing to {self.path}: wait for it, or give another --out"
                ) from None
        return _Release(lock)

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self.path.glob("step-*"))

    def save(self, step: int, progress: Mapping[str, Any], extra: Mapping[str, Any]) -> Path:
        """Write what `accelerator` holds, `extra` tensors and JSON `progress`, then drop old ones.

        Raises:
            InputError: it cannot be written; the checkpoints before it stay as they were.
        """
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
                self._drop_old(target)
            self.accelerator.wait_for_everyone()
        except WRITING as error:
            shutil.rmtree(part, ignore_errors=True)
            reason = str(error).splitlines()[0]
            raise InputError(
                f"checkpoint {target} cannot be written ({reason}): free some space, then go on "
                "with --resume from the one before it, if there is one"
            ) from None
        return target

    def _drop_old(self, newest: Path) -> None:
        self.own.add(newest)
        kept = sorted(self.own)[-self.keep :]
        for path in self.checkpoints():
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
        self.own = set(kept)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put the newest checkpoint into what `accelerator` holds; its `progress` and `extra`.

        Raises:
            InputError: there is none, it is damaged, or it belongs to another run.
        """
        found = self.checkpoints()
        if not found:
            raise InputError(
                f"no checkpoint to resume in {self.path}: leave --resume out to start anew"
            )
        newest = found[-1]
        manifest = _whole_manifest(newest)
        if manifest["about"] != self.about:
            raise InputError(
                f"{newest} belongs to another run (it has {manifest['about']}, this run has "
                f"{self.about}): resume with the options of that run, or give another --out"
            )
        try:
            self.accelerator.load_state(str(newest))
            self.accelerator.step = 0  # micro-batches of a step, whose number may be another now
            extra = torch.load(newest / EXTRA, map_location="cpu", weights_only=True)
        except Exception as error:  # broken files raise anything
            raise InputError(_damaged(newest, type(error).__name__)) from error
        self.own = set(found)
        return manifest["progress"], extra

    def rewrite_log(self, lines: list[dict[str, Any]]) -> None:
        """The log up to here: what a killed run wrote after its last checkpoint goes."""
        if self.accelerator.is_main_process:
            (self.path / LOG).write_text("".join(json.dumps(x) + "\n" for x in lines))

    def append_log(self, line: dict[str, Any]) -> None:
        """One more line."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Release(AbstractContextManager):
    """Gives a lock back at the end of a block."""

    def __init__(self, lock: FileLock):
        self.lock = lock

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _whole_manifest(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's manifest; InputError unless every file is there in its full size."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        sizes = manifest["sizes"].items()
        wrong = [n for n, size in sizes if (checkpoint / n).stat().st_size != size]
        manifest["about"], manifest["progress"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(_damaged(checkpoint, type(error).__name__)) from None
    if wrong:
        raise InputError(_damaged(checkpoint, f"{wrong[0]} is cut off"))
    return manifest


def _damaged(checkpoint: Path, reason: str) -> str:
    return (
        f"checkpoint {checkpoint} is damaged or not one of ours ({reason}): delete that folder, "
        "and --resume goes on from the one before it"
    )
