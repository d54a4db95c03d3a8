"""Figures as tables: medians with quartiles and counts, on the screen and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np

from mofa_nb.checks import whole_file

Results = list[dict[str, dict[str, float]]]  # per scene, by row of the table, by score
Columns = Mapping[str, tuple[str, int]]  # by score: heading, digits


@dataclass(frozen=True)
class Check:
    """A figure to reach; NaN never reaches its bound."""

    what: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def asked(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.bound:g}"

    @property
    def reached(self) -> bool:
        """Whether the value keeps to it."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def checks_table(checks: Sequence[Check]) -> str:
    """Every figure with its bound, and whether it is reached."""
    rows = [[c.what, f"{c.value:.2f}", c.asked, "yes" if c.reached else "NO"] for c in checks]
    return table("Reached?", ["", "median", "bound", ""], rows)


def checks_figures(checks: Sequence[Check]) -> dict[str, dict]:
    """The same for a JSON file."""
    return {c.what: {"value": c.value, "bound": c.asked, "reached": c.reached} for c in checks}


def column(results: Results, row: str, key: str) -> list[float]:
    """One score over all scenes."""
    return [scores[row][key] for scores in results if row in scores]


def median(results: Results, row: str, key: str) -> float:
    """Median of a score over the scenes where it is defined; NaN if there are none."""
    return summary(column(results, row, key)).get("median", nan)


def scores_table(
    title: str, what: str, results: Results, rows: Sequence[str], columns: Columns
) -> str:
    """Median and quartiles of every score of every row."""
    header = [what, *(name for name, _ in columns.values())]
    lines = [
        [row, *(cell(column(results, row, key), digits) for key, (_, digits) in columns.items())]
        for row in rows
    ]
    return table(title, header, lines)


def scores_figures(names: Sequence[str], results: Results, rows: Sequence[str]) -> dict:
    """Summaries by row and score, and every scene's scores, for a JSON file."""
    found = {
        row: {key: summary(column(results, row, key)) for key in results[0][row]} for row in rows
    }
    scores = dict(zip(names, results, strict=True))
    return {"n": len(names), "rows": found, "scenes": scores}


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Count, mean, median and quartiles of the values that are numbers.

    Infinite values count in median and quartiles and make the mean infinite.
    """
    known = np.array([value for value in values if not np.isnan(value)], np.float64)
    if not len(known):
        return {"n": 0}
    method = "linear" if np.isfinite(known).all() else "nearest"
    low, median, high = (float(v) for v in np.quantile(known, (0.25, 0.5, 0.75), method=method))
    return {"n": len(known), "mean": float(known.mean()), "q1": low, "median": median, "q3": high}


def cell(values: Sequence[float], digits: int = 2) -> str:
    """median [q1, q3] as text; a dash where there is nothing."""
    figures = summary(values)
    if not figures["n"]:
        return "-"
    median, low, high = (figures[key] for key in ("median", "q1", "q3"))
    if np.isposinf(low):
        return "inf"
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first flush left, the others flush right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = row
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        return "  ".join([first.ljust(widths[0]), *cells]).rstrip()

    ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([title, ruler, line(header), ruler, *(line(row) for row in rows), ruler])


def write_json(path: Path, content: Mapping) -> None:
    """Write figures; the file appears complete or not at all. NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return None if np.isnan(value) else "inf" if np.isinf(value) else round(value, 5)
    return value
