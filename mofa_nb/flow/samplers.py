"""Which few pixels stand for a dense flow: the hint samplers of the paper and of the release, from
a flow (of a clip the last frame's) and a random generator to whole pixels (x, y)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mofa_nb.checks import InputError, choice, finite, shaped, shown, whole_number

STRATEGIES = ("grid", "uniform", "gradient_nms", "watershed", "single", "full")
EDGE = 0.1  # of the strongest: where an edge counts
Generator = np.random.Generator | np.random.RandomState
AnyFlow = Float[Tensor, "*T 2 H W"]  # of a clip, frame 0 -> t, or of its last frame
Points = Int[Tensor, "N 2"]


def sample_points(
    flow: AnyFlow, generator: Generator,
    *, strategy: Sequence[str] | str = ("grid", "watershed"), stride: int = 80,
    window: int = 15, count: int = 25, max_points: int | None = None,
) -> Points:  # fmt: skip
    """Union of the points of one or several `STRATEGIES` (paper: motion-aware sparse sampling), in
    row-major order, without repeats; or of these a random choice of at most `max_points`.

    They draw in the order of that list; a legacy `RandomState` repeats the release draw for draw.
    In pixels: `stride` of "grid" (the release: 80 on its 384 px grid), `window` (odd) of
    "gradient_nms" and "watershed" (no point if still); `count` is of "uniform"."""
    last, rng = last_flow(flow), _rng(generator)
    names = (strategy,) if isinstance(strategy, str) else tuple(strategy)
    for name in names or ("none",):
        choice(name, STRATEGIES, "a sampler")
    draw = {
        "grid": lambda: grid_points(last, stride=stride),
        "uniform": lambda: uniform_points(last, rng, count=count),
        "gradient_nms": lambda: gradient_nms_points(last, rng, window=window),
        "watershed": lambda: watershed_points(last, rng, window=window),
        "single": lambda: single_point(last, rng),
        "full": lambda: full_points(last),
    }
    mask = np.zeros(last.shape[-2:], dtype=bool)
    for name in (name for name in STRATEGIES if name in names):
        x, y = draw[name]().numpy().T
        mask[y, x] = True
    rows_columns = np.argwhere(mask)
    order = rng.permutation(len(rows_columns))  # drawn in any case, as in the release
    if max_points is not None:
        rows_columns = rows_columns[np.sort(order[:max_points])]
    return _points(rows_columns)


def grid_points(flow: AnyFlow, *, stride: int = 80) -> Points:
    """Centred regular grid; a side shorter than the stride gets the one point in its middle."""
    whole_number(stride, 1, 10_000, "the grid's stride")
    sides = last_flow(flow).shape[-2:]
    lines = [np.arange(n % stride // 2, n, stride) for n in sides]
    return _points(np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 2))


def uniform_points(flow: AnyFlow, generator: Generator, *, count: int = 25) -> Points:
    """`count` different pixels, every pixel equally likely."""
    height, width = last_flow(flow).shape[-2:]
    whole_number(count, 1, height * width, "the count of points")
    pixels = np.sort(_rng(generator).permutation(height * width)[:count])
    return _points(np.stack(np.unravel_index(pixels, (height, width)), -1))


def gradient_nms_points(flow: AnyFlow, generator: Generator, *, window: int = 15) -> Points:
    """Strongest point of every motion edge: maxima of the edge map, neighbours eliminated."""
    shrink, edges = motion_edges(flow)
    peaks = _local_maxima(edges, window) & (edges > EDGE)
    return _points(eliminate_neighbours(np.argwhere(peaks), window, _rng(generator)) * shrink)


def watershed_points(flow: AnyFlow, generator: Generator, *, window: int = 15) -> Points:
    """Points farthest from every motion edge (paper: watershed-based sampling); none if still."""
    shrink, edges = motion_edges(flow)
    peaks = _local_maxima(edge_distance(edges), window)
    peaks[[0, -1]] = False
    peaks[:, [0, -1]] = False
    return _points(eliminate_neighbours(np.argwhere(peaks), window, _rng(generator)) * shrink)


def spread_watershed_points(
    flow: AnyFlow, generator: Generator,
    *, count: int, window: int = 15, allowed: Bool[Tensor, "H W"] | None = None,
) -> Points:  # fmt: skip
    """Exactly `count` watershed points, the farthest from edges first, then the most spread; a
    prefix is a smaller sample. InputError where fewer pixels are `allowed`.

    Where watershed finds none an eighth of the shorter side away from all points so far, the next
    is the pixel farthest from these and well inside what moves as one. A pixel of motion counts as
    one of distance."""
    last = last_flow(flow).numpy()
    height, width = last.shape[-2:]
    free = np.ones((height, width), bool) if allowed is None else allowed.numpy().copy()
    whole_number(count, 1, int(free.sum()), "the count of points among allowed pixels")
    inside, points = _inner_distance(flow), []
    x, y = watershed_points(flow, generator, window=window).numpy().T
    watershed = np.zeros_like(free)
    watershed[y, x] = True
    place = np.concatenate([np.mgrid[:height, :width], last]).astype(np.float32)
    nearest = np.full((2, height, width), float(max(height, width)), np.float32)
    for _ in range(count):
        candidates = watershed & free & (nearest[0] >= min(height, width) / 8)
        score = np.where(candidates if candidates.any() else free, nearest[1] * (inside + 1), -1)
        y, x = np.unravel_index(score.argmax(), score.shape)
        points.append((int(y), int(x)))
        free[y, x] = False
        away = np.square(place - place[:, y : y + 1, x : x + 1])
        nearest = np.minimum(nearest, np.sqrt([away[:2].sum(0), away.sum(0)]))
    return _points(np.array(points))


def single_point(flow: AnyFlow, generator: Generator) -> Points:
    """One pixel, drawn among those that move at least half as far as the fastest."""
    speed = torch.linalg.vector_norm(last_flow(flow), dim=0).numpy()
    moving = np.argwhere(speed >= speed.max() / 2)
    return _points(moving[[int(_rng(generator).random() * len(moving))]])


def full_points(flow: AnyFlow) -> Points:
    return _points(np.argwhere(np.ones(last_flow(flow).shape[-2:], bool)))


def motion_edges(flow: AnyFlow) -> tuple[int, Float[np.ndarray, "h w"]]:
    """Sobel magnitude of the flow, x and y parts added, of every so manieth pixel (1 below 800 px),
    scaled to a maximum of 1, or less where the flow varies by less than a hundredth."""
    from skimage.filters import sobel

    field = last_flow(flow).numpy()
    shrink = max(1, max(field.shape[-2:]) // 400)
    edges = sum(sobel(part) for part in field[:, ::shrink, ::shrink])
    return shrink, edges / max(edges.max(), 0.01)


def edge_distance(edges: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Pixels to the nearest motion edge; zero everywhere when there is no edge at all."""
    from scipy.ndimage import distance_transform_edt

    marked = edges > EDGE
    return distance_transform_edt(~marked) if marked.any() else np.zeros(edges.shape)


def eliminate_neighbours(
    rows_columns: Int[np.ndarray, "N 2"], window: int, generator: Generator
) -> Int[np.ndarray, "M 2"]:
    """Of any two points closer than half the window in both directions a coin drops one: above one
    half the first goes, else the second. One uniform number is drawn per pair of surviving points,
    in row-major order of ordered pairs (as in the release)."""
    reach, alive = (window - 1) / 2, np.ones(len(rows_columns), bool)
    for first, point in enumerate(rows_columns):
        near = (np.abs(rows_columns - point) < reach).all(-1)
        near[first] = False
        for second in np.flatnonzero(near):
            if not alive[first]:
                break
            if alive[second]:
                alive[first if generator.random() > 0.5 else second] = False
    return rows_columns[alive]


def last_flow(flow: AnyFlow) -> Float[Tensor, "2 H W"]:
    """Flow of the last frame on the CPU, checked: two finite components per pixel."""
    flow = torch.as_tensor(shaped(flow, "2 H W|T 2 H W", "the flow of a sampler"))
    last = (flow if flow.ndim == 3 else flow[-1]).detach().float().cpu()
    return finite(last, "the flow", "estimate it again or mask the clip")


def _inner_distance(flow: Tensor) -> np.ndarray:
    """Distance to motion edges and to the picture's border, at most an eighth of its side."""
    shrink, edges = motion_edges(flow)
    height, width = flow.shape[-2:]
    distance = edge_distance(edges).repeat(shrink, 0).repeat(shrink, 1)[:height, :width] * shrink
    ys, xs = np.arange(height), np.arange(width)
    border = np.minimum(np.minimum(ys, ys[::-1])[:, None], np.minimum(xs, xs[::-1])[None])
    reach = max(1.0, min(height, width) / 8)
    if not distance.any():
        distance = np.full((height, width), reach)
    return np.minimum(np.minimum(distance, border), reach) / reach


def _local_maxima(values: np.ndarray, window: int) -> np.ndarray:
    from scipy.ndimage import maximum_filter

    if window < 1 or window % 2 == 0:
        raise InputError(f"the window must be an odd number of pixels, but {window} came")
    return (values == maximum_filter(values, size=window, mode="reflect")) & (values > 0)


def _points(rows_columns: np.ndarray) -> Points:
    return torch.from_numpy(np.ascontiguousarray(rows_columns[:, ::-1])).long()


def _rng(generator: object) -> Generator:
    if not isinstance(generator, Generator):
        expected = "this sampler draws at random: pass np.random.default_rng(seed)"
        raise InputError(f"{expected}, but {shown(generator)} came")
    return generator
