"""What a hand can hold on the picture, and how it moves."""

from dataclasses import dataclass, replace

from mofa_nb.motion.motion import Motion, Track
from mofa_nb.pad import strokes
from mofa_nb.pad.strokes import Bounds, Number, Point

_NEAR_HANDLE = 11  # screen pixels
_NEAR_TRACK = 9


@dataclass(frozen=True)
class Handle:
    """Kind "point" (of a track), "track" or "pin", and which."""

    kind: str
    index: int
    point: int = 0

    def is_in(self, motion: Motion) -> bool:
        """It is still there."""
        items = motion.pins if self.kind == "pin" else motion.tracks
        if self.index >= len(items):
            return False
        return self.kind != "point" or self.point < len(items[self.index].points)


def handle_at(motion: Motion, point: Point, unit: Number) -> tuple[Handle | None, str]:
    """What lies near a pixel: control points and pins first, then whole tracks.

    Args:
        unit: image pixels per screen pixel.
    Returns:
        handle: None when nothing that may be moved is near.
        notice: a sentence for the user when a locked track is near, or "".
    """
    near, best, notice = _NEAR_HANDLE * unit, None, ""
    for handle, place in _handles(motion):
        away = strokes.distance(place, point)
        if away <= near:
            near, best = away, handle
    if best is not None:
        return best, ""
    near = _NEAR_TRACK * unit
    for index, track in enumerate(motion.tracks):
        away = strokes.distance_to_track(track, point)
        if away <= near and not track.locked:
            near, best = away, Handle("track", index)
        elif away <= near:
            notice = f"Track {index + 1} is locked."
    return best, notice


def _handles(motion: Motion) -> list[tuple[Handle, Point]]:
    found = [
        (Handle("point", index, number), point)
        for index, track in enumerate(motion.tracks)
        if not track.locked
        for number, point in enumerate(track.points)
    ]
    return found + [(Handle("pin", i), pin) for i, pin in enumerate(motion.pins)]


def with_handle_moved(
    motion: Motion, handle: Handle, shift: tuple[Number, Number], box: Bounds
) -> Motion:
    """The motion with what is held moved by `shift` pixels.

    Args:
        box: where tracks start and pins lie.
    """
    dx, dy = shift
    if handle.kind == "pin":
        pins = list(motion.pins)
        x, y = pins[handle.index]
        pins[handle.index] = strokes.inside(x + dx, y + dy, box)
        return replace(motion, pins=tuple(pins))
    tracks = list(motion.tracks)
    tracks[handle.index] = _moved_track(tracks[handle.index], handle, shift, box, motion.size)
    return replace(motion, tracks=tuple(tracks))


def _moved_track(
    track: Track, handle: Handle, shift: tuple[Number, Number], box: Bounds, size: tuple[int, int]
) -> Track:
    if handle.kind == "track":
        return strokes.shifted(track, *shift, size, box)
    x, y = track.points[handle.point]
    where = box if handle.point == 0 else strokes.whole(size)
    to = strokes.inside(x + shift[0], y + shift[1], where)
    return strokes.with_point_at(track, handle.point, to)
