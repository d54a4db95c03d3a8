"""How well S2D turns hints into dense flow: `python -m tests.benchmarks.evaluate_s2d`.

End-point error against exact flow in the last frame of held-out scenes, where motion is largest,
for growing numbers of watershed hints, beside interpolation of the same hints (thin-plate spline,
nearest) and no motion at all. Notebook 02 makes the same measurement (`mofa_nb.study.hints`).
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from mofa_nb.models.load import load_models
from mofa_nb.show.charts import curves
from mofa_nb.study.hints import METHODS, hint_errors, two_frame_scenes
from tests.benchmarks.options import model_options
from tests.benchmarks.report import summary, table, write_json
from tests.benchmarks.strips import save_picture

COUNTS = (1, 5, 10, 25, 50, 100)
Errors = dict[str, np.ndarray]  # by method: [scenes, counts]


def show(errors: Errors, counts: tuple[int, ...]) -> str:
    """The table: mean (lower, upper quartile) over scenes per method and number of hints."""
    rows = []
    for k, count in enumerate(counts):
        figures = {m: summary(errors[m][:, k].tolist()) for m in METHODS}
        wins = (errors["S2D"][:, k] < errors["thin plate"][:, k]).mean()
        ratio = figures["S2D"]["mean"] / figures["no motion"]["mean"]
        cells = [
            f"{figures[m]['mean']:.2f} ({figures[m]['q1']:.2f}, {figures[m]['q3']:.2f})"
            for m in METHODS
        ]
        rows.append([str(count), *cells, f"{ratio:.2f}", f"{wins:.0%}"])
    header = ["hints", *METHODS, "S2D / still", "S2D beats plate"]
    scenes = len(errors["S2D"])
    title = f"S2D on {scenes} held-out scenes, last frame: EPE in px, mean (quartiles over scenes)"
    return table(title, header, rows)


def verdict(errors: Errors, column: int) -> str:
    """One line: is S2D below thin-plate interpolation, and below 0.35 of no motion?"""
    mean = {m: errors[m][:, column].mean() for m in METHODS}
    share = mean["S2D"] / mean["no motion"]
    plate = "below" if mean["S2D"] < mean["thin plate"] else "NOT below"
    still = "below" if share < 0.35 else "NOT below"
    return (
        f"With 25 hints S2D is {plate} thin-plate interpolation "
        f"({mean['S2D']:.2f} against {mean['thin plate']:.2f} px) and {still} 0.35 of no motion's "
        f"error ({share:.2f})."
    )


def draw_curve(errors: Errors, counts: tuple[int, ...], path: Path) -> None:
    """EPE against the number of hints: means, quartiles as bands."""
    lines = {m: (counts, errors[m].mean(0)) for m in METHODS}
    bands = {m: np.quantile(errors[m], (0.25, 0.75), axis=0) for m in METHODS[:2]}
    title = f"S2D against interpolation, {len(errors['S2D'])} held-out scenes"
    labels = {"x_label": "hints", "y_label": "end-point error, pixels"}
    chart = curves(lines, bands=bands, title=title, log_x=True, dashed=["no motion"], **labels)
    save_picture(path, chart)


def main() -> None:
    parser = model_options(__doc__)
    parser.add_argument("--scenes", type=int, default=64, metavar="N")
    parser.add_argument("--hints", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the curve there")
    given = parser.parse_args()
    models, counts = load_models(given.model, given.device), tuple(sorted(given.hints))
    with tqdm(total=2 * given.scenes, unit="scene") as bar:
        how = {"progress": lambda stage, done, total: bar.update()}
        scenes = two_frame_scenes(given.scenes, models.s2d.config.grid, **how)
        errors = hint_errors(models.s2d, scenes, counts, **how)
    print(f"model {models.name}, weights {models.hash}")
    print(show(errors, counts))
    if 25 in counts:
        print(verdict(errors, counts.index(25)))
    if given.json:
        by_count = {
            m: {c: summary(errors[m][:, k].tolist()) for k, c in enumerate(counts)} for m in METHODS
        }
        write_json(given.json, {"model": models.name, "hash": models.hash, "epe": by_count})
    if given.figure:
        draw_curve(errors, counts, given.figure)


if __name__ == "__main__":
    main()
