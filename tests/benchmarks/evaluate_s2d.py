"""How well S2D turns hints into dense flow: `python -m tests.benchmarks.evaluate_s2d`.

End-point error against exact flow on held-out scenes, for growing numbers of watershed hints,
beside interpolation of the same hints (thin-plate spline, nearest) and no motion at all. Every
smaller set of hints is the beginning of the larger one. All pixels and all frames count.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nb.dense import dense_flow, grid_features
from mofa_nb.metrics import epe
from mofa_nb.models import Models, load_models
from mofa_nb.resize import resize_flow
from mofa_nb.samplers import spread_watershed_points
from mofa_nb.scenes.evaluation import SEEDS, held_out_tiles, one_scene, suits
from mofa_nb.sparse import hints_from_flow
from tests.benchmarks.report import summary, table, write_json

COUNTS = (1, 5, 10, 25, 50, 100)
METHODS = ("S2D", "thin plate", "nearest", "zero")
FURTHER_SEEDS = 2001  # scenes beyond the fixed 32 are the suitable ones from here on


def scenes(count: int, size: tuple[int, int], num_frames: int) -> Iterator:
    """Held-out scenes, the benchmark's fixed ones first."""
    photos, given = held_out_tiles(), 0
    for seed in SEEDS[:count]:
        yield one_scene(seed, photos, num_frames, size)
        given += 1
    seed = FURTHER_SEEDS
    while given < count:
        candidate = one_scene(seed, photos, num_frames, size)
        if suits(candidate):
            yield candidate
            given += 1
        seed += 1


def thin_plate(points: torch.Tensor, values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Thin-plate spline through hints, [steps, 2, H, W]; nearest where it is not defined."""
    from scipy.interpolate import RBFInterpolator

    if len(points) < 3:  # a plane needs three
        return nearest(points, values, height, width)
    known = values.permute(0, 2, 1).reshape(len(points), -1).double().numpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an ill-conditioned system
            spline = RBFInterpolator(points.numpy(), known, kernel="thin_plate_spline")
            dense = spline(_pixels(height, width).numpy())
    except (np.linalg.LinAlgError, RuntimeWarning):  # hints on one line
        return nearest(points, values, height, width)
    return torch.from_numpy(dense).float().T.reshape(-1, 2, height, width)


def nearest(points: torch.Tensor, values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Every pixel moves like the nearest hint, [steps, 2, H, W]."""
    owner = torch.cdist(_pixels(height, width).float(), points.float()).argmin(1)
    return values[owner].permute(2, 1, 0).reshape(-1, 2, height, width)


def _pixels(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def scene_errors(models: Models, scene, seed: int, counts: tuple[int, ...]) -> dict:
    """EPE in pixels of the scene by method and number of hints."""
    side, exact = models.s2d.config.grid, scene.flow[0]
    size = tuple(exact.shape[-2:])
    on_grid = resize_flow(exact, (side, side))
    window = 2 * round(7 * side / 384) + 1  # the release: 15 on its 384 px grid
    rng = np.random.default_rng(seed)
    points = spread_watershed_points(on_grid, rng, count=max(counts), window=window)
    values = on_grid[:, :, points[:, 1], points[:, 0]].permute(2, 1, 0)  # N 2 steps
    features = grid_features(models.s2d, scene.frames[0, 0].to(models.device))
    errors: dict = {method: {} for method in METHODS}
    for count in counts:
        chosen, known = points[:count], values[:count]
        hints = hints_from_flow(on_grid, chosen).to(models.device)
        dense = {
            "S2D": dense_flow(models.s2d, features, hints, size).cpu(),
            "thin plate": resize_flow(thin_plate(chosen, known, side, side), size),
            "nearest": resize_flow(nearest(chosen, known, side, side), size),
            "zero": torch.zeros_like(exact),
        }
        for method, flow in dense.items():
            errors[method][count] = epe(flow, exact)
    return errors


def show(errors: list[dict], counts: tuple[int, ...]) -> str:
    """The table: mean (lower, upper quartile) over scenes per method and number of hints."""
    rows = []
    for count in counts:
        by_method = {m: [each[m][count] for each in errors] for m in METHODS}
        figures = {m: summary(values) for m, values in by_method.items()}
        wins = np.mean(np.array(by_method["S2D"]) < np.array(by_method["thin plate"]))
        ratio = figures["S2D"]["mean"] / figures["zero"]["mean"]
        cells = [
            f"{figures[m]['mean']:.2f} ({figures[m]['q1']:.2f}, {figures[m]['q3']:.2f})"
            for m in METHODS
        ]
        rows.append([str(count), *cells, f"{ratio:.2f}", f"{wins:.0%}"])
    header = ["hints", *METHODS, "S2D / zero", "S2D beats plate"]
    title = f"S2D on {len(errors)} held-out scenes: EPE in px, mean (quartiles over scenes)"
    return table(title, header, rows)


def verdict(errors: list[dict], count: int = 25) -> str:
    """One line: is S2D below thin-plate interpolation, and below 0.35 of no motion?"""
    mean = {m: summary([each[m][count] for each in errors])["mean"] for m in METHODS}
    share = mean["S2D"] / mean["zero"]
    plate = "below" if mean["S2D"] < mean["thin plate"] else "NOT below"
    zero = "below" if share < 0.35 else "NOT below"
    return (
        f"With {count} hints S2D is {plate} thin-plate interpolation "
        f"({mean['S2D']:.2f} against {mean['thin plate']:.2f} px) and {zero} 0.35 of the zero "
        f"field's error ({share:.2f})."
    )


def draw_curve(errors: list[dict], counts: tuple[int, ...], path: Path) -> None:
    """EPE against the number of hints: means, quartiles as bands."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for method, colour in zip(METHODS, ("#c8462c", "#3470a2", "#5c8a3a", "#8a8f98"), strict=True):
        figures = [summary([each[method][count] for each in errors]) for count in counts]
        band = [[f[key] for f in figures] for key in ("q1", "q3")]
        axes.plot(counts, [f["mean"] for f in figures], "o-", color=colour, label=method)
        axes.fill_between(counts, *band, color=colour, alpha=0.12, linewidth=0)
    axes.set(xscale="log", ylim=(0, None), xlabel="hints", ylabel="EPE, pixels")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_title(f"S2D against interpolation, {len(errors)} held-out scenes")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=64, metavar="N")
    parser.add_argument("--model", default="mini", help="mini, release or a model folder")
    parser.add_argument("--device", default=None)
    parser.add_argument("--hints", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the curve there")
    given = parser.parse_args()
    models, counts = load_models(given.model, given.device), tuple(sorted(given.hints))
    size = (models.settings.short_side,) * 2
    made = scenes(given.scenes, size, models.settings.num_frames)
    errors = [
        scene_errors(models, scene, seed, counts)
        for seed, scene in enumerate(tqdm(made, total=given.scenes, unit="scene"))
    ]
    print(f"model {models.name}, weights {models.hash}")
    print(show(errors, counts))
    if 25 in counts:
        print(verdict(errors))
    if given.json:
        by_count = {
            m: {c: summary([each[m][c] for each in errors]) for c in counts} for m in METHODS
        }
        write_json(given.json, {"model": models.name, "hash": models.hash, "epe": by_count})
    if given.figure:
        draw_curve(errors, counts, given.figure)


if __name__ == "__main__":
    main()
