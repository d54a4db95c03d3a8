"""Pictures to start from: the shipped examples, and files sent by the browser."""

import re
from pathlib import Path

from mofa_nb.checks import InputError
from mofa_nb.motion.motion import Motion
from mofa_nb.paths import data_file

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def examples() -> list[tuple[str, str]]:
    """(name, path) of the pictures in the repository's data folder."""
    found = sorted(p for p in data_file(".").glob("*") if p.suffix.lower() in _PICTURES)
    return [(path.stem, str(path)) for path in found]


def example_motion(path: str) -> Motion | None:
    """The first motion file beside a picture whose name begins with the picture's, if any."""
    found = sorted(Path(path).parent.glob(f"{Path(path).stem}*.json"))
    return Motion.load(found[0]) if found else None


def first_example() -> str:
    """The first picture that has a motion; InputError when there is no picture at all."""
    paths = [path for _, path in examples()]
    if not paths:
        raise InputError("no example pictures were found: give the path of a photograph")
    return next((path for path in paths if example_motion(path)), paths[0])


def uploaded(value) -> tuple[str, bytes]:
    """Name and content from a `FileUpload`'s value, whose form depends on its version."""
    entry = next(iter(value.values())) if isinstance(value, dict) else value[0]
    name = entry.get("name") or entry.get("metadata", {}).get("name")
    return str(name or "file"), bytes(entry.get("content") or b"")


def kept_upload(name: str, content: bytes, folder: Path) -> Path:
    """Keep a file that a browser sent in `folder`, created if need be; returns its path.

    What a disk may not take in a name is replaced; another file of that name stays.
    """
    plain = Path(re.sub(r"[^\w. -]", "_", re.split(r"[\\/]", name)[-1]))
    stem, suffix = plain.stem[:60].strip(". ") or "file", plain.suffix[:10]
    path, number = folder / f"{stem}{suffix}", 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while path.exists() and (path.is_dir() or path.read_bytes() != content):
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{name} cannot be kept in {folder}: {error.strerror}") from error
    return path
