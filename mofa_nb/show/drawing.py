"""A motion and its hints drawn over a picture: paths, pins, brush, arrows."""

import colorsys

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from mofa_nb.flow.sparse import Hints
from mofa_nb.motion.motion import Motion, Track
from mofa_nb.show.colours import colour_wheel
from mofa_nb.show.layout import font

TRACK_COLOURS = (
    (255, 92, 92),
    (255, 209, 63),
    (76, 217, 100),
    (64, 180, 255),
    (199, 125, 255),
    (255, 159, 28),
    (46, 230, 197),
    (255, 111, 181),
)
MOST_DRAWN = 400  # tracks: more are neither seen apart nor drawn without a wait
BRUSH_COLOUR = (64, 180, 255)
_CASING = (18, 20, 26)
_FINE = 4  # drawn so many times larger, then averaged: smooth lines

Picture = UInt8[np.ndarray, "_ _ 3"]  # [height, width, RGB]
Point = tuple[float | int, float | int]


class _Sheet:
    """An enlarged picture to draw smooth lines on; positions are in source pixels."""

    def __init__(self, image: Picture, min_side: int):
        height, width = image.shape[:2]
        self.zoom = max(1, -(-min_side // min(height, width)))
        self.size = width * self.zoom, height * self.zoom
        self.base = Image.fromarray(image).resize(self.size, Image.Resampling.BICUBIC)
        self.unit = max(1.0, min(self.size) / 360)  # line widths grow with the picture
        self.layer = Image.new("RGBA", tuple(s * _FINE for s in self.size), (*_CASING, 0))
        self.draw = ImageDraw.Draw(self.layer)
        self.texts: list[tuple[Point, str, int]] = []

    def tint(self, mask: UInt8[np.ndarray, "H W"], colour: tuple[int, int, int]) -> None:
        """Lay a translucent colour with a firm, smooth edge over the painted part."""
        soft = Image.fromarray(mask).resize(self.size, Image.Resampling.BICUBIC)
        soft = soft.filter(ImageFilter.GaussianBlur(0.6 * self.size[0] / mask.shape[1]))
        value = np.asarray(soft) / 255
        inside = np.clip((value - 0.5) * 4 + 0.5, 0, 1)
        outline = soft.filter(ImageFilter.GaussianBlur(self.unit))
        edge = np.clip(1 - np.abs(np.asarray(outline) / 255 - 0.5) * 4, 0, 1)
        alpha = np.maximum(0.34 * inside, 0.9 * edge)[..., None]
        tinted = np.asarray(self.base) * (1 - alpha) + np.array(colour) * alpha
        self.base = Image.fromarray(tinted.astype(np.uint8))

    def at(self, point: Point) -> Point:
        """Where the middle of source position `point` lies on the layer."""
        return point[0] * self.zoom * _FINE, point[1] * self.zoom * _FINE

    def visible(self, path: list[Point]) -> list[Point]:
        """The path as far as its arrow head can be seen: up to where it leaves the picture."""
        margin = 5 * self.unit / self.zoom
        width, height = (side / self.zoom - margin for side in self.size)
        for k, (x, y) in enumerate(path[1:], start=1):
            if not (margin <= x <= width and margin <= y <= height) and k > 1:
                gone = path[k:]
                if all(not (0 <= a < width and 0 <= b < height) for a, b in gone):
                    return path[:k]
        return path

    def line(self, points: list[Point], colour: tuple, width: float | int) -> None:
        """A line with round joints through source positions, and round ends."""
        places = [self.at(p) for p in points]
        thick = max(1, round(width * self.unit * _FINE))
        self.draw.line(places, colour, thick, joint="curve")
        for x, y in (places[0], places[-1]):
            self.draw.circle((x, y), thick / 2, colour)

    def disc(self, point: Point, radius: float | int, colour: tuple) -> None:
        """A filled circle; `radius` in line-width units."""
        self.draw.circle(self.at(point), radius * self.unit * _FINE, colour)

    def arrow_head(self, tip: Point, direction: Point, length: float | int, colour: tuple) -> None:
        """A triangle with its tip a little beyond `tip`; `length` in line-width units."""
        (x, y), reach = self.at(tip), length * self.unit * _FINE
        norm = float(np.hypot(*direction)) or 1.0
        dx, dy = direction[0] / norm * reach, direction[1] / norm * reach
        base = x - 0.45 * dx, y - 0.45 * dy
        corners = [
            (x + 0.55 * dx, y + 0.55 * dy),
            (base[0] - 0.5 * dy, base[1] + 0.5 * dx),
            (base[0] + 0.5 * dy, base[1] - 0.5 * dx),
        ]
        self.draw.polygon(corners, colour)

    def text(self, point: Point, text: str, size: float | int) -> None:
        """Dark text centred on a source position; `size` in line-width units."""
        place = point[0] * self.zoom, point[1] * self.zoom
        self.texts.append((place, text, round(size * self.unit)))

    def picture(self) -> Picture:
        """Everything drawn so far, over the image."""
        layer = self.layer.resize(self.size, Image.Resampling.BOX)
        result = Image.alpha_composite(self.base.convert("RGBA"), layer).convert("RGB")
        draw = ImageDraw.Draw(result)
        for place, text, size in self.texts:
            draw.text(place, text, _CASING, font(size, True), anchor="mm")
        return np.array(result)


def drawn_numbers(count: int) -> range:
    """Of `count` tracks those that a picture shows: all, or of very many some from all over."""
    return range(0, count, max(1, -(-count // MOST_DRAWN)))


def draw_tracks(
    image: Picture, motion: Motion, *, min_side: int = 384, numbers: bool = True
) -> Picture:
    """The motion over its picture: numbered coloured paths, pins as rings, the brush as a tint.

    Args:
        image: the picture that the motion belongs to; a motion of another size is rescaled.
        min_side: the result is enlarged by a whole factor until its shorter side has at least
            so many pixels, so that lines and numbers are legible on small pictures.
        numbers: write each track's number at its start.
    """
    sheet = _Sheet(image, min_side)
    if motion.brush is not None:
        sheet.tint(motion.brush, BRUSH_COLOUR)
    motion = motion.resized((image.shape[1], image.shape[0]))
    for point in motion.pins:
        _draw_pin(sheet, point)
    seen = [(i, motion.tracks[i]) for i in drawn_numbers(len(motion.tracks))]
    for i, track in seen:
        _draw_path(sheet, track, TRACK_COLOURS[i % len(TRACK_COLOURS)])
    for i, track in seen:
        number, colour = i + 1, TRACK_COLOURS[i % len(TRACK_COLOURS)]
        sheet.disc(track.points[0], 8.5 if numbers else 5.5, (*_CASING, 255))
        sheet.disc(track.points[0], 7 if numbers else 4, (*colour, 255))
        if numbers:
            sheet.text(track.points[0], str(number), 10 if number < 10 else 8)
    return sheet.picture()


def draw_followed(
    frames: UInt8[np.ndarray, "T H W 3"], motion: Motion
) -> UInt8[np.ndarray, "T H W 3"]:
    """A film with a motion's tracks drawn over it: as far as each has come, and where it is."""
    import cv2

    height, width = frames.shape[1:3]
    motion, drawn = motion.resized((width, height)), frames.copy()
    paths = motion.paths(len(frames)).numpy()
    thick = max(1, round(min(height, width) / 240))
    for number, path in enumerate(paths):
        colour = TRACK_COLOURS[number % len(TRACK_COLOURS)]
        points = np.round(path * 16).astype(np.int32)  # OpenCV takes sixteenths of a pixel
        for frame, picture in enumerate(drawn):
            line = [points[: frame + 1]]
            cv2.polylines(picture, line, False, colour, thick, cv2.LINE_AA, shift=4)
            cv2.circle(picture, points[frame].tolist(), 40 * thick, colour, -1, cv2.LINE_AA, 4)
    return drawn


def _draw_path(sheet: _Sheet, track: Track, colour: tuple) -> None:
    plain = Track(track.points)  # its shape; the speed does not show
    path = sheet.visible([(float(x), float(y)) for x, y in plain.path(24 * len(track.points))])
    sheet.line(path, (*_CASING, 235), 5.5)
    tip, direction = path[-1], _last_direction(path, 6 * sheet.unit / sheet.zoom)
    if direction is not None:
        sheet.arrow_head(tip, direction, 19, (*_CASING, 255))
    sheet.line(path, (*colour, 255), 3)
    for point in track.points[1:-1]:
        sheet.disc(point, 4, (*_CASING, 255))
        sheet.disc(point, 2.6, (*colour, 255))
    if direction is not None:
        sheet.arrow_head(tip, direction, 13.5, (*colour, 255))


def _last_direction(path: list[Point], reach: float) -> Point | None:
    """The way the path arrives, over its last stretch of `reach` pixels; None if it rests."""
    (x, y), way = path[-1], None
    for a, b in reversed(path[:-1]):
        if np.hypot(x - a, y - b) > 1e-6:
            way = x - a, y - b
            if np.hypot(*way) >= reach:
                return way
    return way


def _draw_pin(sheet: _Sheet, point: Point) -> None:
    sheet.disc(point, 7.5, (*_CASING, 255))
    sheet.disc(point, 6, (255, 255, 255, 255))
    sheet.disc(point, 3.4, (*_CASING, 255))
    sheet.disc(point, 1.6, (255, 255, 255, 255))


def draw_hints(image: Picture, hints: Hints, *, frame: int = -1, min_side: int = 384) -> Picture:
    """What S2D is told, over the picture: an arrow per known pixel, a ring where it stays.

    Arrows have the colour of their direction in the flow wheel.

    Args:
        image: the picture; hints live on a grid that covers it, whatever its size.
        frame: which flow, counted from 0 (frame 0 -> frame 1); -1 is the last.
        min_side: see `draw_tracks`.
    """
    sheet = _Sheet(image, min_side)
    height, width = hints.grid
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    mask, flow = hints.mask[frame, 0].cpu().numpy(), hints.flow[frame].cpu().numpy()
    for y, x in zip(*np.nonzero(mask), strict=True):
        start = tuple((np.array([x, y]) + 0.5) * scale)
        step = flow[:, y, x] * scale
        if np.hypot(*step) < 0.25:
            _draw_pin(sheet, start)
        else:
            _draw_arrow(sheet, start, step)
    return sheet.picture()


def _draw_arrow(sheet: _Sheet, start: Point, step: Float[np.ndarray, " 2"]) -> None:
    colour = direction_colour(float(step[0]), float(step[1]))
    way = float(step[0]), float(step[1])
    end = sheet.visible(
        [(start[0] + way[0] * k / 24, start[1] + way[1] * k / 24) for k in range(25)]
    )[-1]
    sheet.line([start, end], (*_CASING, 235), 5)
    sheet.arrow_head(end, way, 17, (*_CASING, 255))
    sheet.line([start, end], (*colour, 255), 2.6)
    sheet.arrow_head(end, way, 12, (*colour, 255))
    sheet.disc(start, 4, (*_CASING, 255))
    sheet.disc(start, 2.6, (255, 255, 255, 255))


def direction_colour(dx: float | int, dy: float | int) -> tuple[int, int, int]:
    """The flow wheel's full colour for a direction, as RGB."""
    wheel = colour_wheel()
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    red, green, blue = wheel[int(turn) % (len(wheel) - 1)]
    hue, light, strength = colorsys.rgb_to_hls(red, green, blue)
    bright = colorsys.hls_to_rgb(hue, max(light, 0.6), strength)  # blue on dark stays readable
    return tuple(round(255 * part) for part in bright)
