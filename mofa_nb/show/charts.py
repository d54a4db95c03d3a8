"""Charts and the method's diagram as RGB arrays on white paper, for light and dark pages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mofa_nb.faces.speech import SpeechCurves
from mofa_nb.media.sound import Sound
from mofa_nb.show.layout import Number, Picture

COLOURS = ("#1f77b4", "#d95f02", "#2a9d55", "#8e44ad", "#666a73", "#c0392b")
SIZE = (6.4, 3.6)  # inches at 100 dots each
# (x, y) of the middle in columns and rows, the words, the file that holds it.
BOXES = {
    "motion": (0, 0, "tracks, landmarks", "motion/"),
    "image": (0, 1, "photograph", "media/"),
    "noise": (0, 2, "noise", "sampling/"),
    "hints": (1, 0, "sparse hints", "flow/sparse.py"),
    "s2d": (2, 0, "S2D (CMP)", "flow/s2d.py"),
    "flow": (3, 0, "dense flow", "flow/dense.py"),
    "reference": (2, 1, "reference encoder\nfour scales", "adapter/adapter.py"),
    "warp": (3, 1, "warping per scale\n(splatting)", "flow/splat.py"),
    "fusion": (4, 1, "fusion encoder\nzero convolutions", "adapter/adapter.py"),
    "svd": (4, 2, "frozen SVD UNet\ns + k · residual", "adapter/unet.py"),
    "clip": (5, 2, "clip", "pipeline/"),
}
ARROWS = (
    *(("motion", "hints"), ("hints", "s2d"), ("image", "s2d"), ("s2d", "flow")),
    *(("image", "reference"), ("reference", "warp"), ("flow", "warp"), ("warp", "fusion")),
    *(("fusion", "svd"), ("noise", "svd"), ("svd", "clip"), ("image", "svd")),
)
# Curves of speech: name, what it says, colour, width of its line.
SPEECH = (
    *(("rounding", "rounding", "#3a9252", 1), ("width", "width", "#266eb8", 1)),
    ("opening", "mouth opening", "#cc3e30", 2),
)
WIDE, HIGH = 0.8, 0.62  # of a box, in columns and rows
INK, FAINT = "#20222b", "#7c8190"

Numbers = Sequence[Number] | np.ndarray
Names = Sequence[str]
Named = Mapping[str, Numbers]
Pairs = Mapping[str, tuple[Numbers, Numbers]]


def curves(
    lines: Pairs, *, bands: Pairs | None = None, log_x: bool = False, from_zero: bool = True,
    top: Number | None = None, dashed: Names = (), **labels: Any,
) -> Picture:  # fmt: skip
    """Lines by name, x and y values of each, with a legend.

    bands: lower and upper y values by name, shaded (for example quartiles). log_x: equal factors
    are equal steps; every x that occurs is written out. from_zero, top: the y axis starts at zero;
    where it ends, and cuts off. dashed: what one compares with. labels: see `titled`."""
    figure, axes = titled(**labels)
    for k, (name, (x, y)) in enumerate(lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        few = len(x) <= 16 and name not in dashed
        style = {"linestyle": "--" if name in dashed else "-", "marker": "o" if few else None}
        axes.plot(x, y, color=colour, label=name, linewidth=2, markersize=4.5, **style)
        if bands and name in bands:
            axes.fill_between(x, *bands[name], color=colour, alpha=0.16, linewidth=0)
    if log_x:
        ticks = sorted({value for x, _ in lines.values() for value in x})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.minorticks_off()
    if from_zero:
        axes.set_ylim(bottom=0, top=top)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure_pixels(figure)


def distributions(x: Numbers, groups: Named, *, lines: Named, around: Number, **labels) -> Picture:
    """Probabilities at places `x` of a number line, one filled outline per group, with vertical
    `lines` in its colour (means); only so much `around` where the probability is, is shown."""
    figure, axes = titled(y_label="probability", **labels)
    x = np.asarray(x)
    for k, (name, values) in enumerate(groups.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.fill_between(x, values, step="mid", color=colour, alpha=0.3, linewidth=0)
        axes.step(x, values, where="mid", color=colour, linewidth=1.4, label=name)
        for place in lines.get(name, ()):
            axes.axvline(place, color=colour, linestyle="--", linewidth=1.4)
    likely = np.max([np.asarray(values) for values in groups.values()], axis=0) > 0.01
    axes.set_xlim(x[likely].min() - around, x[likely].max() + around)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure_pixels(figure)


def matrix(values: np.ndarray, rows: Names, columns: Names, *, bar_label: str, **labels) -> Picture:
    """A heat map with named rows and columns; dark is little, bright is much."""
    figure, axes = titled(**labels)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    drawn = axes.imshow(values, cmap="magma", aspect="auto", vmin=0)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    figure.colorbar(drawn, ax=axes, label=bar_label)
    return figure_pixels(figure)


def speech_picture(sound: Sound, curves: SpeechCurves, *, width: int = 960) -> Picture:
    """Waveform above, the recognised sounds where they are spoken, the curves with a dot a frame,
    and a mark under each blink; seconds along the bottom. Long clips want more pixels of width."""
    figure = Figure(figsize=(width / 100, 2.8), dpi=100, layout="constrained", facecolor="white")
    wave, plot = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    columns = np.linspace(0, len(sound.samples), width, endpoint=False).astype(int)
    low, high = (ends.reduceat(sound.samples, columns) for ends in (np.minimum, np.maximum))
    wave.fill_between(columns / sound.rate, low, high, color=FAINT, linewidth=0.8)
    times = np.arange(len(curves.opening)) / curves.fps
    for name, label, colour, wide in SPEECH:
        look = {"color": colour, "linewidth": wide, "markersize": wide + 1}
        plot.plot(times, np.asarray(getattr(curves, name)), "o-", label=label, **look)
    blinks = times[np.asarray(curves.strengths)[:, -3] > 0.3]
    below = np.full(len(blinks), -0.08)
    plot.plot(blinks, below, "s", color="#966e28", label="blink", markersize=4)
    end = -np.inf  # a letter that would lie on the last one is left out
    for phoneme in curves.phonemes:
        plot.axvline(phoneme.time, color=FAINT, alpha=0.25, linewidth=1)
        half = 0.5 * len(phoneme.symbol) * 9 / width * sound.seconds
        if phoneme.time - half > end:
            end = phoneme.time + half
            plot.text(phoneme.time, 1.08, phoneme.symbol, ha="center", fontsize=9, color=INK)
    beneath = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
    plot.legend(ncols=len(SPEECH) + 1, frameon=False, **beneath)
    for axes in (wave, plot):
        axes.set(xlim=(0, sound.seconds), yticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelcolor=FAINT)
    plot.set_ylim(-0.15, 1.3)
    plot.xaxis.set_major_formatter("{x:g} s")
    return figure_pixels(figure)


def architecture(lit: Sequence[str] = ()) -> Picture:
    """Boxes and arrows of the chain, in the paper's words; those of `BOXES` in `lit` stand out."""
    figure = Figure(figsize=(10.4, 3.5), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, 5.5), ylim=(2.55, -0.4))
    axes.axis("off")
    for begin, end in ARROWS:
        (x0, y0), (x1, y1) = BOXES[begin][:2], BOXES[end][:2]
        side = np.sign(x1 - x0)  # an upright arrow joins the middles
        tail = (x0 + side * WIDE / 4, y0 + HIGH / 2) if y1 > y0 else (x0 + WIDE / 2, y0)
        head = (x1 - WIDE / 2, y1)
        if y0 != y1:  # from above or from below
            head = (x1 - side * WIDE / 4, y1 - np.sign(y1 - y0) * HIGH / 2)
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": FAINT})
    shape = "round,pad=0,rounding_size=0.06"
    plain = {"facecolor": "#f4f5f7", "edgecolor": "#c9ccd4", "linewidth": 1.0}
    bright = {"facecolor": "#fff1cc", "edgecolor": "#d99000", "linewidth": 1.8}
    for name, (x, y, words, file) in BOXES.items():
        corner, paint = (x - WIDE / 2, y - HIGH / 2), bright if name in lit else plain
        axes.add_patch(FancyBboxPatch(corner, WIDE, HIGH, boxstyle=shape, **paint))
        axes.text(x, y - 0.07, words, ha="center", va="center", fontsize=8.5, color=INK)
        axes.text(x, y + 0.19, file, ha="center", va="center", fontsize=7, color=FAINT)
    return figure_pixels(figure)


def titled(title: str, x_label: str, y_label: str = "", size: tuple[Number, Number] = SIZE):
    """A figure of `size` inches, 100 pixels each, and its axes, labelled."""
    figure = Figure(figsize=size, dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def figure_pixels(figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
