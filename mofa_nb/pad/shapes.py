"""What the pad draws over its picture, as lists of shapes for a canvas to render."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mofa_nb.faces.draw import landmark_parts
from mofa_nb.motion.tracks import Track
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Number, curve
from mofa_nb.show.drawing import BRUSH_COLOUR, drawn_numbers, track_colour

Colour = tuple[int, int, int]

DARK, WHITE, OFF = (18, 20, 26), (255, 255, 255), (240, 70, 70)
MASK_COLOURS = {"brush": BRUSH_COLOUR, "mask": (120, 230, 160)}
HINT = "Drag on the picture to draw a path"


@dataclass(frozen=True)
class Shape:
    """Things of one kind.

    Attributes:
        kind: "lines", with round ends, filled "discs" or "triangles", or centred "texts".
        places: pixels of the motion: points of each line or triangle, or middles.
        colour: one, or one each.
        size: pixels of the screen: width of lines, radius of discs, height of letters.
        words: of texts.
    """

    kind: str
    places: Sequence
    colour: Colour | Sequence[Colour]
    size: Number = 0
    alpha: Number = 1.0
    words: Sequence[str] = ()


def drawn_tracks(state: PadState) -> dict[int, Track]:
    """The tracks that are drawn, by number: of very many the chosen one and some from all over."""
    tracks = state.motion.tracks
    numbers = {*drawn_numbers(len(tracks)), state.chosen_track} - {None}
    return {i: tracks[i] for i in sorted(numbers)}


def path_shapes(state: PadState) -> list[Shape]:
    """Tracks and pins: dark-cased lines, arrow heads, numbered starts, handles."""
    seen, pins, chosen = drawn_tracks(state), state.motion.pins, state.chosen_track
    lines, colours = [curve(track) for track in seen.values()], [track_colour(i) for i in seen]
    shapes = []
    if chosen is not None:
        shapes.append(Shape("lines", [curve(seen[chosen])], WHITE, 11, 0.5))
    elif state.selected is not None:
        shapes.append(Shape("discs", [pins[state.selected.index]], WHITE, 12, 0.5))
    for width, head, colour in ((5.5, 18, DARK), (3, 13, colours)):
        shapes.append(Shape("lines", lines, colour, width))
        heads = [_head(line, head * state.unit) for line in lines]
        shapes.append(Shape("triangles", heads, colour))
    # Control points can be grabbed with "move", and are shown of the chosen track.
    open_ = [t for i, t in seen.items() if not t.locked and (state.tool == "move" or i == chosen)]
    shapes += _discs([p for track in open_ for p in track.points[1:]], (5, DARK), (3.5, WHITE))
    starts = [track.points[0] for track in seen.values()]
    rims = [WHITE if track.locked else DARK for track in seen.values()]
    shapes += _discs(starts, (10, rims, 0.75), (8.5, colours))
    shapes.append(Shape("texts", starts, DARK, 11, words=[str(i + 1) for i in seen]))
    shapes += _discs(pins, (8, DARK), (6.5, WHITE), (2.5, DARK))
    if state.tool == "select":
        for places, colour in zip(state.picks, (MASK_COLOURS[state.mask], OFF), strict=True):
            shapes += _discs(places, (6.5, DARK), (5, colour))
    return shapes


def live_shapes(state: PadState, frame: int, num_frames: int) -> list[Shape]:
    """What changes with every move: face, ghosts, the gesture in progress, brush ring, hint."""
    shapes, motion, unit = face_shapes(state, frame), state.motion, state.unit
    shapes += [] if state.stroke else _ghosts(state, frame, num_frames)
    coming = track_colour(len(motion.tracks))
    if state.clicks:
        shapes += _cased([*state.clicks, *[state.pointer] * bool(state.pointer)], coming)
        shapes += _discs(state.clicks, (5, coming))
    elif state.stroke and state.tool == "track":
        shapes += _cased(state.stroke, coming)
    if state.tool in ("brush", "erase"):
        if state.stroke:
            colour = MASK_COLOURS[state.mask] if state.tool == "brush" else WHITE
            shapes.append(Shape("lines", [state.stroke], colour, 2 * state.radius / unit, 0.45))
        if state.pointer:
            turn = np.linspace(0, 2 * np.pi, 49)
            circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
            ring = [np.array(state.pointer) + state.radius * circle]
            shapes += [Shape("lines", ring, DARK, 3, 0.6), Shape("lines", ring, WHITE, 1.5)]
    if motion.is_empty and motion.brush is None and not state.stroke and not state.clicks:
        x, y = motion.size[0] / 2, motion.size[1] / 2
        half = min(120 * unit, x - 20 * unit)
        shapes.append(Shape("lines", [[(x - half, y), (x + half, y)]], DARK, 34, 0.7))
        shapes.append(Shape("texts", [(x, y)], WHITE, 15, words=[HINT]))
    return shapes


def face_shapes(state: PadState, frame: int) -> list[Shape]:
    """The driven face's landmarks at a frame, as the release joins them."""
    if state.motion.face is None or state.landmarks is None:
        return []
    points = state.landmarks[min(frame, len(state.landmarks) - 1)]
    lines = [points[np.array(part["points_1based"]) - 1] for part in landmark_parts()]
    return [Shape("lines", lines, DARK, 3.5, 0.55), Shape("lines", lines, WHITE, 1.5, 0.95)]


def _cased(points: Sequence, colour: Colour) -> list[Shape]:
    return [Shape("lines", [points], DARK, 5.5, 0.6), Shape("lines", [points], colour, 2.75)]


def _discs(places: Sequence, *discs: tuple) -> list[Shape]:
    """Discs on one another: radius, colour and perhaps alpha of each."""
    return [Shape("discs", places, colour, radius, *alpha) for radius, colour, *alpha in discs]


def _head(line: Float[np.ndarray, "T 2"], length: Number) -> Float[np.ndarray, "3 2"]:
    """An arrow head at the end of a line, its tip a little beyond."""
    end, away = line[-1], np.hypot(*(line - line[-1]).T)
    far = np.nonzero(away >= length / 2)[0]
    along = end - (line[far[-1]] if len(far) else line[0])
    along = along / max(float(np.hypot(*along)), 1e-6) * length
    base, side = end - 0.45 * along, 0.5 * along[::-1] * (-1, 1)
    return np.array([end + 0.55 * along, base + side, base - side])


def _ghosts(state: PadState, frame: int, num_frames: int) -> list[Shape]:
    """Where each track stands, except at its ends."""
    seen, native = drawn_tracks(state), state.native
    rests = frame >= num_frames - 1 and num_frames <= (native or num_frames)
    if frame == 0 or rests or not seen:
        return []
    frame, after = min(frame, num_frames - 1), state.motion.after
    places = [track.path(num_frames, native, after)[frame] for track in seen.values()]
    return _discs(places, (7.5, DARK), (6.5, WHITE), (4.5, [track_colour(i) for i in seen]))
