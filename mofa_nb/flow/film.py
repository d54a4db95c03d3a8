"""The motion of a film as tracks, to move another picture by: of points in it, or of its camera."""

from collections.abc import Callable
from functools import partial
from itertools import islice

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import File, InputError, choice, whole_number
from mofa_nb.flow.optical_flow import Estimator, as_frames, clip_flows, visible
from mofa_nb.media.video import Frame, Frames, first_cut, frame_rate, video_frames
from mofa_nb.motion.camera import grid_centres
from mofa_nb.motion.formats import PointTracks
from mofa_nb.motion.motion import Motion

MOST_FRAMES = 241  # followed, unless fewer are asked for
LONG_SIDE = 512  # pixels; larger films are followed at this size
NOISE = 0.5  # pixels of the followed film that count as no motion
FEWEST_AGREEING = 8  # points from which a camera's motion is believed
CAMERA_POINTS = 400  # corners that it is made out from

Places = Float[np.ndarray, "N 2"]  # pixels (x, y)
Tracker = Callable[[Float[Tensor, "T 3 H W"], Places], tuple]
# Where learned trackers plug in: frames in [0, 1] and pixels (x, y) of the first one, to paths
# [N, T, 2] and whether each point is visible [N, T].
TRACKERS: dict[str, Tracker] = {}


def film_motion(
    film: File | Frames, points: int | Places = 64, *, at: str = "grid", camera: bool = False,
    method: str | Estimator = "dis", num_frames: int | None = None,
) -> tuple[Motion, tuple[str, ...]]:  # fmt: skip
    """Tracks of points that are followed through a film, in its size, and notes on those lost.

    `points`: pixels (x, y) of the first frame, or how many `at` a "grid" or the strongest
    "corners"; with `camera` they move as its motion alone has it. `method`: of `TRACKERS` or of
    `clip_flow`. `num_frames`: follow so many, by default 241. InputError: a cut, one frame,
    no point, or a camera that cannot be made out."""
    most = MOST_FRAMES if num_frames is None else whole_number(num_frames, 2, 10_000, "num_frames")
    is_file, notes = isinstance(film, File), []
    stream = video_frames(film) if is_file else iter(film)
    frames = list(islice(stream, most))
    if num_frames is None and next(stream, None) is not None:
        notes.append(f"only the first {most} frames of the film were followed")
    if len(frames) < 2:
        raise InputError(f"a film needs two or more frames, but {len(frames)} came")
    size = frames[0].shape[1::-1]
    if (factor := LONG_SIDE / max(size)) < 1:
        small = round(size[0] * factor), round(size[1] * factor)
        frames = [cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames]
    frames = np.stack(frames)
    if (cut := first_cut(frames)) is not None:
        raise InputError(f"the film has a cut at frame {cut}: trim it to one shot")
    clip, scale = as_frames(frames), np.array(size) / frames.shape[2:0:-1]
    grid = _starts(frames[0], points, at, scale)
    starts = _corners(frames[0], CAMERA_POINTS) if camera else grid
    paths, seen = TRACKERS.get(method, partial(track_points, method=method))(clip, starts)
    paths, seen = np.asarray(paths), np.asarray(seen)
    if camera:
        paths, seen = camera_paths(paths, seen, grid)
    tracks = PointTracks(paths * scale, seen, frame_rate(film) if is_file else None)
    motion, lost = tracks.to_motion(size, tolerance=NOISE * float(scale.max()))
    return motion, (*notes, *lost)


def track_points(
    clip: Float[Tensor, "T 3 H W"], starts: Places, method: str | Estimator
) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
    """Points moved by the dense flow frame 0 -> t, visible where the way back leads home."""
    forward, backward = clip_flows(clip, method)
    maps = torch.cat([forward, visible(forward, backward).float()], 1)
    height, width = clip.shape[-2:]
    where = torch.as_tensor(starts, dtype=torch.float32) / torch.tensor([width, height]) * 2 - 1
    where = where.to(maps)[None, None].expand(len(maps), -1, -1, -1)
    samples = functional.grid_sample(maps, where, padding_mode="border", align_corners=False)
    moved = samples[:, :, 0].permute(2, 0, 1).cpu().numpy()  # N T-1 3
    paths = np.concatenate([starts[:, None], starts[:, None] + moved[..., :2]], 1)
    seen = np.concatenate([np.ones((len(starts), 1), bool), moved[..., 2] > 0.5], 1)
    return paths, seen


def camera_paths(
    paths: Float[np.ndarray, "N T 2"], seen: Bool[np.ndarray, "N T"], grid: Float[np.ndarray, "M 2"]
) -> tuple[Float[np.ndarray, "M T 2"], Bool[np.ndarray, "M T"]]:
    """How a camera moves the grid: by the homography that most of the points agree on."""
    moved, valid = [grid], [True]
    for t in range(1, paths.shape[1]):
        both = seen[:, 0] & seen[:, t]
        homography, agree = None, np.zeros(0)
        if both.sum() >= FEWEST_AGREEING:
            pair = paths[both, 0], paths[both, t]
            homography, agree = cv2.findHomography(*pair, cv2.USAC_MAGSAC, 2 * NOISE)
        valid.append(homography is not None and agree.sum() >= FEWEST_AGREEING)
        moved.append(cv2.perspectiveTransform(grid[None], homography)[0] if valid[-1] else grid)
    if not any(valid[1:]):
        what = f"the camera's motion cannot be made out from {len(paths)} points"
        raise InputError(f"{what}: use a film that shows more of what rests, or more points")
    return np.stack(moved, 1), np.tile(valid, (len(grid), 1))


def _starts(first: Frame, points: int | np.ndarray, at: str, scale: np.ndarray) -> Places:
    if not isinstance(points, int):
        starts = np.asarray(points, np.float64).reshape(-1, 2) / scale
        if not len(starts) or (starts < 0).any() or (starts >= first.shape[1::-1]).any():
            raise InputError("points must lie inside the film's first frame: move them there")
        return starts
    count = whole_number(points, 1, 10_000, "points")
    if choice(at, ("grid", "corners"), "the place of points") == "corners":
        return _corners(first, count)
    height, width = first.shape[:2]
    return grid_centres((0, 0, width, height), (width * height / count) ** 0.5)


def _corners(first: Frame, count: int) -> Places:
    apart = 0.5 * (first[..., 0].size / count) ** 0.5
    corners = cv2.goodFeaturesToTrack(cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), count, 0.01, apart)
    if corners is None:
        raise InputError("the film's first frame shows no corner to follow: use a grid")
    return corners[:, 0].astype(np.float64) + 0.5
