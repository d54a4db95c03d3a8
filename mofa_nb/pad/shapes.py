"""What the pad draws over its picture, as lists of shapes for a canvas to render.

Places are in pixels of the motion, widths and radii in pixels of the screen.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mofa_nb.faces.draw import landmark_parts
from mofa_nb.motion.tracks import Track
from mofa_nb.pad.state import PadState
from mofa_nb.pad.strokes import Number, curve
from mofa_nb.show.drawing import BRUSH_COLOUR, TRACK_COLOURS, drawn_numbers

Colour = tuple[int, int, int]

DARK, WHITE, OFF = (18, 20, 26), (255, 255, 255), (240, 70, 70)
MASK_COLOURS = {"brush": BRUSH_COLOUR, "mask": (120, 230, 160)}
HINT = "Drag on the picture to draw a path"


@dataclass(frozen=True)
class Lines:
    """Polylines with round ends, one colour each."""

    points: list
    colours: list[Colour]
    width: Number
    alpha: Number = 1.0


@dataclass(frozen=True)
class Discs:
    """Filled circles of one radius."""

    centres: list
    colours: list[Colour]
    radius: Number
    alpha: Number = 1.0


@dataclass(frozen=True)
class Triangles:
    """Filled triangles."""

    points: list
    colours: list[Colour]
    alpha: Number = 1.0


@dataclass(frozen=True)
class Texts:
    """Centred words."""

    words: list[str]
    centres: list
    colour: Colour
    size: Number


def colour_of(index: int) -> Colour:
    """The colour of track `index`."""
    return TRACK_COLOURS[index % len(TRACK_COLOURS)]


def drawn_tracks(state: PadState) -> dict[int, Track]:
    """The tracks that are drawn, by number: of very many the chosen one and some from all over."""
    tracks, chosen = state.motion.tracks, state.selected
    picked = {chosen.index} if chosen is not None and chosen.kind != "pin" else set()
    return {i: tracks[i] for i in sorted({*drawn_numbers(len(tracks)), *picked})}


def path_shapes(state: PadState) -> list:
    """Tracks and pins: dark-cased lines, arrow heads, numbered starts, handles."""
    seen, pins = drawn_tracks(state), state.motion.pins
    tracks, colours = list(seen.values()), [colour_of(i) for i in seen]
    lines = [curve(track) for track in tracks]
    chosen, shapes = state.selected, []
    if chosen is not None and chosen.kind != "pin":
        shapes.append(Lines([curve(seen[chosen.index])], [WHITE], 11, 0.5))
    if chosen is not None and chosen.kind == "pin":
        shapes.append(Discs([pins[chosen.index]], [WHITE], 12, 0.5))
    for width, size, paint in ((5.5, 18, [DARK] * len(tracks)), (3, 13, colours)):
        shapes.append(Lines(lines, paint, width))
        shapes.append(Triangles([_head(line, size * state.unit) for line in lines], paint))
    handles = [p for i, track in seen.items() if _open(state, i) for p in track.points[1:]]
    shapes += [
        Discs(handles, [DARK] * len(handles), 5),
        Discs(handles, [WHITE] * len(handles), 3.5),
    ]
    starts = [track.points[0] for track in tracks]
    rims = [WHITE if track.locked else DARK for track in tracks]
    shapes += [Discs(starts, rims, 10, 0.75), Discs(starts, colours, 8.5)]
    shapes.append(Texts([str(i + 1) for i in seen], starts, DARK, 11))
    for radius, colour in ((8, DARK), (6.5, WHITE), (2.5, DARK)):
        shapes.append(Discs(list(pins), [colour] * len(pins), radius))
    clicks = zip(state.picks, (MASK_COLOURS[state.mask], OFF), strict=True)
    for places, colour in clicks if state.tool == "select" else ():
        for radius, paint in ((6.5, DARK), (5, colour)):
            shapes.append(Discs(list(places), [paint] * len(places), radius))
    return shapes


def live_shapes(state: PadState, frame: int, num_frames: int) -> list:
    """What changes with every move: face, ghosts, the gesture in progress, brush ring, hint."""
    shapes = face_shapes(state, frame)
    shapes += [] if state.stroke else _ghosts(state, frame, num_frames)
    coming = colour_of(len(state.motion.tracks))
    if state.clicks:
        ends = [*state.clicks, state.pointer] if state.pointer else [*state.clicks]
        shapes += _cased(ends, coming)
        shapes.append(Discs(list(state.clicks), [coming] * len(state.clicks), 5))
    elif state.stroke and state.tool == "track":
        shapes += _cased(state.stroke, coming)
    if state.tool in ("brush", "erase"):
        if state.stroke:
            colour = MASK_COLOURS[state.mask] if state.tool == "brush" else WHITE
            width = 2 * state.radius / state.unit
            shapes.append(Lines([state.stroke], [colour], width, 0.45))
        if state.pointer:
            ring = _circle(state.pointer, state.radius)
            shapes += [Lines([ring], [DARK], 3, 0.6), Lines([ring], [WHITE], 1.5)]
    motion = state.motion
    if motion.is_empty and motion.brush is None and not state.stroke and not state.clicks:
        shapes += _hint(motion.size, state.unit)
    return shapes


def face_shapes(state: PadState, frame: int) -> list:
    """The driven face's landmarks at a frame, as the release joins them."""
    if state.motion.face is None or state.landmarks is None:
        return []
    points = state.landmarks[min(frame, len(state.landmarks) - 1)]
    lines = [points[np.array(part["points_1based"]) - 1] for part in landmark_parts()]
    return [
        Lines(lines, [DARK] * len(lines), 3.5, 0.55),
        Lines(lines, [WHITE] * len(lines), 1.5, 0.95),
    ]


def _cased(points: list, colour: Colour) -> list:
    return [Lines([points], [DARK], 5.5, 0.6), Lines([points], [colour], 2.75)]


def _open(state: PadState, index: int) -> bool:
    """The track's control points are shown: they can be grabbed, or it is selected."""
    chosen = state.selected
    selected = chosen is not None and chosen.kind != "pin" and chosen.index == index
    return (state.tool == "move" or selected) and not state.motion.tracks[index].locked


def _head(line: Float[np.ndarray, "T 2"], length: Number) -> Float[np.ndarray, "3 2"]:
    """An arrow head at the end of a line, its tip a little beyond."""
    end, away = line[-1], np.hypot(*(line - line[-1]).T)
    far = np.nonzero(away >= length / 2)[0]
    along = end - (line[far[-1]] if len(far) else line[0])
    dx, dy = along / max(float(np.hypot(*along)), 1e-6) * length
    base = end - 0.45 * np.array([dx, dy])
    side = 0.5 * np.array([-dy, dx])
    return np.array([end + 0.55 * np.array([dx, dy]), base + side, base - side])


def _ghosts(state: PadState, frame: int, num_frames: int) -> list:
    """Where each track stands, except at its ends."""
    seen, longer = drawn_tracks(state), num_frames > (state.native or num_frames)
    if frame == 0 or (frame >= num_frames - 1 and not longer):
        return []
    frame = min(frame, num_frames - 1)
    after = state.motion.after
    places = [track.path(num_frames, state.native, after)[frame] for track in seen.values()]
    if not places:
        return []
    colours = [colour_of(i) for i in seen]
    rims = [Discs(places, [c] * len(places), r) for c, r in ((DARK, 7.5), (WHITE, 6.5))]
    return [*rims, Discs(places, colours, 4.5)]


def _circle(centre: tuple, radius: Number) -> Float[np.ndarray, "T 2"]:
    turn = np.linspace(0, 2 * np.pi, 49)
    return np.array(centre) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _hint(size: tuple[int, int], unit: Number) -> list:
    centre = (size[0] / 2, size[1] / 2)
    half = min(120 * unit, size[0] / 2 - 20 * unit)
    pill = [(centre[0] - half, centre[1]), (centre[0] + half, centre[1])]
    return [Lines([pill], [DARK], 34, 0.7), Texts([HINT], [centre], WHITE, 15)]
