"""Which passages of a folder's videos are worth training on: inside one shot, lively, not wild.

They are kept in `index.json`; making it again looks only at new or changed files, known by content.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from mofa_nb.checks import InputError, read_json, whole_file
from mofa_nb.media.video import CUT, frame_rate, shot_starts, video_frames

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"))
INDEX, VERSION, SAVE_SECONDS, BEGINNING = "index.json", 2, 10.0, 1 << 16
THUMB_HEIGHT = 64
LIVELY = (5.0, 48.0)  # motion over a clip, pixels at 128 px height
WANTED = 20.0  # the stride whose motion comes nearest to this is taken
MAX_STRIDE = 3


@dataclass(frozen=True)
class Search:
    """What makes a passage of a video a clip."""

    num_frames: int = 14
    hop: int = 8  # frames between the starts of neighbouring clips
    motion: tuple[float, float] = LIVELY  # over a clip, least and most
    cut: float = CUT  # mean change of colour between two frames, [0, 1], that may be a cut
    rate: float = 0.0  # frames per second; 0 takes every first to third frame, by the motion


@dataclass(frozen=True)
class Window:
    """Frames start, start + stride, ... of one video file (its path in the folder)."""

    video: str
    start: int
    stride: int

    def frames(self, num_frames: int) -> list[int]:
        """The frame numbers of the clip."""
        return [self.start + self.stride * t for t in range(num_frames)]


def find_windows(path: str | Path, search: Search | None = None) -> list[Window]:
    """The lively passages of a video, each inside one shot; InputError if it is no video."""
    path, search, windows = Path(path), search or Search(), []
    change, motion = _video_changes(path)
    starts = shot_starts(change, search.cut)
    travelled = np.concatenate([[0.0], np.cumsum(motion)])
    strides = range(1, MAX_STRIDE + 1)
    if search.rate:
        strides = (max(1, round(frame_rate(path) / search.rate)),)
    least, most = search.motion
    for first, last in zip(starts, [*starts[1:], len(change) + 1], strict=True):
        for start in range(first, last, search.hop):
            ends = {s: start + s * (search.num_frames - 1) for s in strides}
            ways = {s: travelled[e] - travelled[start] for s, e in ends.items() if e < last}
            fit = {s: way for s, way in ways.items() if least <= way <= most}
            if fit:
                nearest = min(fit, key=lambda s: abs(np.log(max(fit[s], 1e-6) / WANTED)))
                windows.append(Window(path.name, start, nearest))
    return windows


def _video_changes(path: Path) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Mean change of colour ([0, 1]), and the 90th percentile of a coarse flow's length (pixels at
    128 px height), per frame step."""
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    before, changes, motions = None, [], []
    for frame in video_frames(path):
        width = max(16, round(frame.shape[1] * THUMB_HEIGHT / frame.shape[0]))
        thumb = cv2.resize(frame, (width, THUMB_HEIGHT), interpolation=cv2.INTER_AREA)
        if before is not None:
            changes.append(float(cv2.absdiff(thumb, before).mean()) / 255)
            grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, thumb))
            length = np.linalg.norm(finder.calc(*grey, None), axis=-1)
            motions.append(float(np.percentile(length, 90)) * 128 / THUMB_HEIGHT)
        before = thumb
    return np.array(changes), np.array(motions)


def thinned(windows: list[Window], count: int) -> list[Window]:
    """At most `count` of them, evenly spread."""
    if len(windows) <= count:
        return windows
    return [windows[i] for i in np.linspace(0, len(windows) - 1, count).round().astype(int)]


def files_below(folder: str | Path, suffixes: frozenset[str] = VIDEO_SUFFIXES) -> list[Path]:
    """Files of a folder and its subfolders by name; hidden ones and `._` companions are not."""
    found = [path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes]
    return sorted(p for p in found if not p.name.startswith(".") and p.is_file())


def write_index(
    folder: str | Path,
    search: Search | None = None,
    clips: int = 0,
    *,
    workers: int | None = None,
    report: Callable[[str], None] = lambda sentence: None,
) -> list[Window]:
    """Find the passages of all videos and write them to `folder`/index.json; InputError: no videos.

    `clips`: at most so many, evenly spread; 0 takes all. `workers`: videos read at once. `report`:
    called with a sentence per file that is skipped, and at the end."""
    folder, search = Path(folder), search or Search()
    if not (files := files_below(folder)):
        raise InputError(f"no videos in {folder} and its subfolders: put mp4 files there")
    document = {"version": VERSION, "search": asdict(search), "clips": clips}
    before = _read(folder)
    same = before.get("search") == json.loads(json.dumps(document["search"]))
    known = {entry["content"]: entry for entry in before["files"].values()} if same else {}
    contents = {file.relative_to(folder).as_posix(): _content(file) for file in files}
    entries = {name: known[content] for name, content in contents.items() if content in known}
    fresh, saved = [name for name in contents if name not in entries], time.monotonic()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = {pool.submit(find_windows, folder / name, search): name for name in fresh}
        for job in as_completed(jobs):
            name, found, error = jobs[job], [], None
            try:
                found = [[window.start, window.stride] for window in job.result()]
            except (InputError, OSError) as refused:
                error = str(refused)
            entries[name] = {"content": contents[name], "windows": found, "error": error}
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(folder, document | {"files": entries})
                saved = time.monotonic()
    entries = dict(sorted(entries.items()))
    _save(folder, document | {"files": entries})
    for name, entry in entries.items():
        if entry["error"]:
            report(f"skipped {name}: {entry['error']}")
    total = sum(len(entry["windows"]) for entry in entries.values())
    kept = read_index(folder, search.num_frames)
    rest = f"; {total - len(kept)} more are left out by --clips" if total > len(kept) else ""
    report(f"{len(kept)} clips in {folder / INDEX}{rest}")
    return kept


def read_index(folder: str | Path, num_frames: int) -> list[Window]:
    """The passages of `folder`/index.json, or found anew where there is none that fits."""
    document = _read(folder)
    if document and document["search"]["num_frames"] >= num_frames:
        files = document["files"].items()
        found = [Window(name, *place) for name, entry in files for place in entry["windows"]]
        return thinned(found, document["clips"] or len(found))
    return [
        replace(window, video=file.relative_to(folder).as_posix())
        for file in files_below(folder)
        for window in find_windows(file, Search(num_frames))
    ]


def _read(folder: str | Path) -> dict[str, Any]:
    """An index of this form that was written before, or nothing."""
    path = Path(folder) / INDEX
    document = read_json(path, "index") if path.exists() else {}
    fits = isinstance(document, dict) and document.get("version") == VERSION
    return document if fits else {}


def _save(folder: Path, document: dict[str, Any]) -> None:
    with whole_file(folder / INDEX) as file:
        file.write_text(json.dumps(document), encoding="utf-8")


def _content(file: Path) -> str:
    """A hash of size and beginning: enough to know a file again under another name."""
    with file.open("rb") as stream:
        return hashlib.sha256(
            str(file.stat().st_size).encode() + stream.read(BEGINNING)
        ).hexdigest()
