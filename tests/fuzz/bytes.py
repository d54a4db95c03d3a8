"""Damage that can be done to any file, and names that are no files."""

import os
from pathlib import Path

import numpy as np


def damaged(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """A file's bytes, cut, flipped, doubled or overwritten; most often left whole."""
    how = rng.choice(["whole", "cut", "flipped", "zeroed", "doubled", "extended", "empty", "noise"],
                     p=[0.4, 0.12, 0.2, 0.08, 0.06, 0.06, 0.02, 0.06])  # fmt: skip
    if how == "cut":
        data = data[: int(rng.integers(0, max(1, len(data))))]
    elif how == "flipped" and data:
        changed = bytearray(data)
        head = len(data) if rng.random() < 0.5 else min(len(data), 256)
        for at in rng.integers(0, head, int(rng.integers(1, 12))):
            changed[at] = int(rng.integers(0, 256))
        data = bytes(changed)
    elif how == "zeroed" and data:
        at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
        data = data[:at] + bytes(length) + data[at + length :]
    elif how == "doubled":
        data = data + data
    elif how == "extended":
        data = data + rng.bytes(int(rng.integers(1, 5000)))
    elif how == "empty":
        data = b""
    elif how == "noise":
        data = rng.bytes(int(rng.integers(1, 3000)))
    return str(how), data


def no_file(rng: np.random.Generator, folder: Path, suffix: str) -> tuple[str, str]:
    """A name under which there is no file that can be read."""
    kinds = ["pipe", "folder", "device", "full", "nul", "long", "none", "loop", "deep"]
    kind = str(rng.choice(kinds))
    path = folder / f"{kind}{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "full"):
        path.symlink_to("/dev/zero" if kind == "device" else "/dev/full")
    elif kind == "loop":
        path.symlink_to(path)
    names = {"nul": f"{folder}/a\0b{suffix}", "long": f"{folder}/{'n' * 300}{suffix}",
             "deep": f"{folder}/{'d/' * 3000}x{suffix}"}  # fmt: skip
    return kind, names.get(kind, str(path))
