"""Pictures to start from: the shipped examples, and files sent by the browser."""

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
    name = entry.get("name") or entry["metadata"]["name"]
    return name, bytes(entry["content"])


def saved_upload(value, folder: Path) -> Path:
    """Keep a `FileUpload`'s file in `folder`, created if need be; returns its path."""
    name, content = uploaded(value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(name).name
    path.write_bytes(content)
    return path
