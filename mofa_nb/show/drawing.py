"""A motion and its hints drawn over a picture: paths, pins, brush, arrows."""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from mofa_nb.flow.sparse import Hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show.colours import colour_wheel
from mofa_nb.show.layout import Frames, Number, Picture, font

TRACK_COLOURS = (
    *((255, 92, 92), (255, 209, 63), (76, 217, 100), (64, 180, 255)),
    *((199, 125, 255), (255, 159, 28), (46, 230, 197), (255, 111, 181)),
)
MOST_DRAWN = 400  # tracks: more are neither seen apart nor drawn without a wait
BRUSH_COLOUR = (64, 180, 255)
DARK, WHITE = (18, 20, 26), (255, 255, 255)
_FINE = 4  # drawn so many times larger, then averaged: smooth lines

Path = Float[np.ndarray, "_ 2"]
Colour = tuple[int, int, int]


class Shape(NamedTuple):
    kind: str  # "lines", "discs", "triangles" or "texts"
    places: Sequence  # pixels of the motion: points of each line or triangle, or middles
    colour: Colour | Sequence[Colour]  # one, or one each
    size: Number = 0  # pixels of the screen: width of lines, radius of discs, height of letters
    alpha: Number = 1.0
    words: Sequence[str] = ()


def discs(places: Sequence, *layers: tuple) -> list[Shape]:
    """Discs on one another: radius, colour and perhaps alpha of each."""
    return [Shape("discs", places, colour, radius, *alpha) for radius, colour, *alpha in layers]


def pin_shapes(places: Sequence) -> list[Shape]:
    """Rings: these places stay."""
    return discs(places, (8, DARK), (6.5, WHITE), (2.5, DARK))


def number_shapes(places: Sequence, numbers, colours: Sequence, rims=DARK) -> list[Shape]:
    """Where tracks start: their numbers, counted from 1, on discs of their colours."""
    words = [str(number + 1) for number in numbers]
    texts = Shape("texts", places, DARK, 11, words=words)
    return [*discs(places, (10, rims, 0.75), (8.5, colours)), texts]


def arrow_shapes(lines: Sequence, colours: Sequence[Colour], unit: Number) -> list[Shape]:
    """Lines with heads, in a dark casing. `unit`: pixels of the motion per pixel of the screen."""
    shapes = []
    for width, head, colour in ((5.5, 18, DARK), (3, 13, colours)):
        heads = [_head(np.asarray(line), head * unit) for line in lines]
        shapes += [Shape("lines", lines, colour, width), Shape("triangles", heads, colour)]
    return shapes


def _head(line: Path, length: Number) -> Float[np.ndarray, "3 2"]:
    """An arrow head at the end of a line, its tip a little beyond."""
    end, away = line[-1], np.hypot(*(line - line[-1]).T)
    far = np.nonzero(away >= length / 2)[0]
    along = end - (line[far[-1]] if len(far) else line[0])
    along = along / max(float(np.hypot(*along)), 1e-6) * length
    base, side = end - 0.45 * along, 0.5 * along[::-1] * (-1, 1)
    return np.array([end + 0.55 * along, base + side, base - side])


def drawn_numbers(count: int) -> range:
    """Of `count` tracks those that a picture shows: all, or of very many some from all over."""
    return range(0, count, max(1, -(-count // MOST_DRAWN)))


def track_colour(index: int) -> Colour:
    return TRACK_COLOURS[index % len(TRACK_COLOURS)]


def draw_tracks(image: Picture, motion: Motion, *, min_side: int = 384) -> Picture:
    """The motion over its picture: numbered coloured paths, pins as rings, the brush as a tint. The
    result is enlarged by a whole factor until its shorter side has at least `min_side` pixels, so
    that lines and numbers are legible on small pictures."""
    zoom, unit = _scale(image, min_side)
    brush, motion = motion.brush, motion.resized((image.shape[1], image.shape[0]))
    numbers = drawn_numbers(len(motion.tracks))
    seen, colours = [motion.tracks[i] for i in numbers], [track_colour(i) for i in numbers]
    # Their shape: the speed does not show.
    paths = [np.array(Track(track.points).path(24 * len(track.points))) for track in seen]
    paths = [_in_sight(path, image, 5 * unit / zoom) for path in paths]
    knots = [point for track in seen for point in track.points[1:-1]]
    shapes = [*pin_shapes(motion.pins), *arrow_shapes(paths, colours, unit / zoom)]
    shapes += discs(knots, (4, DARK), (2.6, WHITE))
    shapes += number_shapes([track.points[0] for track in seen], numbers, colours)
    return _painted(image, shapes, zoom, unit, brush)


def draw_hints(image: Picture, hints: Hints, *, frame: int = -1, min_side: int = 384) -> Picture:
    """What S2D is told of one `frame` (0: the flow frame 0 -> 1), over the picture: an arrow per
    known pixel in its direction's colour in the flow wheel, a ring where it stays. The hints' grid
    covers the picture. `min_side`: see `draw_tracks`."""
    zoom, unit = _scale(image, min_side)
    height, width = hints.grid
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    mask, flow = hints.mask[frame, 0].cpu().numpy(), hints.flow[frame].cpu().numpy()
    rows, columns = np.nonzero(mask)
    starts, steps = (np.stack([columns, rows], 1) + 0.5) * scale, flow[:, mask > 0].T * scale
    moves = np.hypot(*steps.T) >= 0.25
    part = np.linspace(0, 1, 25)[:, None]
    pairs = zip(starts[moves], steps[moves], strict=True)
    lines = [_in_sight(start + part * step, image, 5 * unit / zoom) for start, step in pairs]
    colours = [direction_colour(*step) for step in steps[moves].tolist()]
    shapes = [*pin_shapes(starts[~moves]), *arrow_shapes(lines, colours, unit / zoom)]
    shapes += discs(starts[moves], (4, DARK), (2.6, WHITE))
    return _painted(image, shapes, zoom, unit)


def direction_colour(dx: Number, dy: Number) -> Colour:
    """The flow wheel's full colour for a direction, as RGB."""
    wheel = colour_wheel()
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    hue, light, strength = colorsys.rgb_to_hls(*wheel[int(turn) % (len(wheel) - 1)])
    bright = colorsys.hls_to_rgb(hue, max(light, 0.6), strength)  # blue on dark stays readable
    return tuple(round(255 * part) for part in bright)


def draw_followed(frames: Frames, motion: Motion) -> Frames:
    """A film with a motion's tracks drawn over it: as far as each has come, and where it is."""
    import cv2

    height, width = frames.shape[1:3]
    drawn = frames.copy()
    thick = max(1, round(min(height, width) / 240))
    for number, path in enumerate(motion.resized((width, height)).paths(len(frames)).numpy()):
        colour = track_colour(number)
        points = np.round(path * 16).astype(np.int32)  # OpenCV takes sixteenths of a pixel
        for frame, picture in enumerate(drawn):
            line = [points[: frame + 1]]
            cv2.polylines(picture, line, False, colour, thick, cv2.LINE_AA, shift=4)
            cv2.circle(picture, points[frame].tolist(), 40 * thick, colour, -1, cv2.LINE_AA, 4)
    return drawn


def _scale(image: Picture, min_side: int) -> tuple[int, float]:
    """How many times a picture is enlarged; pixels of the result per pixel that shapes count in."""
    side = min(image.shape[:2])
    zoom = max(1, -(-min_side // side))
    return zoom, max(0.9, side * zoom / 420)


def _tinted(base: Image.Image, mask: UInt8[np.ndarray, "H W"], unit: float) -> Image.Image:
    """A translucent colour with a firm, smooth edge over the painted part."""
    soft = Image.fromarray(mask).resize(base.size, Image.Resampling.BICUBIC)
    soft = soft.filter(ImageFilter.GaussianBlur(0.6 * base.width / mask.shape[1]))
    inside = np.clip((np.asarray(soft) / 255 - 0.5) * 4 + 0.5, 0, 1)
    outline = np.asarray(soft.filter(ImageFilter.GaussianBlur(unit))) / 255
    edge = np.clip(1 - np.abs(outline - 0.5) * 4, 0, 1)
    alpha = Image.fromarray((255 * np.maximum(0.34 * inside, 0.9 * edge)).astype(np.uint8))
    return Image.composite(Image.new("RGB", base.size, BRUSH_COLOUR), base, alpha)


def _in_sight(path: Path, image: Picture, margin: float) -> Path:
    """The path as far as its arrow head can be seen: up to where it leaves the picture."""
    far = np.array(image.shape[1::-1]) - margin
    inside = np.flatnonzero(((path >= 0) & (path < far)).all(1))
    return path[: max(2, inside.max(initial=0) + 1)]


def _painted(
    image: Picture, shapes: list[Shape], zoom: int, unit: float, brush: np.ndarray | None = None
) -> Picture:
    """The picture enlarged, its painted part tinted, and shapes in its own pixels over it."""
    size = image.shape[1] * zoom, image.shape[0] * zoom
    base = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    base = base if brush is None else _tinted(base, brush, unit)
    layer = Image.new("RGBA", (base.width * _FINE, base.height * _FINE), (*DARK, 0))
    draw = ImageDraw.Draw(layer)
    for shape in shapes:
        size, alpha = shape.size * unit * _FINE, round(255 * shape.alpha)
        colours = np.broadcast_to(np.reshape(shape.colour, (-1, 3)), (len(shape.places), 3))
        for place, colour in zip(shape.places, colours.tolist(), strict=True):
            points = list(map(tuple, np.reshape(place, (-1, 2)) * zoom * _FINE))
            paint = (*colour, alpha)
            match shape.kind:
                case "lines":
                    draw.line(points, paint, round(size), joint="curve")
                    for end in (points[0], points[-1]):
                        draw.circle(end, size / 2, paint)
                case "triangles":
                    draw.polygon(points, paint)
                case "discs":
                    draw.circle(points[0], size, paint)
    layer = layer.resize(base.size, Image.Resampling.BOX)
    result = Image.alpha_composite(base.convert("RGBA"), layer).convert("RGB")
    draw = ImageDraw.Draw(result)
    for shape in shapes:
        for word, (x, y) in zip(shape.words, shape.places, strict=False):
            letters = font(round(shape.size * unit), True)
            draw.text((x * zoom, y * zoom), word, DARK, letters, anchor="mm")
    return np.array(result)
