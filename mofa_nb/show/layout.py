"""Pictures put together: captions, rows, grids, filmstrips, heat maps, the flow legend. Every sheet
has its own white margin and dark text, so that it reads on light and dark pages."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate, zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mofa_nb.show.colours import flow_to_rgb, longest_vector, wheel_picture

PAPER, INK, FAINT, HAIRLINE = (255, 255, 255), (32, 34, 40), (120, 124, 134), (214, 217, 223)
GAP = 8  # pixels between pictures
LEGEND = 112  # pixels
FONT_SIZE = 14  # pixels: legible at 1x

Picture = UInt8[np.ndarray, "_ _ 3"]  # [height, width, RGB]
Frames = UInt8[np.ndarray, "T H W 3"]
Parts = Mapping[str, Picture | Float[Tensor, "2 _ _"]]
Captions = Sequence[str] | None
Number = float | int
Limit = Number | None


@lru_cache
def font(size: int = FONT_SIZE, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The plain sans-serif font that comes with matplotlib."""
    fonts = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / f"DejaVuSans{'-Bold' * bold}.ttf"), size)


def paper(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def with_caption(image: Picture, text: str) -> Picture:
    """The picture with its caption beneath, centred, wrapped to the picture's width."""
    height, width = image.shape[:2]
    lines, step = wrapped(text, width), FONT_SIZE + 5
    if not lines:
        return image
    sheet, draw = paper(width, height + 5 + len(lines) * step)
    sheet.paste(Image.fromarray(image), (0, 0))
    for k, line in enumerate(lines):
        draw.text((width / 2, height + 5 + k * step), line, INK, font(), anchor="ma")
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
    rows: Sequence[Sequence[Picture]], captions: Sequence[Sequence[str]] | None = None,
    *, row_labels: Sequence[str] = (), title: str = "", cell_height: int | None = None,
) -> Picture:  # fmt: skip
    """Rows, of any lengths, of pictures of any sizes on white paper. captions: one per picture,
    beneath it ("" for none). row_labels: one per row, at its left. cell_height: scale every picture
    to this height in pixels (bicubic)."""
    pictures = [[p if cell_height is None else to_height(p, cell_height) for p in r] for r in rows]
    captions = [[""] * len(row) for row in rows] if captions is None else captions
    pairs = zip(pictures, captions, strict=True)
    cells = [[with_caption(*one) for one in zip(*row, strict=True)] for row in pairs]
    widths = [max(p.shape[1] for p in c if p is not None) for c in zip_longest(*cells)]
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    xs, ys = ([0, *accumulate(s + GAP for s in sides)] for sides in (widths, heights))
    labels = [wrapped(text, 110) for text in row_labels]
    left = GAP + int(max((font().getlength(t) + GAP for lines in labels for t in lines), default=0))
    header = wrapped(title, left + xs[-1] - GAP, FONT_SIZE + 2)
    top = GAP + (len(header) * (FONT_SIZE + 8) + 4 if header else 0)
    sheet, draw = paper(left + xs[-1], top + ys[-1])
    for k, line in enumerate(header):
        draw.text((GAP, GAP + k * (FONT_SIZE + 8)), line, INK, font(FONT_SIZE + 2, True))
    for lines, y in zip(labels, ys, strict=False):
        for k, line in enumerate(lines):
            draw.text((GAP, top + y + k * (FONT_SIZE + 4)), line, INK, font())
    for row, plain, y in zip(cells, pictures, ys, strict=False):
        for cell, picture, x in zip(row, plain, xs, strict=False):
            sheet.paste(Image.fromarray(cell), (left + x, top + y))
            height, width = picture.shape[:2]  # the hairline leaves the caption out
            corner = left + x + width, top + y + height
            draw.rectangle((left + x - 1, top + y - 1, *corner), outline=HAIRLINE)
    return np.array(sheet)


def side_by_side(
    images: Sequence[Picture], captions: Captions = None, *, title: str = "", height: int = 0
) -> Picture:
    """One row of pictures, all scaled to `height` (default: the tallest one's)."""
    height = height or max(image.shape[0] for image in images)
    return grid([images], captions and [captions], title=title, cell_height=height)


def filmstrip(frames: Frames, *, count: int = 7, title: str = "", height: int = 0) -> Picture:
    """`count` evenly spaced frames in a row with their numbers, first and last included; by default
    of their own height, but at least 128 pixels."""
    index = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    height = height or max(128, frames.shape[1])
    return side_by_side(frames[index], [f"frame {k}" for k in index], title=title, height=height)


def to_height(image: Picture, height: int) -> Picture:
    """Scaled to `height` pixels, keeping its shape (bicubic)."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def heat_map(
    values: Float[np.ndarray, "H W"], *, low: Limit = None, high: Limit = None, height: int = 0
) -> Picture:
    """Numbers as colours, with a bar that says what they mean; NaN is shown in grey. low, high: the
    ends of the bar (default: the smallest and largest finite value), the same where pictures should
    compare. height: in pixels (default: at least 128); scaled by nearest pixel."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    low = float(finite.min() if finite.size else 0) if low is None else float(low)
    high = float(finite.max() if finite.size else 1) if high is None else float(high)
    tall = height or max(128, values.shape[0])
    wide = max(1, round(values.shape[1] * tall / values.shape[0]))
    rows = np.arange(tall) * values.shape[0] // tall
    columns = np.arange(wide) * values.shape[1] // wide
    ramp = np.linspace(high, low, tall)[:, None].repeat(12, axis=1)
    numbers = (high, (low + high) / 2, low)
    ticks = ["0" if abs(v) < 1e-3 * (high - low) else f"{v:.3g}" for v in numbers]
    sheet, draw = paper(wide + GAP + 17 + int(max(map(font(12).getlength, ticks))), tall)
    colours = ScalarMappable(Normalize(low, high), colormaps["viridis"].with_extremes(bad="#aaa"))
    for part, x in ((values[rows][:, columns], 0), (ramp, wide + GAP)):
        sheet.paste(Image.fromarray(colours.to_rgba(part, bytes=True)[..., :3].copy()), (x, 0))
    for text, y, anchor in zip(ticks, (0, tall / 2, tall), ("la", "lm", "ld"), strict=True):
        draw.text((wide + GAP + 17, y), text, INK, font(12), anchor=anchor)
    return np.array(sheet)


def flow_legend(scale: float | int) -> Picture:
    """The colour wheel; beneath, the length `scale` in pixels that gets full colour."""
    sheet, draw = paper(LEGEND, LEGEND + 20)
    sheet.paste(Image.fromarray(wheel_picture(LEGEND)), (0, 0))
    middle = LEGEND / 2
    draw.line((middle - 4, middle, middle + 4, middle), FAINT)
    draw.line((middle, middle - 4, middle, middle + 4), FAINT)
    draw.text((middle, LEGEND + 4), f"edge {scale:.3g} px", INK, font(11), anchor="ma")
    return np.array(sheet)


def flow_sheet(
    parts: Parts, *, title: str, scale: Limit = None, height: int = 192, columns: int = 4
) -> Picture:
    """Captioned pictures and flows in rows; all flows share one scale, which a wheel explains.

    parts: by caption, RGB pictures, shown as they are, and flows [2, H, W] in pixels, coloured.
    scale: pixels that get full colour; default: the longest vector of all the flows. columns:
    parts per row, without the wheel, which stands at the end of the first row."""
    flows = [part for part in parts.values() if isinstance(part, Tensor)]
    if scale is None:
        scale = max(map(longest_vector, flows), default=1.0)
    drawn = [flow_to_rgb(p, scale) if isinstance(p, Tensor) else p for p in parts.values()]
    pictures, places = [to_height(p, height) for p in drawn], range(0, len(parts), columns)
    rows, texts = ([row[k : k + columns] for k in places] for row in (pictures, list(parts)))
    if flows:
        rows[0].append(flow_legend(scale))
        texts[0].append("")
    return grid(rows, texts, title=title)


def enlarged(picture: Picture, height: int) -> Picture:
    """Scaled up to about `height` pixels by repeating pixels, so that cells stay visible."""
    times = max(1, round(height / picture.shape[0]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
