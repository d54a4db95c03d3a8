"""Track files: ours, ATI's, ComfyUI's spline editor's, Wan-Move's, CoTracker's and TAP-Vid's."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nb.checks import (
    InputError,
    choice,
    existing_file,
    image_size,
    point_xy,
    read_json,
    whole_file,
)
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.point_tracks import PointTracks

ATI_FRAMES, ATI_RATE, ATI_UNIT = 121, 24, 8  # its files hold eighths of a pixel
WAN_FRAMES, WAN_RATE = 81, 16
TRACK_FILES = (".json", ".npy", ".npz", ".pth", ".txt")
LARGEST_FILE = 2**22  # numbers
_POSITIONS = ("array", "points", "tracks", "pred_tracks")
_SEEN = ("visibility", "visible", "pred_visibility", "occluded")

# Where files of further tools plug in: a name -> a function from a path to a Motion.
MOTION_READERS: dict[str, Callable[[Path], Motion]] = {"mofa_nb": Motion.load}


def load_motion(
    path: str | os.PathLike, reader: str | None = None, size: tuple[int, int] | None = None
) -> Motion:
    """Read a motion file of ours or tracks of another tool; `read_motion` also tells what it lost.

    `reader` is one of `MOTION_READERS`; by default the file's content tells. `size`: (width,
    height) of the picture, which other tools' files do not name."""
    if reader is None:
        return read_motion(path, size)[0]
    return MOTION_READERS[choice(reader, MOTION_READERS, "the motion reader")](Path(path))


def read_motion(
    path: str | os.PathLike, size: tuple[int, int] | None = None
) -> tuple[Motion, tuple[str, ...]]:
    """A motion file of any kind, known by its content, and notes on what had to be left out.

    Beside `tracks.npy`, `tracks_visibility.npy` or `visibility.npy` is read, too; beside
    `ID_tracks.npy`, `ID_visibility.npy`. `size`: (width, height) of the picture, which only our own
    files name."""
    path = existing_file(path, "motion file")
    data = path.read_bytes()
    if _is_ours(data):
        return Motion.load(path), ()
    places = [path.with_name(name) for name in (_visibility_of(path), "visibility.npy")]
    beside = next((place for place in places if place != path and place.is_file()), None)
    return motion_from_bytes(data, f"motion file {path}", size, beside)


def motion_from_bytes(
    data: bytes, name: str, size: tuple[int, int] | None = None, visibility: Path | None = None
) -> tuple[Motion, tuple[str, ...]]:
    """`read_motion` of a file's content, called `name` in messages, with its `visibility` file."""
    try:
        if _is_ours(data):
            return Motion.from_json(read_json(data, "it")), ()
        if size is None:
            raise InputError("tracks of another tool do not name the picture's size: give it, too")
        return _point_tracks(data, image_size(size), visibility).to_motion(image_size(size))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # NumPy and zip raise many kinds for damaged files
        raise InputError(
            f"{name} cannot be read, as it is not valid JSON, NumPy or ATI's ({error}): export it"
            " again"
        ) from error


def save_motion(motion: Motion, path: str | os.PathLike) -> tuple[str, ...]:
    """Write a motion as the suffix of `path` says; returns notes on what the file cannot hold.

    `.json` is ours, `.pth` ATI's (121 positions at 24 a second), `.npy` Wan-Move's (81 at 16, with
    a `..._visibility.npy` beside it). InputError: another suffix, or nothing drawn for those two.
    """
    path = Path(path)
    if path.suffix == ".json":
        motion.save(path)
        return ()
    if path.suffix not in (".pth", ".npy"):
        raise InputError(f"tracks are saved as .json, .pth or .npy, but {path.name} came")
    if not motion.is_drawn:
        raise InputError("there is no track or pin to write: draw one, or save it as .json")
    files = {path: _as_ati(motion)} if path.suffix == ".pth" else _as_wan(motion, path)
    for place, data in files.items():
        with whole_file(place) as partial:
            partial.write_bytes(data)
    lost = [name for name in ("face", "brush", "mask") if getattr(motion, name) is not None]
    return tuple(f"{path.name} holds tracks only: the {name} was left out" for name in lost)


def _is_ours(data: bytes) -> bool:
    return data.lstrip(b"\xef\xbb\xbf\xff\xfe \0\t\r\n")[:1] == b"{"


def _point_tracks(data: bytes, size: tuple[int, int], visibility: Path | None) -> PointTracks:
    if data.startswith(b"\x93NUMPY"):
        named = {"tracks": _loaded(data)}
        if visibility is not None:
            named["visibility"] = _loaded(visibility.read_bytes())
        return _from_arrays(named, size, WAN_RATE)
    if not data.startswith(b"PK"):
        return _from_splines(data)
    if any(name.endswith(".npy") for name in zipfile.ZipFile(io.BytesIO(data)).namelist()):
        return _from_arrays(_loaded(data), size)
    import torch

    try:  # ATI: an npz, as bytes in a torch file
        return _from_arrays(_loaded(torch.load(io.BytesIO(data), weights_only=True)), size)
    except (RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise InputError("a .pth of tracks holds an npz as bytes, and this one does not") from error


def _loaded(data: bytes) -> Any:
    """An array, or the arrays of an npz that are known to matter, by name."""
    if data.startswith(b"PK"):  # a small archive may unfold to gigabytes
        members = zipfile.ZipFile(io.BytesIO(data)).infolist()
        _refuse_many(sum(member.file_size for member in members) // 8)
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(found, np.ndarray):
        _refuse_many(found.size)
        return found
    return {name: found[name] for name in found.files if name in (*_POSITIONS, *_SEEN)}


def _refuse_many(numbers: int) -> None:
    if numbers > LARGEST_FILE:
        raise InputError(f"it holds {numbers} numbers, too many for tracks: take fewer points")


def _from_arrays(
    named: dict[str, np.ndarray], size: tuple[int, int], rate: float | None = None
) -> PointTracks:
    """Positions [T, N, 2] or [N, T, 2], and where they count; or ATI's [N, T, 1, 3] with both."""
    name = next((name for name in _POSITIONS if name in named), None)
    if name is None:
        raise InputError("an npz of tracks must hold `tracks` or `points`: name them so")
    array = named[name]
    is_ati = array.ndim == 4 and array.shape[2:] == (1, 3)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in "fiu" or not (is_ati or (array.ndim == 3 and array.shape[2] == 2)):
        raise InputError(
            "tracks must be numbers [frames, points, 2] (or with a 1 in front), but"
            f" {array.dtype} of shape {list(array.shape)} came"
        )
    if is_ati:
        rows = array.reshape(-1, array.shape[-3], 3).astype(np.float64) / ATI_UNIT
        return PointTracks(rows[..., :2], rows[..., 2] > 0.5, ATI_RATE)
    paths, seen = array.astype(np.float64), np.ones(array.shape[:2], bool)
    for key in (key for key in _SEEN if key in named):
        if named[key].size != seen.size:
            raise InputError(f"{key} must say of each of {list(seen.shape)} positions if it counts")
        seen = (named[key].reshape(seen.shape) > 0.5) != (key == "occluded")
    if not (rate is None and _points_first(paths, seen, name)):
        paths, seen = paths.swapaxes(0, 1), seen.T
    if rate is None and ((known := paths[seen]) >= 0).all() and (known <= 1).all():
        paths = paths * np.array(size)  # shares of the picture
    return PointTracks(paths, seen, rate)


def _points_first(paths: np.ndarray, seen: np.ndarray, name: str) -> bool:
    """Whether an array is [N, T, 2]: from frame to frame a point moves less than points lie apart.

    Where that does not tell, TAP-Vid's `points` are, and CoTracker's `tracks` are not."""
    known = np.where(seen[..., None], paths, np.nan)
    across, along = (
        np.nanmedian(gap) if np.isfinite(gap).any() else 0.0
        for gap in (np.linalg.norm(np.diff(known, axis=axis), axis=-1) for axis in (0, 1))
    )
    return name == "points" if min(seen.shape) < 2 or across == along else along < across


def _from_splines(data: bytes) -> PointTracks:
    """ComfyUI's spline editor: one list of {"x": , "y": }, or several, perhaps in single quotes.

    The longest spans the clip; shorter ones end sooner."""
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lists = read_json(text.replace("'", '"').encode(), "it")
    if isinstance(lists, list) and lists and isinstance(lists[0], dict):
        lists = [lists]
    if not isinstance(lists, list) or not all(isinstance(one, list) and one for one in lists):
        raise InputError('tracks are lists of {"x": , "y": }, one list each; something else came')
    longest = max(map(len, lists), default=2)
    _refuse_many(2 * len(lists) * longest)
    paths = np.zeros((len(lists), longest, 2))
    for number, points in enumerate(lists):
        for k, point in enumerate(points):
            pair = [point.get("x"), point.get("y")] if isinstance(point, dict) else point
            paths[number, k] = point_xy(pair, f"point {k + 1} of track {number + 1}")
    seen = np.arange(longest) < np.array([len(points) for points in lists])[:, None]
    return PointTracks(paths, seen)


def _visibility_of(path: Path) -> str:
    return f"{path.stem.removesuffix('_tracks')}_visibility.npy"


def _as_ati(motion: Motion) -> bytes:
    import torch

    paths, inner, outer = motion.paths(ATI_FRAMES).numpy(), io.BytesIO(), io.BytesIO()
    rows = np.concatenate([paths, np.ones_like(paths[..., :1])], -1) * ATI_UNIT
    np.savez_compressed(inner, array=rows[:, :, None].astype(np.float32))
    torch.save(inner.getvalue(), outer)
    return outer.getvalue()


def _as_wan(motion: Motion, path: Path) -> dict[Path, bytes]:
    paths, files = motion.paths(WAN_FRAMES).numpy().swapaxes(0, 1)[None], {}
    seen = np.ones(paths.shape[:3], bool)
    for place, array in ((_visibility_of(path), seen), (path.name, paths.astype(np.float32))):
        buffer = io.BytesIO()
        np.save(buffer, array)
        files[path.with_name(place)] = buffer.getvalue()
    return files
