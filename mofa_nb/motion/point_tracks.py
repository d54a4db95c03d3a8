"""Tracks as positions frame by frame, as trackers and other tools keep them; and as a motion."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mofa_nb.checks import InputError
from mofa_nb.motion.motion import Motion
from mofa_nb.motion.tracks import TOLERANCE, track_through


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points followed through the frames of a clip.

    paths: pixels; visible: where they count (the others may hold anything); rate: frames per
    second, if known."""

    paths: Float[np.ndarray, "N T 2"]
    visible: Bool[np.ndarray, "N T"]
    rate: float | None = None

    def to_motion(
        self, size: tuple[int, int], tolerance: float = TOLERANCE
    ) -> tuple[Motion, tuple[str, ...]]:
        """The tracks on a picture of `size` (width, height), and notes on what was left out.

        Every position keeps its time as a share of the whole. Few of them become control points, so
        that the path passes all within `tolerance` pixels; what does not move farther becomes a
        pin. A track that is hidden for a while is bridged, one that stays hidden rests where it was
        last seen. InputError: one frame, a visible position that is no number, or no track that
        begins visibly."""
        frames, limit = self.visible.shape[1], np.array(size)
        usable = np.flatnonzero(self._usable(size))
        tracks, pins = [], []
        for row in usable:
            seen = np.flatnonzero(self.visible[row])
            path = self.paths[row, seen].clip(-limit, 2 * limit)
            if np.abs(path - path[0]).max() <= tolerance:
                pins.append(path[0].tolist())
            else:
                tracks.append(track_through(path, seen / (frames - 1), tolerance))
        return Motion(size, tracks, pins, after="stretch"), self._notes(usable, limit)

    def _usable(self, size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
        """Which begin visibly inside the picture; InputError if the tracks cannot be used."""
        if len(self.visible) and self.visible.shape[1] < 2:
            raise InputError("the tracks have one frame, and nothing moves: give two or more")
        bad = np.argwhere(self.visible & ~np.isfinite(self.paths).all(-1))
        if len(bad):
            raise InputError(
                f"track {bad[0][0] + 1} has a position in frame {bad[0][1]} that is not a finite"
                " number: mark it as not visible, or leave the track out"
            )
        start = self.paths[:, 0]
        usable = self.visible[:, 0] & ((start >= 0) & (start < np.array(size))).all(-1)
        if not usable.any():
            raise InputError(
                f"none of {len(usable)} tracks begins visibly inside the {size[0]}x{size[1]}"
                " picture: give one that does"
            )
        return usable

    def _notes(self, usable: np.ndarray, limit: np.ndarray) -> tuple[str, ...]:
        """What was left out or changed, and how long the tracks lasted."""
        paths, visible = self.paths[usable], self.visible[usable]
        total, frames = self.visible.shape
        gaps = np.diff(visible.astype(int), axis=1).max(1) > 0
        far = (((paths < -limit) | (paths > 2 * limit)).any(-1) & visible).any(1)
        told = {
            "are hidden or outside the picture in frame 0 and were left out": total - len(usable),
            "end hidden and rest where they were last seen": (~visible[:, -1]).sum(),
            "are hidden in between and were bridged": gaps.sum(),
            "run farther outside than the picture is large and stop there": far.sum(),
        }
        notes = [f"of {total} tracks {number} {what}" for what, number in told.items() if number]
        if self.rate:
            pace = f"{frames} frames at {self.rate:g} per second, {frames / self.rate:.3g} seconds"
            notes.append(f"the tracks ({pace}) fill the clip, however long it is")
        return tuple(notes)
