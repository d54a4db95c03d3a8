"""How much a few hints tell about a moving scene, and what S2D and a warp make of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch, scene
from mofa_nb.clips.scenes.recipe import MIX, SEEDS, held_out_tiles, suits
from mofa_nb.flow import S2D, nearest_flow, thin_plate_flow
from mofa_nb.flow.samplers import spread_watershed_points, uniform_points
from mofa_nb.flow.sparse import Flow, Hints, hints_from_flow, hints_from_paths
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.session import Session
from mofa_nb.show.drawing import draw_tracks
from mofa_nb.show.layout import Limit, Picture, flow_sheet
from mofa_nb.study.metrics import epe, probe_points

METHODS = ("S2D", "thin plate", "nearest hint", "no motion")
RELEASE_GRID, RELEASE_WINDOW, RELEASE_STRIDE = 384, 15, 80  # pixels
FURTHER_SEEDS = 2001  # scenes beyond the fixed 32 are the suitable ones from here on
Progress = Callable[[str, int, int], None]  # what is done, how many of how many
Point = tuple[float | int, float | int]
Counts = Sequence[int]
Motions = Mapping[str, Motion]
Errors = dict[str, Float[np.ndarray, "scenes counts"]]  # by the name of the method


def scaled_window(side: int) -> int:
    """The release's neighbourhood of 15 px on its 384 px grid, for pictures of `side` px; odd."""
    return 2 * round((RELEASE_WINDOW - 1) / 2 * side / RELEASE_GRID) + 1


def scaled_stride(side: int) -> int:
    """The release's grid of one point every 80 px of 384, for pictures of `side` px."""
    return max(1, round(RELEASE_STRIDE * side / RELEASE_GRID))


def single_hint(point: Point, vector: Point, grid: tuple[int, int], steps: int = 1) -> Hints:
    """One pixel (x, y) of the grid (height, width) that moves by `vector`, in equal steps."""
    time = torch.linspace(0, 1, steps + 1)[:, None]
    path = torch.tensor(point, dtype=torch.float32) + time * torch.tensor(vector).float()
    return hints_from_paths(path[None], grid)


def explained_energy(flow: Float[Tensor, "2 H W"], points: Int[Tensor, "N 2"]) -> float:
    """The share of a flow's energy (sum of squared lengths) that a few of its vectors carry, if
    every pixel is given the nearest: 1 is the whole flow, 0 no better than no motion at all."""
    guess = nearest_flow(hints_from_flow(flow[None], points))[0]
    energy = flow.square().sum()
    return float(1 - (flow - guess).square().sum() / energy) if energy > 0 else 1.0


def carried_energy(flows: Iterable[Flow], counts: Counts, rng: np.random.Generator) -> Errors:
    """`explained_energy` of so many points by three samplers, each sample drawn for its number. The
    grid has as many points along one side as along the other, so `counts` are squares."""
    energies: dict[str, list] = {"watershed": [], "uniform": [], "grid": []}
    for flow in flows:
        side = flow.shape[-1]
        spread = spread_watershed_points(flow, rng, count=max(counts), window=scaled_window(side))
        points = {"watershed": [spread[:k] for k in counts]}
        points["uniform"] = [uniform_points(flow, rng, count=k) for k in counts]
        points["grid"] = [probe_points((side, side), round(k**0.5)) for k in counts]
        for name, samples in points.items():
            energies[name].append([explained_energy(flow[-1], sample) for sample in samples])
    return {name: np.array(values) for name, values in energies.items()}


def quiet(what: str, done: int, total: int) -> None: ...


def two_frame_scenes(number: int, side: int, *, progress: Progress = quiet) -> SceneBatch:
    """First and last frame of held-out scenes, `side` pixels square: the benchmark's 32, then
    further ones that would have been fit for it."""
    photos, scenes = held_out_tiles(), []
    for seed in chain(SEEDS, count(FURTHER_SEEDS)):
        one = scene(seed, photos, 2, (side, side), MIX)
        if seed in SEEDS or suits(one):
            scenes.append(one)
            progress("scenes made", len(scenes), number)
        if len(scenes) == number:
            break
    return SceneBatch.joined(scenes)


@torch.no_grad()
def hint_errors(
    s2d: S2D, scenes: SceneBatch, counts: Counts, *, seed: int = 0, progress: Progress = quiet
) -> Errors:
    """End-point error against exact flow as watershed hints grow, by `METHODS`: pixels of the grid,
    mean over all pixels of frame 0. scenes: two frames each, of the size of the S2D grid. counts:
    numbers of hints; a larger sample contains the smaller ones."""
    errors: dict[str, list] = {name: [] for name in METHODS}
    for number in range(len(scenes)):
        image, flow = scenes.frames[number, :1], scenes.flow[number, -1:]
        hints = growing_hints(flow, counts, seed + number)
        for name, dense in dense_guesses(s2d, image, hints).items():
            errors[name].append([epe(each[None], flow) for each in dense])
        progress("scenes measured", number + 1, len(scenes))
    return {name: np.array(values) for name, values in errors.items()}


def growing_hints(flow: Flow, counts: Counts, seed: int) -> Hints:
    """Hints at the first so many watershed points of a flow; its steps once for each count."""
    rng, window = np.random.default_rng(seed), scaled_window(flow.shape[-1])
    points = spread_watershed_points(flow, rng, count=max(counts), window=window)
    samples = [hints_from_flow(flow, points[:count]) for count in counts]
    return Hints(torch.cat([s.flow for s in samples]), torch.cat([s.mask for s in samples]))


@torch.no_grad()
def dense_guesses(s2d: S2D, image: Float[Tensor, "1 3 G G"], hints: Hints) -> dict[str, Flow]:
    """What S2D and plain interpolation make of N hint fields on one image, by `METHODS`: [N, 2, G,
    G], pixels of the grid."""
    like = next(s2d.parameters())
    features = s2d.image_features(image.to(like))
    alone = [Hints(f[None], m[None]) for f, m in zip(hints.flow, hints.mask, strict=True)]
    return {
        "S2D": s2d(features, hints.flow.to(like), hints.mask.to(like)).float().cpu(),
        "thin plate": torch.cat([thin_plate_flow(each) for each in alone]),
        "nearest hint": torch.cat([nearest_flow(each) for each in alone]),
        "no motion": torch.zeros_like(hints.flow),
    }


def flow_spread(s2d: S2D, logits: Float[Tensor, "N channels h w"]) -> Float[Tensor, "N 2 h w"]:
    """Standard deviation of S2D's distribution along x and y, in pixels of the grid."""
    probability, centres = s2d.probabilities(logits), s2d.bin_centres(logits).view(-1, 1, 1)
    mean = (probability * centres).sum(2, keepdim=True)
    return (probability * (centres - mean).square()).sum(2).sqrt()


def drag_sheet(
    session: Session, motions: Motions, *, title: str, scale: Limit = None, height: int = 140
) -> Picture:
    """A column per drawing (a single one gets a row): tracks, flow and warp of the last frame.
    motions: in pixels of the session's picture, by caption. scale: pixels of motion that get full
    colour; default: the longest of all."""
    one, columns = len(motions) == 1, len(motions) if len(motions) > 1 else 3
    flows = {name: session.dense_flow(motion, num_frames=2) for name, motion in motions.items()}
    parts = {name: draw_tracks(session.image, m, min_side=256) for name, m in motions.items()}
    parts |= {"flow" if one else f"flow: {name}": flow[-1] for name, flow in flows.items()}
    for name, flow in flows.items():
        parts["warped" if one else f"warped: {name}"] = session.warp_preview(flow)[-1]
    return flow_sheet(parts, title=title, scale=scale, height=height, columns=columns)
