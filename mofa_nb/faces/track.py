"""One face through a clip: follow, find again, bridge short gaps, smooth."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from mofa_nb.checks import InputError
from mofa_nb.faces.detect import Face, detect_faces, find_face, follow_face
from mofa_nb.faces.points import LONGEST_GAP, Times, bridge_gaps, eye_distance, smooth, to_68
from mofa_nb.media.video import Frame, Frames, frame_rate, timed_frames

CUT_JUMP = 0.6  # mean landmark jump between frames, in eye distances, that no head makes
SLOW_STEP = 0.1  # seconds between frames; after a longer one a head may have moved further
LIGHT_CHANGE = 0.05  # what remains of that change within one shot when its light is changed back
FLASH_SECONDS = 0.5  # that a flash, or what comes in between, lasts at most
EVEN = 1e-3  # seconds that times may differ from those of a constant rate
CUT_CHANGE = 0.12  # mean change of a small grey picture between frames, of [0, 1]
FLAT = 0.02  # spread of the small picture's greys below which a frame shows nothing, of [0, 1]
THUMBNAIL = 32
MOST_FRAMES = 750  # of a driving video, unless more are asked for


@dataclass(frozen=True)
class FaceTrack:
    points: Float[np.ndarray, "T 478 3"]  # pixels, as in Face
    found: Bool[np.ndarray, " T"]  # false where bridged
    size: tuple[int, int]  # (width, height)
    fps: float  # frames per second, the mean where they vary
    notes: tuple[str, ...] = ()  # one sentence each
    times: Times | None = None  # seconds, where frames come at an uneven rate

    @property
    def landmarks(self) -> Float[np.ndarray, "T 68 2"]:
        return to_68(self.points)


def track_face(frames: Iterable[Frame], fps: float) -> FaceTrack:
    """Follow the largest face of the first frame that shows any through a clip, whose frames may
    come one by one. InputError: fewer than two, no face, or a cut."""
    return _tracked(((number / fps, frame) for number, frame in enumerate(frames)), fps)


def _tracked(frames: Iterable[tuple[float, Frame]], fps: float) -> FaceTrack:
    """`track_face` of frames with their times, seconds, which need not be even."""
    faces, thumbnails, stamps = [], [], []
    latest, seen = None, 0.0
    for time, frame in frames:
        face = follow_face(frame, latest.points) if latest is not None else None
        face = face or _found_again(frame, latest, time - seen > LONGEST_GAP)
        if face is not None:
            latest, seen = face, time
        faces.append(face)
        small = cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        thumbnails.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / 255.0)
        stamps.append(time)
    _check_length(len(faces))
    times = np.array(stamps)
    cuts, flashes = _cuts(np.stack(thumbnails), times)
    found = np.array([face is not None for face in faces]) & ~flashes
    blank = np.full((478, 3), np.nan)
    points = np.stack([blank if face is None else face.points for face in faces])
    points, notes = bridge_gaps(points, found, times)
    _refuse_cuts(cuts, points, found, times)
    first = next(face for face in faces if face is not None)
    times = times - times[0]
    uneven = np.abs(times - np.arange(len(times)) / fps).max() > EVEN
    fps = (len(times) - 1) / times[-1] if uneven else float(fps)
    points = smooth(points, 1 / np.diff(times) if uneven else fps)
    notes = (*first.notes, *notes)
    return FaceTrack(points, found, first.size, fps, notes, times if uneven else None)


def _check_length(num_frames: int) -> None:
    if num_frames < 2:
        raise InputError(f"a driving video needs at least 2 frames, but {num_frames} came")


def check_start(frames: Frames) -> None:
    """Raise InputError when a driving video does not move, or begins with an unusable face."""
    _check_length(len(frames))
    first = np.ascontiguousarray(frames[0])
    if detect_faces(first):
        find_face(first, shown_in="driving video")


def track_video(path: str | Path, *, begin: float = 0.0, end: float | None = None) -> FaceTrack:
    """`track_face` on a video file, or on a part of it in seconds, at the times of its frames.
    Without an end it is followed for 750 frames, and a note tells if there are more."""
    fps, frames = frame_rate(path), timed_frames(path, begin, math.inf if end is None else end)
    track = _tracked(islice(frames, MOST_FRAMES if end is None else None), fps)
    if end is not None or next(frames, None) is None:
        return track
    used = f"the first {MOST_FRAMES} frames ({MOST_FRAMES / track.fps:.3g} seconds)"
    remedy = "ask for a longer clip, or choose a part with --face-from and --face-to"
    note = f"only {used} of the driving video were used: {remedy}"
    return replace(track, notes=(*track.notes, note))


def _found_again(frame: Frame, latest: Face | None, long: bool) -> Face | None:
    """Search the whole frame: for the largest face at first, later for the one last seen, which may
    come back anywhere after a `long` while."""
    candidates = detect_faces(frame)
    if not candidates or latest is None:
        return find_face(frame, shown_in="driving video") if candidates else None
    away = latest.points[:, :2].mean(0) - [face.points[:, :2].mean(0) for face in candidates]
    gaps = np.linalg.norm(away, axis=1)
    near = long or gaps.min() < 2.5 * eye_distance(latest.points)
    return candidates[gaps.argmin()] if near else None


def _cuts(small: Float[np.ndarray, "T h w"], times: Times) -> tuple[list, Bool[np.ndarray, " T"]]:
    """Frames at which another shot begins, and frames that a flash spoils, which passes within half
    a second. Blank frames are gaps; a lamp that is switched on changes the light, not the shot."""
    cuts, flashes = [], np.zeros(len(small), bool)
    seen = np.flatnonzero(small.std((1, 2)) > FLAT)
    last = seen[0] if len(seen) else 0
    for at in seen[1:]:
        if _change(small[last], small[at]) > CUT_CHANGE:
            soon = [k for k in seen if k > at and times[k] - times[at] <= FLASH_SECONDS]
            if any(_change(small[last], small[k]) <= CUT_CHANGE for k in soon):
                flashes[at] = True
                continue
            before, after = small[last] - small[last].mean(), small[at] - small[at].mean()
            gain = max((before * after).mean() / before.var(), 0)  # of the light, fitted to greys
            if _change(gain * before, after) > LIGHT_CHANGE:
                cuts.append(int(at))
        last = at
    return cuts, flashes


def _change(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one - two).mean())


def _refuse_cuts(cuts: list[int], points: np.ndarray, found: np.ndarray, times: Times) -> None:
    marks = to_68(points)
    unit = np.maximum(eye_distance(points)[:-1], 1e-6)
    jump = np.linalg.norm(np.diff(marks, axis=0), axis=-1).mean(1) / unit
    slowly = np.maximum(np.diff(times) / SLOW_STEP, 1)
    jumps = 1 + np.flatnonzero((jump > CUT_JUMP * slowly) & found[1:] & found[:-1])
    if all_cuts := [*cuts, *jumps.tolist()]:
        cut = f"a cut at frame {min(all_cuts)} ({times[min(all_cuts)]:.2f} seconds)"
        remedy = "choose one shot of it with --face-from and --face-to"
        raise InputError(f"the driving video has {cut}: {remedy}")
