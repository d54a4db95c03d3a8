"""Charts as RGB arrays on white paper, so that they read on light and dark pages."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

COLOURS = ("#1f77b4", "#d95f02", "#2a9d55", "#8e44ad", "#666a73", "#c0392b")
SIZE = (6.4, 3.6)  # inches at 100 dots each

Picture = UInt8[np.ndarray, "_ _ 3"]
Numbers = Sequence[float | int] | np.ndarray


def curves(
    lines: Mapping[str, tuple[Numbers, Numbers]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    bands: Mapping[str, tuple[Numbers, Numbers]] | None = None,
    log_x: bool = False,
    from_zero: bool = True,
    top: float | int | None = None,
    dashed: Sequence[str] = (),
    size: tuple[float | int, float | int] = SIZE,
) -> Picture:
    """Lines with their names at a legend.

    Args:
        lines: x and y values by name.
        bands: lower and upper y values by the same names, shaded (for example quartiles).
        log_x: equal factors are equal steps; every x that occurs is written out.
        from_zero: the y axis starts at zero.
        top: where the y axis ends; what lies above is cut off.
        dashed: names drawn as dashed lines (what one compares with).
        size: inches, 100 pixels each.
    """
    figure, axes = _figure(title, x_label, y_label, size)
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
    return rendered(figure)


def distributions(
    x: Numbers,
    groups: Mapping[str, Numbers],
    *,
    title: str,
    x_label: str,
    y_label: str = "probability",
    lines: Mapping[str, Numbers] | None = None,
    around: float | int | None = None,
    size: tuple[float | int, float | int] = SIZE,
) -> Picture:
    """Probabilities over a number line, one filled outline per group.

    Args:
        x: the places.
        groups: probabilities at them, by name.
        lines: places to mark by a vertical line, per group name, in its colour (means).
        around: show only so much to either side of where the probability is.
    """
    figure, axes = _figure(title, x_label, y_label, size)
    x = np.asarray(x)
    for k, (name, values) in enumerate(groups.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.fill_between(x, values, step="mid", color=colour, alpha=0.3, linewidth=0)
        axes.step(x, values, where="mid", color=colour, linewidth=1.4, label=name)
        for place in lines.get(name, ()) if lines else ():
            axes.axvline(place, color=colour, linestyle="--", linewidth=1.4)
    if around is not None:
        likely = np.max([np.asarray(values) for values in groups.values()], axis=0) > 0.01
        axes.set_xlim(x[likely].min() - around, x[likely].max() + around)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return rendered(figure)


def _figure(title: str, x_label: str, y_label: str, size: tuple[float | int, float | int]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_ylabel(y_label, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def rendered(figure) -> Picture:
    """A matplotlib figure as pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    x_label: str,
    bar_label: str,
    size: tuple[float | int, float | int] = SIZE,
) -> Picture:
    """A heat map with named rows and columns; dark is little, bright is much."""
    figure, axes = _figure(title, x_label, "", size)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    drawn = axes.imshow(values, cmap="magma", aspect="auto", vmin=0)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    figure.colorbar(drawn, ax=axes, label=bar_label)
    return rendered(figure)
