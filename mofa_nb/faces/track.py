"""One face through a clip: follow, find again, bridge short gaps, smooth."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mofa_nb.checks import InputError
from mofa_nb.faces.detect import Face, detect_faces, find_face, follow_face
from mofa_nb.faces.points import bridge_gaps, eye_distance, smooth, to_68

CUT_JUMP = 0.6  # mean landmark jump between frames, in eye distances, that no head makes
CUT_CHANGE = 0.12  # mean change of a small grey picture between frames, of [0, 1]
FLAT = 0.02  # spread of the small picture's greys below which a frame shows nothing, of [0, 1]
THUMBNAIL = 32
MOST_FRAMES = 750  # of a driving video, unless more are asked for


@dataclass(frozen=True)
class FaceTrack:
    """Landmarks of one face in every frame.

    points: [T, 478, 3], pixels, as in Face. scores: confidence, 0 where bridged. found: false
    where bridged. size: (width, height). fps: frames per second. notes: one sentence each.
    """

    points: Float[np.ndarray, "T 478 3"]
    scores: Float[np.ndarray, " T"]
    found: Bool[np.ndarray, " T"]
    size: tuple[int, int]
    fps: float
    notes: tuple[str, ...] = ()

    @property
    def landmarks(self) -> Float[np.ndarray, "T 68 2"]:
        """The 68 points, pixels."""
        return to_68(self.points)


def track_face(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    fps: float | int,
    *,
    choose: int = 0,
    smoothing: bool = True,
) -> FaceTrack:
    """Follow one face through a clip.

    Args:
        frames: an array [T, H, W, 3], or frames one by one, of which none is kept.
        choose: which face of the first frame that shows any, 0 for the largest.
        smoothing: run the One-Euro filter over the points.
    Raises:
        InputError: fewer than two frames, no face, a face lost for long, or a cut.
    """
    faces, thumbnails, size = [], [], (0, 0)
    for frame, face in _faces(frames, choose):
        faces.append(face)
        thumbnails.append(_thumbnail(frame))
        size = (frame.shape[1], frame.shape[0])
    _check_length(len(faces))
    found = np.array([face is not None for face in faces])
    blank = np.full((478, 3), np.nan)
    points = np.stack([blank if face is None else face.points for face in faces])
    scores = np.array([0.0 if face is None else face.score for face in faces])
    points, notes = bridge_gaps(points, found, fps)
    _refuse_cuts(thumbnails, points, found)
    first = next(face for face in faces if face is not None)
    if smoothing:
        points = smooth(points, fps)
    return FaceTrack(points, scores, found, size, float(fps), (*first.notes, *notes))


def _check_length(num_frames: int) -> None:
    if num_frames < 2:
        raise InputError(
            f"a driving video needs at least 2 frames, but {num_frames} came: use a moving clip"
        )


def check_start(frames: UInt8[np.ndarray, "T H W 3"]) -> None:
    """Raise InputError when a driving video does not move, or begins with an unusable face."""
    _check_length(len(frames))
    first = np.ascontiguousarray(frames[0])
    if detect_faces(first):
        find_face(first, shown_in="driving video")


def track_video(
    path: str | os.PathLike, *, max_frames: int | None = None, choose: int = 0
) -> FaceTrack:
    """`track_face` on a video file, at its own frame rate.

    Args:
        max_frames: follow so many; by default 750, and a note tells if there are more.
    """
    from mofa_nb.media.video import frame_rate, video_frames

    fps, frames = frame_rate(path), video_frames(path)
    track = track_face(islice(frames, max_frames or MOST_FRAMES), fps, choose=choose)
    if max_frames is not None or next(frames, None) is None:
        return track
    note = (
        f"only the first {MOST_FRAMES} frames ({MOST_FRAMES / fps:.3g} seconds) of the driving"
        " video were used: ask for a longer clip, or cut the video to the part that you want"
    )
    return replace(track, notes=(*track.notes, note))


def _faces(frames: Iterable[np.ndarray], choose: int) -> Iterator[tuple[np.ndarray, Face | None]]:
    """Each frame with its face; none is kept."""
    latest: Face | None = None
    for frame in frames:
        face = follow_face(frame, latest.points) if latest is not None else None
        if face is None:
            face = _found_again(frame, latest, choose)
        latest = face or latest
        yield frame, face


def _found_again(frame: np.ndarray, latest: Face | None, choose: int) -> Face | None:
    """Search the whole frame: for the chosen face at first, later for the one last seen."""
    candidates = detect_faces(frame)
    if not candidates:
        return None
    if latest is None:
        return find_face(frame, choose, shown_in="driving video")
    centre = latest.points[:, :2].mean(0)
    reach = 2.5 * float(eye_distance(latest.points))

    def gap(face: Face) -> float:
        return float(np.linalg.norm(face.points[:, :2].mean(0) - centre))

    nearest = min(candidates, key=gap)
    return nearest if gap(nearest) < reach else None


def _thumbnail(frame: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "h w"]:
    import cv2

    small = cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255


def _refuse_cuts(thumbnails: list[np.ndarray], points: np.ndarray, found: np.ndarray) -> None:
    """Raise InputError at a cut; blank frames are gaps, and what they part is compared."""
    small = np.stack(thumbnails)
    seen = np.flatnonzero(small.std((1, 2)) > FLAT)
    change = np.abs(np.diff(small[seen], axis=0)).mean((1, 2))
    marks = to_68(points)
    unit = np.maximum(eye_distance(points)[:-1], 1e-6)
    jump = np.linalg.norm(np.diff(marks, axis=0), axis=-1).mean(1) / unit
    jumps = 1 + np.flatnonzero((jump > CUT_JUMP) & found[1:] & found[:-1])
    cuts = [*seen[1:][change > CUT_CHANGE], *jumps]
    if cuts:
        raise InputError(
            f"the driving video has a cut at frame {int(min(cuts))}: trim it to one shot"
        )
