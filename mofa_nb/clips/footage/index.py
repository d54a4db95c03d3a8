"""The index of a folder: which passages of its videos are worth training on.

It is kept in `index.json`. Making it again looks only at files that are new or changed (a renamed
one is known by its content), so it can be interrupted at any time.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mofa_nb.checks import InputError
from mofa_nb.clips.footage.passages import Search, Window, find_windows, thinned

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
INDEX, SAVE_SECONDS, ENDS = "index.json", 10.0, 1 << 16


def files_below(folder: str | Path, suffixes: set[str]) -> list[Path]:
    """Files of a folder and its subfolders by name; hidden ones and `._` companions are not."""
    found = [path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes]
    return sorted(p for p in found if not p.name.startswith(".") and p.is_file())


def video_files(folder: str | Path) -> list[Path]:
    """The videos of a folder and its subfolders, by name; an empty list if there are none."""
    return files_below(folder, VIDEO_SUFFIXES)


def write_index(
    folder: str | Path,
    clips: int = 0,
    num_frames: int = 14,
    *,
    search: Search | None = None,
    workers: int | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Window]:
    """Find the passages of all videos and write them to `folder`/index.json.

    Args:
        clips: at most so many, evenly spread; 0 takes all.
        search: what is looked for, but for its `num_frames`.
        workers: videos read at the same time.
        report: called with a sentence per file that is skipped, and at the end.
    Raises:
        InputError: the folder has no videos.
    """
    folder, say = Path(folder), report or (lambda sentence: None)
    files = video_files(folder)
    if not files:
        raise InputError(f"no videos in {folder} and its subfolders: put mp4 files there")
    search = replace(search or Search(), num_frames=num_frames)
    document = {"version": 2, "search": asdict(search), "clips": clips, "files": {}}
    saved = time.monotonic()
    for name, entry in _entries(folder, files, search, workers):
        document["files"][name] = entry
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(folder, document)
            saved = time.monotonic()
    document["files"] = dict(sorted(document["files"].items()))
    _save(folder, document)
    for name, entry in document["files"].items():
        if entry["error"]:
            say(f"skipped {name}: {entry['error']}")
    found = _windows(document)
    kept = thinned(found, clips) if clips else found
    rest = f"; {len(found) - len(kept)} more are left out by --clips" if kept != found else ""
    say(f"{len(kept)} clips in {folder / INDEX}{rest}")
    return kept


def read_index(folder: str | Path, num_frames: int) -> list[Window]:
    """The passages of `folder`/index.json, or found anew where there is none that fits."""
    path = Path(folder) / INDEX
    document = _read(path)
    if document.get("version") == 1 and document["num_frames"] >= num_frames:
        windows = [Window(**entry) for entry in document["windows"]]
        return [replace(window, video=f"videos/{window.video}") for window in windows]
    if document.get("version") == 2 and document["search"]["num_frames"] >= num_frames:
        found = _windows(document)
        return thinned(found, document["clips"]) if document["clips"] else found
    return [
        replace(window, video=file.relative_to(folder).as_posix())
        for file in video_files(folder)
        for window in find_windows(file, num_frames)
    ]


def _read(path: Path) -> dict[str, Any]:
    """An index that was written before, or nothing."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else {}
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete it") from None


def _windows(document: dict[str, Any]) -> list[Window]:
    return [
        Window(name, start, stride)
        for name, entry in document["files"].items()
        for start, stride in entry["windows"]
    ]


def _save(folder: Path, document: dict[str, Any]) -> None:
    temporary = folder / f"{INDEX}.part"
    temporary.write_text(json.dumps(document), encoding="utf-8")
    os.replace(temporary, folder / INDEX)


def _entries(
    folder: Path, files: list[Path], search: Search, workers: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and entry of each file, as they are ready; known ones first."""
    before = _read(folder / INDEX)
    same = before.get("version") == 2 and before["search"] == json.loads(json.dumps(asdict(search)))
    known = before["files"] if same else {}
    by_content = {entry["content"]: entry for entry in known.values()}
    fresh = []
    for file in files:
        name, stat = file.relative_to(folder).as_posix(), file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(name)
        if entry is None or entry["stamp"] != stamp:
            content = _content(file)
            entry = by_content.get(content)
            if entry is None:
                fresh.append((file, name, {"stamp": stamp, "content": content}))
                continue
        yield name, entry | {"stamp": stamp}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = {pool.submit(_looked_at, file, search): (n, e) for file, n, e in fresh}
        for job in as_completed(jobs):
            name, entry = jobs[job]
            yield name, entry | job.result()


def _content(file: Path) -> str:
    """A hash of size, beginning and end: enough to know a file again under another name."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        digest.update(stream.read(ENDS))
        stream.seek(max(0, size - ENDS))
        digest.update(stream.read(ENDS))
    return digest.hexdigest()


def _looked_at(file: Path, search: Search) -> dict[str, Any]:
    """The passages of one video, or why it has none."""
    try:
        windows = find_windows(file, search.num_frames, search.hop, search=search)
    except (InputError, OSError) as error:
        return {"windows": [], "error": str(error)}
    return {"windows": [[window.start, window.stride] for window in windows], "error": None}
