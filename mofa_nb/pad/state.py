"""What the pad holds, without any widget: one Motion, the tools that edit it, undo and redo."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from math import dist

import numpy as np

from mofa_nb.checks import InputError, choice
from mofa_nb.motion import Motion, Track, camera_tracks
from mofa_nb.motion.select import Pick, Points
from mofa_nb.pad import strokes
from mofa_nb.pad.strokes import Handle, Number, Point, handle_at, inside

TOOLS = ("track", "pin", "select", "brush", "erase", "move")
MASKS = ("brush", "mask")  # the fields of a Motion that are painted

# Pixels of the screen: a press that travels less is a click; from point to point of a stroke; how
# far a track may stray from it.
_CLICK, _STEP, _STRAY = 5, 1.5, 1.5

Packed = tuple[Motion, dict[str, bytes]]


class PadState:
    """A motion being edited. Every finished gesture is one step of an unlimited history.

    Events may come in any order and from anywhere; points are clamped to the image. unit: image
    pixels per screen pixel. native: frames that tracks are made for, see `Motion.paths`; 0: those
    of the clip. pick: from clicks on and off a thing to its mask, for the tool "select"."""

    def __init__(self, motion: Motion, unit: Number = 1, native: int = 0, pick: Pick | None = None):
        self.motion = strokes.tidied(motion)  # as it looks now, a gesture in progress included
        self._before, self._image = self.motion, strokes.whole(motion.size)
        self.unit, self.native, self.pick = unit, native, pick
        self.box = self._image  # what the model sees: tracks start and pins lie in there
        self.tool, self.radius = TOOLS[0], 24.0 * unit  # of the brush, pixels of the image
        self.mask = MASKS[0]  # which of these it paints
        self.selected: Handle | None = None  # what was drawn or grabbed last
        self.pointer: Point | None = None  # where the mouse was last seen; None: outside
        self.clicks: tuple[Point, ...] = ()  # of a track that is being set click by click
        self.stroke: list[Point] = []  # of the gesture in progress
        self.notice = ""  # a sentence for the user about the last event
        self.landmarks: np.ndarray | None = None  # of the driven face, [T, 68, 2] pixels
        self.proposed: np.ndarray | None = None  # its mask, {0, 255}
        self.past: list[Packed] = []
        self.future: list[Packed] = []
        self._camera: tuple[Track, ...] = ()
        self._series = ""
        self._picked: dict[bytes, tuple[np.ndarray | None, Points, Points]] = {}

    # ---- the hand ----

    def press(self, x: Number, y: Number) -> None:
        """The mouse goes down; a press while one is held ends that one first."""
        self.release()
        self.notice, self._before = "", self.motion
        begins = self.tool == "pin" or (self.tool == "track" and not self.clicks)
        point = self.pointer = inside(x, y, self.box if begins else self._image)
        self.stroke = [point]
        if self.tool == "move":
            self.selected, self.notice = handle_at(self.motion, point, self.unit)
        elif self.tool == "pin":
            pins = self.motion.pins
            near = [i for i, pin in enumerate(pins) if dist(pin, point) <= _CLICK * self.unit]
            if not near:
                self.motion = self.motion.with_pin(*point)
            self.selected = Handle("pin", near[0] if near else len(pins))

    def drag(self, x: Number, y: Number) -> None:
        point = self.pointer = inside(x, y, self._image)
        if self.stroke and dist(point, self.stroke[-1]) >= _STEP * self.unit:
            self._draw_on(point)

    def release(self, x: Number | None = None, y: Number | None = None) -> None:
        """The mouse goes up, or leaves the picture; without a press nothing happens."""
        if not self.stroke:
            return
        if x is not None and y is not None:
            self.pointer = inside(x, y, self._image)
            if self.pointer != self.stroke[-1]:
                self._draw_on(self.pointer)
        stroke, self.stroke = self.stroke, []
        match self.tool:
            case "track":
                self._end_track(stroke)
            case "select":
                self._end_select(stroke[0])
            case "brush" | "erase":
                self._end_paint(stroke)
            case _:
                moved, self.motion = self.motion, self._before
                self._commit(moved)

    def leave(self) -> None:
        """The mouse leaves the picture: there is no pointer capture, so a gesture ends here."""
        self.release()
        self.pointer = None

    def cancel(self) -> None:
        """Drop the gesture in progress and the clicked points."""
        if self.stroke:
            self.motion = self._before
        self.stroke, self.clicks = [], ()
        self._prune()

    def finish(self) -> None:
        """End a track set click by click; a single click is dropped."""
        clicks, self.clicks = self.clicks, ()
        if len(clicks) > 1:
            self._add_track(Track(clicks))

    def use(self, tool: str) -> None:
        """Take another tool; what is in progress is finished first."""
        choice(tool, TOOLS, "the tool")
        self._settle()
        self.tool = tool

    def resize_brush(self, radius: Number) -> None:
        """Set the radius, kept between 1 pixel and half the image's longer side."""
        self.radius = float(min(max(radius, 1.0), max(self.motion.size) / 2))

    def grow_brush(self, sign: int) -> None:
        self.resize_brush(self.radius + sign * max(self.unit, self.radius / 10))

    # ---- edits of the whole ----

    def undo(self) -> None:
        """One step back: the gesture in progress, the last clicked point, or the last edit."""
        if self.stroke:
            self.cancel()
        elif self.clicks:
            self.clicks = self.clicks[:-1]
        else:
            self._step(self.past, self.future)

    def redo(self) -> None:
        """One step forward, unless something new was drawn since."""
        self.cancel()
        self._step(self.future, self.past)

    @property
    def can_undo(self) -> bool:
        return bool(self.past or self.clicks or self.stroke)

    @property
    def can_redo(self) -> bool:
        return bool(self.future)

    def delete_selected(self) -> None:
        """Delete the selected track (also when one of its points is selected) or pin."""
        if self.clicks:
            self.undo()
        elif self.selected is None:
            self.notice = "Select a track or a pin first, with Move or in the list."
        else:
            self.delete("pin" if self.selected.kind == "pin" else "track", self.selected.index)

    def delete(self, kind: str, index: int) -> None:
        """Delete one "track" or "pin"; a locked track stays."""
        self._settle()
        if kind == "track" and self.motion.tracks[index].locked:
            self.notice = f"Track {index + 1} is locked: unlock it in the list to delete it."
            return
        items, self.selected = getattr(self.motion, f"{kind}s"), None
        self._commit(replace(self.motion, **{f"{kind}s": items[:index] + items[index + 1 :]}))

    def clear(self) -> None:
        """Delete everything but locked tracks."""
        self.cancel()
        locked = tuple(track for track in self.motion.tracks if track.locked)
        self.selected = None
        self._commit(Motion(self.motion.size, locked, after=self.motion.after))

    def load_film(self, motion: Motion, notes: Sequence[str] = ()) -> None:
        """Replace everything by a film's tracks, without those that start out of the box."""
        left, top, right, bottom = self.box
        starts = [track.points[0] for track in motion.resized(self.motion.size).tracks]
        seen = [left <= x < right and top <= y < bottom for x, y in starts]
        if lost := seen.count(False):
            notes = (*notes, f"{lost} of {len(seen)} tracks begin out of the model's view")
        self.load(replace(motion, tracks=tuple(compress(motion.tracks, seen))), notes)

    def load(self, motion: Motion, notes: Sequence[str] = ()) -> None:
        """Replace everything by another motion, rescaled to this image. Can be undone."""
        self.cancel()
        self.selected, (width, height) = None, motion.size
        if abs(width * self.motion.size[1] / (height * self.motion.size[0]) - 1) > 0.02:
            notes = (*notes, f"That motion was made for {width}x{height}: it is stretched to fit.")
        self.notice = "; ".join(notes)
        self._commit(strokes.tidied(motion.resized(self.motion.size)))

    def set_track(self, index: int, **changes) -> None:
        """Change a track's speed, start, end or lock; what cannot be becomes a notice."""
        self._settle()
        tracks = self.motion.tracks
        try:
            track = replace(tracks[index], **changes)
        except InputError as error:
            self.notice = f"Track {index + 1}: {error}."
            return
        self._commit(replace(self.motion, tracks=strokes.swapped(tracks, index, track)))

    def move_in_depth(self, index: int, behind: bool) -> None:
        """Put a track in front of all others, or behind them."""
        others = [0, *(t.depth or 0 for i, t in enumerate(self.motion.tracks) if i != index)]
        self.set_track(index, depth=max(others) + 1 if behind else min(others) - 1)

    def add_camera(self, name: str, strength: Number) -> None:
        """Fill the frame with the tracks of a camera move; they replace those of the last one."""
        self._settle()
        tracks = tuple(track for track in self.motion.tracks if track not in self._camera)
        avoid = [*(track.points[0] for track in tracks), *self.motion.pins]
        camera = camera_tracks(name, strength, self.motion.size, avoid, self.box)
        self.selected = None
        self._commit(replace(self.motion, tracks=tracks + camera))
        self._camera = camera

    def change(self, **fields) -> None:
        """Set fields of the motion, such as `after` or `mask`."""
        self._settle()
        self._commit(replace(self.motion, **fields))

    def set_face(self, face: object, series: str = "") -> None:
        """Let the face follow a file, an expression or a `FaceSource`; None: leave it alone. Edits
        in a row with one name of `series`, such as a slider being dragged, are one step."""
        self._settle()
        mask = None if face is None else self.motion.mask
        self._commit(self.motion.with_face(face).with_mask(mask), series)

    def paint_mask(self, name: str) -> None:
        """Choose what brush and eraser work on: "brush" or, with a driven face, "mask"."""
        self.release()
        self.mask = name if self.motion.face is not None else MASKS[0]

    # ---- what is there ----

    @property
    def chosen_track(self) -> int | None:
        """The index of the selected track, also when one of its points is selected."""
        handle = self.selected
        return None if handle is None or handle.kind == "pin" else handle.index

    def mask_shown(self, name: str) -> np.ndarray | None:
        """A painted mask; or the face's as proposed, beside tracks or while it is painted on."""
        motion, painted = self.motion, getattr(self.motion, name)
        if painted is not None or name != "mask" or motion.face is None:
            return painted
        return self.proposed if motion.tracks or motion.pins or self.mask == "mask" else None

    @property
    def picks(self) -> tuple[Points, Points]:
        """Clicks on and off the thing whose mask is there now; none for what was painted."""
        return self._selection()[1:]

    def summary(self) -> str:
        motion, (width, height) = self.motion, self.motion.size
        tracks, pins, brush, mask = motion.tracks, motion.pins, motion.brush, motion.mask
        words = [f"{len(tracks)} track{'s' * (len(tracks) != 1)}"]
        words += [f"{len(pins)} pin{'s' * (len(pins) != 1)}"] if pins else []
        words += [] if brush is None else [f"brush {(brush > 0).mean():.0%}"]
        words += [] if motion.face is None else ["face"]
        words += [] if mask is None else [f"face mask {(mask > 0).mean():.0%}"]
        return " · ".join([*words, f"{width} × {height}"])

    # ---- inside ----

    def _settle(self) -> None:
        self.release()
        self.finish()
        self.notice = ""

    def _draw_on(self, point: Point) -> None:
        """The gesture goes on; what is held moves. A pin being set has no place before it."""
        self.stroke.append(point)
        if self.tool in ("move", "pin") and self.selected is not None:
            (x, y), base = self.stroke[0], self._before
            base = base if self.selected.is_in(base) else base.with_pin(x, y)
            shift = point[0] - x, point[1] - y
            self.motion = strokes.with_handle_moved(base, self.selected, shift, self.box)

    def _end_track(self, stroke: list[Point]) -> None:
        click = _CLICK * self.unit
        if not self.clicks and max(dist(p, stroke[0]) for p in stroke) > click:
            self._add_track(strokes.track_along(stroke, _STRAY * self.unit))
        elif self.clicks and dist(self.clicks[-1], stroke[-1]) <= click:
            self.finish()
        else:
            self.clicks = (*self.clicks, stroke[-1])

    def _end_paint(self, stroke: list[Point]) -> None:
        mask = self.mask_shown(self.mask)
        mask = np.zeros(self.motion.size[::-1], np.uint8) if mask is None else mask
        mask = strokes.painted(mask, stroke, self.radius, 255 if self.tool == "brush" else 0)
        if self.mask == "mask" and not mask.any():
            self.notice = "The face mask was empty: the proposed one is back."
        self._put_mask(mask)

    def _end_select(self, point: Point) -> None:
        """A click beside the last selection adds to it, a click on it takes away from it."""
        present, (before, on, off) = getattr(self.motion, self.mask), self._selection()
        taken = bool(on) and present[int(point[1]), int(point[0])] > 0
        on, off = (on, (*off, point)) if taken else ((*on, point), off)
        mask = self.pick(on, off)
        mask = mask if before is None else np.maximum(mask, before)
        self._picked[_key(mask)] = before, on, off
        self._put_mask(mask)
        self.notice = "A click beside it adds, one on it takes away."

    def _selection(self) -> tuple[np.ndarray | None, Points, Points]:
        """What was there before the present mask was selected, and the clicks that did it."""
        present = getattr(self.motion, self.mask)
        return self._picked.get(_key(present), (present, (), ()))

    def _put_mask(self, mask: np.ndarray) -> None:
        self._commit(replace(self.motion, **{self.mask: mask if mask.any() else None}))

    def _add_track(self, track: Track) -> None:
        self._commit(self.motion.with_track(track))
        self.selected = Handle("track", len(self.motion.tracks) - 1)

    def _commit(self, motion: Motion, series: str = "") -> None:
        if motion == self.motion:
            return
        if not series or series != self._series:
            self.past.append(_packed(self.motion))
            self.future.clear()
        self.motion, self._series = motion, series
        self._prune()

    def _step(self, source: list[Packed], target: list[Packed]) -> None:
        if source:
            target.append(_packed(self.motion))
            self.motion = _unpacked(*source.pop())
        self._series = ""
        self._prune()

    def _prune(self) -> None:
        """Let go of a selection, and of the face mask, when they are no longer there."""
        if self.selected is not None and not self.selected.is_in(self.motion):
            self.selected = None
        if self.motion.face is None:
            self.mask = MASKS[0]


def _packed(motion: Motion) -> Packed:
    """A motion for the history, which shares all but its masks: those shrink to a kilobyte."""
    masks = {name: _key(getattr(motion, name)) for name in MASKS}
    return replace(motion, **dict.fromkeys(MASKS)), masks


def _unpacked(plain: Motion, masks: dict[str, bytes]) -> Motion:
    (width, height), whole = plain.size, {}
    for name in filter(masks.get, masks):
        bits = np.frombuffer(zlib.decompress(masks[name]), np.uint8)
        whole[name] = np.unpackbits(bits, count=width * height).reshape(height, width) > 0
    return replace(plain, **whole)


def _key(mask: np.ndarray | None) -> bytes:
    return b"" if mask is None else zlib.compress(np.packbits(mask > 0), 1)
