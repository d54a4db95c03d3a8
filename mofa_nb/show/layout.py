"""Pictures put together: captions, rows, grids, filmstrips, heat maps, the flow legend.

Every sheet has its own white margin and dark text, so that it reads on light and dark pages.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mofa_nb.show.colours import flow_to_rgb, longest_vector, nice_length, wheel_picture

PAPER, INK, FAINT, HAIRLINE = (255, 255, 255), (32, 34, 40), (120, 124, 134), (214, 217, 223)
GAP = 8  # pixels between pictures
LEGEND = 136  # pixels: wide enough for its text
FONT_SIZE = 14  # pixels: legible at 1x

Picture = UInt8[np.ndarray, "_ _ 3"]  # [height, width, RGB]
Part = Picture | Float[Tensor, "2 _ _"]


@lru_cache
def font(size: int = FONT_SIZE, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A plain sans-serif font: the one that comes with matplotlib, else Pillow's own."""
    found = find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    if found and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def with_caption(image: Picture, text: str, *, size: int = FONT_SIZE) -> Picture:
    """The picture with its caption beneath, centred, wrapped to the picture's width."""
    lines = wrapped(text, image.shape[1], size)
    height, width = image.shape[:2]
    sheet = _paper(width, height + 5 + len(lines) * (size + 5))
    sheet.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for k, line in enumerate(lines):
        top = height + 5 + k * (size + 5)
        draw.text((width / 2, top), line, INK, font(size), anchor="ma")
    return np.array(sheet)


def wrapped(text: str, width: int, size: int = FONT_SIZE) -> list[str]:
    """`text` broken at spaces into lines no wider than `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def grid(
    rows: Sequence[Sequence[Picture]],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    title: str = "",
    cell_height: int | None = None,
) -> Picture:
    """Rows of pictures on white paper; cells of one column share its width.

    Args:
        rows: pictures of any sizes; a row may be shorter than others.
        captions: one per picture, beneath it ("" for none).
        row_labels: one per row, at its left.
        title: above everything.
        cell_height: scale every picture to this height in pixels (bilinear).
    """
    pictures = [[p if cell_height is None else to_height(p, cell_height) for p in r] for r in rows]
    cells = _captioned(pictures, captions)
    labels = [wrapped(t, 110) for t in row_labels] if row_labels else []
    margin = max((font().getlength(line) for lines in labels for line in lines), default=-GAP)
    xs, ys = _edges(cells)
    left = 2 * GAP + int(margin)
    header = wrapped(title, left + xs[-1] - GAP, FONT_SIZE + 2)
    top = GAP + (len(header) * (FONT_SIZE + 8) + 4 if header else 0)
    sheet = _paper(left + xs[-1], top + ys[-1])
    draw = ImageDraw.Draw(sheet)
    for k, line in enumerate(header):
        draw.text((GAP, GAP + k * (FONT_SIZE + 8)), line, INK, font(FONT_SIZE + 2, True))
    for k, row in enumerate(cells):
        for line, text in enumerate(labels[k] if labels else []):
            draw.text((GAP, top + ys[k] + line * (FONT_SIZE + 4)), text, INK, font())
        for cell, picture, x in zip(row, pictures[k], xs, strict=False):
            _paste_framed(sheet, cell, (left + x, top + ys[k]), picture.shape[:2])
    return np.array(sheet)


def _captioned(
    pictures: list[list[Picture]], captions: Sequence[Sequence[str]] | None
) -> list[list[Picture]]:
    if captions is None:
        return pictures
    return [
        [with_caption(p, t) if t else p for p, t in zip(row, texts, strict=True)]
        for row, texts in zip(pictures, captions, strict=True)
    ]


def _edges(cells: list[list[Picture]]) -> tuple[list[int], list[int]]:
    """Where columns and rows begin, and at last where they all end (gap included)."""
    columns = max(len(row) for row in cells)
    widths = [max(row[k].shape[1] for row in cells if k < len(row)) for k in range(columns)]
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    return tuple([0, *accumulate(side + GAP for side in sides)] for sides in (widths, heights))


def _paste_framed(
    sheet: Image.Image, cell: Picture, place: tuple[int, int], framed: tuple[int, int]
) -> None:
    """Paste a cell; a hairline goes around its upper `framed` (height, width)."""
    sheet.paste(Image.fromarray(cell), place)
    x, y = place
    box = (x - 1, y - 1, x + framed[1], y + framed[0])
    ImageDraw.Draw(sheet).rectangle(box, outline=HAIRLINE)


def side_by_side(
    images: Sequence[Picture],
    captions: Sequence[str] | None = None,
    *,
    title: str = "",
    height: int | None = None,
) -> Picture:
    """One row of pictures, all scaled to `height` (default: the tallest one's)."""
    tallest = height or max(image.shape[0] for image in images)
    return grid(
        [images], None if captions is None else [captions], title=title, cell_height=tallest
    )


def filmstrip(
    frames: UInt8[np.ndarray, "T H W 3"],
    *,
    count: int = 7,
    captions: Sequence[str] | None = None,
    title: str = "",
    height: int | None = None,
) -> Picture:
    """`count` evenly spaced frames in a row, first and last included.

    Args:
        captions: one per shown frame; by default their numbers.
        height: of each frame on the sheet, pixels (default: the frames' own, at least 128).
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    if captions is None:
        captions = [f"frame {k}" for k in chosen]
    return side_by_side(
        [frames[k] for k in chosen],
        captions,
        title=title,
        height=height or max(128, frames.shape[1]),
    )


def to_height(image: Picture, height: int) -> Picture:
    """Scaled to `height` pixels, keeping its shape (bicubic)."""
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def heat_map(
    values: Float[np.ndarray, "H W"],
    *,
    low: float | int | None = None,
    high: float | int | None = None,
    label: str = "",
    height: int | None = None,
    colours: str = "viridis",
) -> Picture:
    """Numbers as colours, with a bar that says what they mean.

    Args:
        values: any floats; NaN is shown in grey.
        low, high: the ends of the bar (default: the smallest and largest finite value); values
            beyond are shown as the end's colour. Give them where pictures should compare.
        label: what the numbers are, with their unit; written beneath.
        height: of the map in pixels (default: at least 128); scaled by nearest pixel.
        colours: a matplotlib colour map.
    """
    finite = values[np.isfinite(values)]
    low = float(finite.min() if finite.size else 0) if low is None else float(low)
    high = float(finite.max() if finite.size else 1) if high is None else float(high)
    tall = height or max(128, values.shape[0])
    wide = max(1, round(values.shape[1] * tall / values.shape[0]))
    rows = np.arange(tall) * values.shape[0] // tall
    columns = np.arange(wide) * values.shape[1] // wide
    picture = _coloured(values[rows][:, columns], low, high, colours)
    ramp = np.linspace(high, low, tall)[:, None].repeat(12, axis=1)
    ticks = [_number(value, high - low) for value in (high, (low + high) / 2, low)]
    text_width = int(max(font(12).getlength(t) for t in ticks))
    sheet = _paper(wide + GAP + 12 + 5 + text_width, tall)
    sheet.paste(Image.fromarray(picture), (0, 0))
    sheet.paste(Image.fromarray(_coloured(ramp, low, high, colours)), (wide + GAP, 0))
    draw = ImageDraw.Draw(sheet)
    for text, y, anchor in zip(ticks, (0, tall / 2, tall), ("la", "lm", "ld"), strict=True):
        draw.text((wide + GAP + 17, y), text, INK, font(12), anchor=anchor)
    return with_caption(np.array(sheet), label) if label else np.array(sheet)


def _number(value: float, span: float) -> str:
    return "0" if abs(value) < 1e-3 * span else f"{value:.3g}"


def _coloured(
    values: Float[np.ndarray, "H W"], low: float, high: float, colours: str
) -> UInt8[np.ndarray, "H W 3"]:
    from matplotlib import colormaps

    span = high - low if high > low else 1.0
    unit = np.clip((np.nan_to_num(values, nan=low) - low) / span, 0, 1)
    rgb = np.rint(colormaps[colours](unit)[..., :3] * 255)
    return np.where(np.isnan(values)[..., None], 170, rgb).astype(np.uint8)


def flow_legend(scale: float | int, side: int = 112) -> Picture:
    """The colour wheel with its radius in pixels written beneath.

    Args:
        scale: the length in pixels that gets full colour (see `flow_colours.flow_to_rgb`).
    """
    sheet = _paper(side, side + 20)
    sheet.paste(Image.fromarray(wheel_picture(side)), (0, 0))
    draw = ImageDraw.Draw(sheet)
    ring, middle = nice_length(scale), side / 2
    text = f"edge {scale:.3g} px"
    if ring < 0.95 * scale:
        reach = middle * ring / scale
        box = (middle - reach, middle - reach, middle + reach, middle + reach)
        draw.ellipse(box, outline=(90, 90, 90))
        text = f"ring {ring:.3g}, " + text
    draw.line((middle - 4, middle, middle + 4, middle), FAINT)
    draw.line((middle, middle - 4, middle, middle + 4), FAINT)
    draw.text((middle, side + 4), text, INK, font(11), anchor="ma")
    return np.array(sheet)


def with_flow_legend(picture: Picture, scale: float | int, *, side: int = 112) -> Picture:
    """A flow picture in a hairline frame, with its colour wheel at the right."""
    legend = flow_legend(scale, side)
    height, width = picture.shape[:2]
    sheet = _paper(width + legend.shape[1] + 3 * GAP, max(height, legend.shape[0]) + 2 * GAP)
    _paste_framed(sheet, picture, (GAP, GAP), (height, width))
    sheet.paste(Image.fromarray(legend), (2 * GAP + width, GAP))
    return np.array(sheet)


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def flow_sheet(
    parts: Mapping[str, Part],
    *,
    title: str,
    scale: float | int | None = None,
    height: int = 192,
    columns: int = 4,
    row_labels: Sequence[str] | None = None,
) -> Picture:
    """Captioned pictures and flows in rows; all flows share one scale, which a wheel explains.

    Args:
        parts: by caption: RGB pictures, shown as they are, and flows [2, H, W] in pixels, coloured.
        scale: pixels that get full colour; default: the longest vector of all the flows.
        height: of each part, pixels.
        columns: parts per row, the wheel not counted; it stands at the end of the first row.
        row_labels: one per row, at its left.
    """
    flows = [part for part in parts.values() if isinstance(part, Tensor)]
    if scale is None:
        scale = max((longest_vector(flow) for flow in flows), default=1.0)
    pictures = [
        to_height(flow_to_rgb(part, scale) if isinstance(part, Tensor) else part, height)
        for part in parts.values()
    ]
    starts, captions = range(0, len(parts), columns), list(parts)
    rows = [pictures[k : k + columns] for k in starts]
    texts = [captions[k : k + columns] for k in starts]
    if flows:
        rows[0].append(flow_legend(scale, LEGEND))
        texts[0].append("")
    return grid(rows, texts, title=title, row_labels=row_labels)


def enlarged(picture: Picture, height: int) -> Picture:
    """Scaled up to about `height` pixels by repeating pixels, so that cells stay visible."""
    times = max(1, round(height / picture.shape[0]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
