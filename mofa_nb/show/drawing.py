"""A motion and its hints drawn over a picture: paths, pins, brush, arrows."""

import colorsys

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from mofa_nb.flow.sparse import Hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show.colours import colour_wheel
from mofa_nb.show.layout import font

TRACK_COLOURS = (
    *((255, 92, 92), (255, 209, 63), (76, 217, 100), (64, 180, 255)),
    *((199, 125, 255), (255, 159, 28), (46, 230, 197), (255, 111, 181)),
)
MOST_DRAWN = 400  # tracks: more are neither seen apart nor drawn without a wait
BRUSH_COLOUR = (64, 180, 255)
_CASING, _SOFT, _WHITE = (18, 20, 26), (18, 20, 26, 235), (255, 255, 255)
_FINE = 4  # drawn so many times larger, then averaged: smooth lines

Picture = UInt8[np.ndarray, "_ _ 3"]  # [height, width, RGB]
Number = float | int
Point = tuple[Number, Number]


class _Sheet:
    """An enlarged picture to draw smooth lines on.

    Positions are in source pixels; widths, radii and lengths in `unit`s, which grow with it.
    """

    def __init__(self, image: Picture, min_side: int):
        height, width = image.shape[:2]
        self.zoom = max(1, -(-min_side // min(height, width)))
        self.size = width * self.zoom, height * self.zoom
        self.base = Image.fromarray(image).resize(self.size, Image.Resampling.BICUBIC)
        self.unit = max(1.0, min(self.size) / 360)
        self.layer = Image.new("RGBA", tuple(s * _FINE for s in self.size), (*_CASING, 0))
        self.draw = ImageDraw.Draw(self.layer)
        self.texts: list[tuple[Point, str, int]] = []

    def tint(self, mask: UInt8[np.ndarray, "H W"], colour: tuple[int, int, int]) -> None:
        """Lay a translucent colour with a firm, smooth edge over the painted part."""
        soft = Image.fromarray(mask).resize(self.size, Image.Resampling.BICUBIC)
        soft = soft.filter(ImageFilter.GaussianBlur(0.6 * self.size[0] / mask.shape[1]))
        inside = np.clip((np.asarray(soft) / 255 - 0.5) * 4 + 0.5, 0, 1)
        outline = np.asarray(soft.filter(ImageFilter.GaussianBlur(self.unit))) / 255
        edge = np.clip(1 - np.abs(outline - 0.5) * 4, 0, 1)
        alpha = np.maximum(0.34 * inside, 0.9 * edge)[..., None]
        tinted = np.asarray(self.base) * (1 - alpha) + np.array(colour) * alpha
        self.base = Image.fromarray(tinted.astype(np.uint8))

    def at(self, point: Point) -> Point:
        """Where a source position lies on the layer."""
        return point[0] * self.zoom * _FINE, point[1] * self.zoom * _FINE

    def visible(self, path: list[Point]) -> list[Point]:
        """The path as far as its arrow head can be seen: up to where it leaves the picture."""
        margin = 5 * self.unit / self.zoom
        width, height = (side / self.zoom - margin for side in self.size)
        for k, (x, y) in enumerate(path[2:], start=2):
            if not (margin <= x <= width and margin <= y <= height) and all(
                not (0 <= a < width and 0 <= b < height) for a, b in path[k:]
            ):
                return path[:k]
        return path

    def line(self, points: list[Point], colour: tuple, width: Number) -> None:
        places = [self.at(p) for p in points]
        thick = max(1, round(width * self.unit * _FINE))
        self.draw.line(places, colour, thick, joint="curve")
        for place in (places[0], places[-1]):
            self.draw.circle(place, thick / 2, colour)

    def discs(self, point: Point, *discs: tuple[Number, tuple]) -> None:
        """Filled circles on one another: radius and colour of each."""
        for radius, colour in discs:
            self.draw.circle(self.at(point), radius * self.unit * _FINE, colour)

    def pin(self, point: Point) -> None:
        """Rings: this place stays."""
        self.discs(point, (7.5, _CASING), (6, _WHITE), (3.4, _CASING), (1.6, _WHITE))

    def arrow(self, path, way, colour, widths, heads, knots=()) -> None:
        """A path in its dark casing, with discs at its knots, and a head along `way`, if any.

        The casing's and the colour's widths of the line, and lengths of the head, come in pairs.
        """
        for line, head, inner, size, length in (
            (_SOFT, _CASING, (), widths[0], heads[0]),
            (colour, colour, knots, widths[1], heads[1]),
        ):
            self.line(path, line, size)
            for point in inner:
                self.discs(point, (4, _CASING), (2.6, colour))
            if way is not None:
                self._head(path[-1], way, length, head)

    def _head(self, tip: Point, way: Point, length: Number, colour: tuple) -> None:
        (x, y), reach = self.at(tip), length * self.unit * _FINE
        norm = float(np.hypot(*way)) or 1.0
        dx, dy = way[0] / norm * reach, way[1] / norm * reach
        base = x - 0.45 * dx, y - 0.45 * dy
        sides = (base[0] - 0.5 * dy, base[1] + 0.5 * dx), (base[0] + 0.5 * dy, base[1] - 0.5 * dx)
        self.draw.polygon([(x + 0.55 * dx, y + 0.55 * dy), *sides], colour)

    def picture(self) -> Picture:
        layer = self.layer.resize(self.size, Image.Resampling.BOX)
        result = Image.alpha_composite(self.base.convert("RGBA"), layer).convert("RGB")
        draw = ImageDraw.Draw(result)
        for (x, y), text, size in self.texts:
            letters = font(round(size * self.unit), True)
            draw.text((x * self.zoom, y * self.zoom), text, _CASING, letters, anchor="mm")
        return np.array(result)


def drawn_numbers(count: int) -> range:
    """Of `count` tracks those that a picture shows: all, or of very many some from all over."""
    return range(0, count, max(1, -(-count // MOST_DRAWN)))


def track_colour(index: int) -> tuple[int, int, int]:
    return TRACK_COLOURS[index % len(TRACK_COLOURS)]


def draw_tracks(image: Picture, motion: Motion, *, min_side: int = 384) -> Picture:
    """The motion over its picture: numbered coloured paths, pins as rings, the brush as a tint.

    The result is enlarged by a whole factor until its shorter side has at least `min_side` pixels,
    so that lines and numbers are legible on small pictures.
    """
    sheet = _Sheet(image, min_side)
    if motion.brush is not None:
        sheet.tint(motion.brush, BRUSH_COLOUR)
    motion = motion.resized((image.shape[1], image.shape[0]))
    for point in motion.pins:
        sheet.pin(point)
    seen = [(i, motion.tracks[i]) for i in drawn_numbers(len(motion.tracks))]
    for i, track in seen:
        plain = Track(track.points)  # its shape; the speed does not show
        path = sheet.visible([(float(x), float(y)) for x, y in plain.path(24 * len(track.points))])
        way = _last_direction(path, 6 * sheet.unit / sheet.zoom)
        sheet.arrow(path, way, track_colour(i), (5.5, 3), (19, 13.5), track.points[1:-1])
    for i, track in seen:
        sheet.discs(track.points[0], (8.5, _CASING), (7, track_colour(i)))
        sheet.texts.append((track.points[0], str(i + 1), 10 if i < 9 else 8))
    return sheet.picture()


def draw_followed(
    frames: UInt8[np.ndarray, "T H W 3"], motion: Motion
) -> UInt8[np.ndarray, "T H W 3"]:
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


def _last_direction(path: list[Point], reach: float) -> Point | None:
    """The way the path arrives, over its last stretch of `reach` pixels; None if it rests."""
    (x, y), way = path[-1], None
    for a, b in reversed(path[:-1]):
        if np.hypot(x - a, y - b) > 1e-6:
            way = x - a, y - b
            if np.hypot(*way) >= reach:
                return way
    return way


def draw_hints(image: Picture, hints: Hints, *, frame: int = -1, min_side: int = 384) -> Picture:
    """What S2D is told of one `frame` (0: the flow frame 0 -> 1), over the picture: an arrow per
    known pixel in its direction's colour in the flow wheel, a ring where it stays.

    The hints' grid covers the picture. `min_side`: see `draw_tracks`.
    """
    sheet = _Sheet(image, min_side)
    height, width = hints.grid
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    mask, flow = hints.mask[frame, 0].cpu().numpy(), hints.flow[frame].cpu().numpy()
    for y, x in zip(*np.nonzero(mask), strict=True):
        start, step = tuple((np.array([x, y]) + 0.5) * scale), (flow[:, y, x] * scale).tolist()
        if np.hypot(*step) < 0.25:
            sheet.pin(start)
            continue
        way = [(start[0] + step[0] * k / 24, start[1] + step[1] * k / 24) for k in range(25)]
        line = [start, sheet.visible(way)[-1]]
        sheet.arrow(line, step, direction_colour(*step), (5, 2.6), (17, 12))
        sheet.discs(start, (4, _CASING), (2.6, _WHITE))
    return sheet.picture()


def direction_colour(dx: Number, dy: Number) -> tuple[int, int, int]:
    """The flow wheel's full colour for a direction, as RGB."""
    wheel = colour_wheel()
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    hue, light, strength = colorsys.rgb_to_hls(*wheel[int(turn) % (len(wheel) - 1)])
    bright = colorsys.hls_to_rgb(hue, max(light, 0.6), strength)  # blue on dark stays readable
    return tuple(round(255 * part) for part in bright)
