"""Track files: ours, ATI's, ComfyUI's spline editor's, Wan-Move's, CoTracker's and TAP-Vid's."""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mofa_nb import checks
from mofa_nb.checks import File, InputError, Size, image_size, naming, read_json, refusing
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.tracks import TOLERANCE, track_through

ATI_FRAMES, ATI_RATE, ATI_UNIT = 121, 24, 8  # its files hold eighths of a pixel
WAN_FRAMES, WAN_RATE = 81, 16
TRACK_FILES = (".json", ".npy", ".npz", ".pth", ".txt")
LARGEST_FILE = 2**22  # numbers
_POSITIONS = ("array", "points", "tracks", "pred_tracks")
_SEEN = ("visibility", "visible", "pred_visibility", "occluded")

# Where files of further tools plug in: a name -> a function from a path to a Motion.
MOTION_READERS: dict[str, Callable[[Path], Motion]] = {"mofa_nb": Motion.load}


@dataclass(frozen=True, eq=False)
class PointTracks:
    paths: Float[np.ndarray, "N T 2"]  # pixels
    visible: Bool[np.ndarray, "N T"]  # where they count; the others may hold anything
    rate: float | None = None  # frames per second, if known

    def to_motion(self, size: Size, tolerance: float = TOLERANCE) -> tuple[Motion, tuple[str, ...]]:
        """The tracks on a picture of `size` (width, height), and notes on what was left out.

        A track passes its positions within `tolerance` pixels; what does not move farther becomes a
        pin. What is hidden for a while is bridged, what stays hidden rests where it was last seen.
        InputError: one frame, a visible position that is no number, or none that begins visibly."""
        (count, frames), limit = self.visible.shape, np.array(size)
        if count and frames < 2:
            raise InputError("the tracks have one frame, and nothing moves: give two or more")
        for track, frame in np.argwhere(self.visible & ~np.isfinite(self.paths).all(-1)):
            wrong = f"track {track + 1} has a position in frame {frame} that is not a finite number"
            raise InputError(f"{wrong}: mark it as not visible, or leave the track out")
        inside = ((self.paths[:, 0] >= 0) & (self.paths[:, 0] < limit)).all(-1)
        usable = np.flatnonzero(self.visible[:, 0] & inside)
        if not len(usable):
            inside = f"begins visibly inside the {size[0]}x{size[1]} picture: give one that does"
            raise InputError(f"none of {count} tracks {inside}")
        tracks, pins = [], []
        for row in usable:
            seen = np.flatnonzero(self.visible[row])
            path = self.paths[row, seen].clip(-limit, 2 * limit)
            if np.abs(path - path[0]).max() <= tolerance:
                pins.append(path[0].tolist())
            else:
                tracks.append(track_through(path, seen / (frames - 1), tolerance))
        return Motion(size, tracks, pins, after="stretch"), self._notes(usable, limit)

    def _notes(self, usable: np.ndarray, limit: np.ndarray) -> tuple[str, ...]:
        """What was left out or changed, and how long the tracks lasted."""
        paths, visible = self.paths[usable], self.visible[usable]
        total, frames = self.visible.shape
        gaps = np.diff(visible.astype(int), axis=1).max(1) > 0
        far = (((paths < -limit) | (paths > 2 * limit)).any(-1) & visible).any(1)
        counts = {
            "are hidden or outside the picture in frame 0 and were left out": total - len(usable),
            "end hidden and rest where they were last seen": (~visible[:, -1]).sum(),
            "are hidden in between and were bridged": gaps.sum(),
            "run farther outside than the picture is large and stop there": far.sum(),
        }
        notes = [f"of {total} tracks {number} {what}" for what, number in counts.items() if number]
        if self.rate:
            pace = f"{frames} frames at {self.rate:g} per second, {frames / self.rate:.3g} seconds"
            notes.append(f"the tracks ({pace}) fill the clip, however long it is")
        return tuple(notes)


def load_motion(path: File, reader: str | None = None, size: Size | None = None) -> Motion:
    """`read_motion` without its notes; or by one of `MOTION_READERS`."""
    if reader is None:
        return read_motion(path, size)[0]
    return MOTION_READERS[checks.choice(reader, MOTION_READERS, "the motion reader")](Path(path))


def read_motion(path: File, size: Size | None = None) -> tuple[Motion, tuple[str, ...]]:
    """A motion file of any kind, known by its content, and notes on what had to be left out.

    With `ID_tracks.npy`, `ID_visibility.npy` or `visibility.npy` beside it is read, too. `size`:
    (width, height), which only our own files name."""
    path = checks.existing_file(path, "motion file")
    data = path.read_bytes()
    if _is_ours(data):
        return Motion.load(path), ()
    places = [_visibility_beside(path), path.with_name("visibility.npy")]
    visibility = next((place for place in places if place != path and place.is_file()), None)
    return motion_from_bytes(data, f"motion file {path}", size, visibility)


def motion_from_bytes(
    data: bytes, name: str, size: Size | None = None, visibility: Path | None = None
) -> tuple[Motion, tuple[str, ...]]:
    """`read_motion` of a file's content, called `name` in messages, with its `visibility` file."""
    wrong = "it is not valid JSON, NumPy or ATI's"
    # NumPy and zip raise many kinds of errors.
    with naming(name), refusing(wrong, "export it again", Exception):
        if _is_ours(data):
            return Motion.from_json(read_json(data, "it")), ()
        if size is None:
            raise InputError("tracks of another tool do not name the picture's size: add it")
        return _point_tracks(data, image_size(size), visibility).to_motion(image_size(size))


def save_motion(motion: Motion, path: File) -> tuple[str, ...]:
    """Write a motion as the suffix of `path` says: `.json` is ours, `.pth` ATI's (121 positions at
    24 a second), `.npy` Wan-Move's (81 at 16, with a `..._visibility.npy` beside it). Returns notes
    on what it cannot hold. InputError: another suffix, or nothing drawn for those two."""
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
        with checks.whole_file(place) as partial:
            partial.write_bytes(data)
    lost = [name for name in ("face", "brush", "mask") if getattr(motion, name) is not None]
    return tuple(f"{path.name} holds tracks only: the {name} was left out" for name in lost)


def _is_ours(data: bytes) -> bool:
    return data.lstrip(b"\xef\xbb\xbf\xff\xfe \0\t\r\n")[:1] == b"{"


def _point_tracks(data: bytes, size: Size, visibility: Path | None) -> PointTracks:
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
    arrays = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        _refuse_many(arrays.size)
        return arrays
    return {name: arrays[name] for name in arrays.files if name in (*_POSITIONS, *_SEEN)}


def _refuse_many(numbers: int) -> None:
    if numbers > LARGEST_FILE:
        raise InputError(f"it holds {numbers} numbers, too many for tracks: take fewer points")


def _from_arrays(
    named: dict[str, np.ndarray], size: Size, rate: float | None = None
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
        came = f"{array.dtype} of shape {list(array.shape)} came"
        raise InputError(f"tracks must be numbers [frames, points, 2], but {came}")
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
    if rate is None and ((paths[seen] >= 0) & (paths[seen] <= 1)).all():
        paths = paths * np.array(size)  # shares of the picture
    return PointTracks(paths, seen, rate)


def _points_first(paths: np.ndarray, seen: np.ndarray, name: str) -> bool:
    """Whether an array is [N, T, 2]: from frame to frame a point moves less than points lie apart.
    Where that does not tell, TAP-Vid's `points` are, and CoTracker's `tracks` are not."""
    visible = np.where(seen[..., None], paths, np.nan)
    gaps = [np.linalg.norm(np.diff(visible, axis=axis), axis=-1) for axis in (0, 1)]
    across, along = (np.nanmedian(gap) if np.isfinite(gap).any() else 0.0 for gap in gaps)
    return name == "points" if min(seen.shape) < 2 or across == along else along < across


def _from_splines(data: bytes) -> PointTracks:
    """ComfyUI's spline editor: one list of {"x": , "y": }, or several (the longest spans the clip),
    perhaps in single quotes."""
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
            what = f"point {k + 1} of track {number + 1}"
            paths[number, k] = checks.numbers(pair, 2, what, names="xy")
    seen = np.arange(longest) < np.array([len(points) for points in lists])[:, None]
    return PointTracks(paths, seen)


def _visibility_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem.removesuffix('_tracks')}_visibility.npy")


def _as_ati(motion: Motion) -> bytes:
    import torch

    paths, inner, outer = motion.paths(ATI_FRAMES).numpy(), io.BytesIO(), io.BytesIO()
    rows = np.concatenate([paths, np.ones_like(paths[..., :1])], -1) * ATI_UNIT
    np.savez_compressed(inner, array=rows[:, :, None].astype(np.float32))
    torch.save(inner.getvalue(), outer)
    return outer.getvalue()


def _as_wan(motion: Motion, path: Path) -> dict[Path, bytes]:
    paths, files = motion.paths(WAN_FRAMES).numpy().swapaxes(0, 1)[None].astype(np.float32), {}
    for place, array in ((_visibility_beside(path), np.ones(paths.shape[:3], bool)), (path, paths)):
        np.save(buffer := io.BytesIO(), array)
        files[place] = buffer.getvalue()
    return files
