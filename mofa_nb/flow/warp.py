"""A photograph moved along a flow: torn where the flow jumps, holes filled from around them; and
which of two things is in front where they land on one pixel, as tracks say by their depth."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mofa_nb.flow.resize import blurred
from mofa_nb.flow.sparse import Flow
from mofa_nb.flow.splat import SplatPlan, splat, splat_plan
from mofa_nb.motion.motion import Motion

THIN = 0.25  # a target pixel that receives less than this of a source pixel is a hole
IN_FRONT = 2.0  # e-folds of weight per pixel of displacement, where several things land on one
FARTHEST = 20.0  # pixels beyond which no more difference is made
TEAR = 1.0  # pixels by which the motion of neighbours differs where a photograph tears
EDGE = 2  # pixels beside a tear that often show both sides, and beyond what can be seen
ALIKE = 0.05  # square pixels by which flows differ that are one motion
RIM_SHARE, SPARSE, REWEIGHTED = 10, 3, 8  # of the shorter side; pixels of the rim; rounds
RIM = 0.8  # sigma in pixels by which the rims of moved things are blurred
BEHIND = 0.2  # of the shorter side: how near what fills a hole lies, and what must not
LOOKED_AT = 4  # frames in which motions are compared
NEARBY = 0.25  # of the longest motion: what a place across the picture counts against a track
STRONGEST = 80.0  # e-folds that float32 holds
AHEAD = 6.0  # e-folds of weight between two things, the far one then shows to a quarter percent

Frames = Float[Tensor, "T 3 H W"]
Ends = tuple[int, int, int, int]  # pixels beyond the picture: left, right, top, bottom
Order = Float[Tensor, "1 H W"]  # how far in front each pixel of frame 0 is
Map, Mask = Float[Tensor, "T 1 H W"], Bool[Tensor, "T 1 H W"]


def forward_warped(
    image: Float[Tensor, "1 3 H W"], flow: Float[Tensor, "1 steps 2 H W"],
    order: Order | None = None,
) -> Frames:  # fmt: skip
    """The image in [-1, 1] where the flow takes it, torn where that jumps, holes inpainted.

    Where things heap up the one in front counts, as `order` says (`depth_order`), else the one that
    moved farther than the picture as a whole: what is dragged usually is (`own_motion`). What one
    motion moves is sampled where it came from, which is sharper than what lands there. What moves
    in at the picture's end goes on beyond it (`padded_pixels`); another hole is filled with what
    something moved away from. Rims are a little soft."""
    height, width = image.shape[-2:]
    steps = flow[0].nan_to_num()
    beyond = own_motion(steps)
    left, _, top, _ = ends = _ahead(steps)
    rows, columns = padded_pixels((_length(beyond) > TEAR).any(0)[0], ends)
    wider = (each[..., rows, columns] for each in (image, flow, steps, beyond))
    image, flow, steps, beyond = wider
    order = None if order is None else order[..., rows, columns]
    own = _length(beyond)
    flow = flow.where(~motion_boundaries(flow, own[None]), flow.new_tensor(float("nan")))
    front = IN_FRONT * own[None]  # the metric for softmax splatting
    if order is not None:  # how far a pixel moves, within its place in the order
        reach = IN_FRONT * FARTHEST
        front = front_weights(order.to(flow) + 0.9 / reach * front, reach)
    channels = [image.expand(len(steps), -1, -1, -1), steps, beyond, beyond.square(), own]
    landed = splat(torch.cat(channels, dim=1), flow[0], "soft", front[0])
    picture, shift, mean, square, length = landed.split((3, 2, 2, 2, 1), dim=1)
    spread = (square - mean.square()).sum(1, keepdim=True)  # of the motions that meet on a pixel
    picture = (torch.where(spread < ALIKE, _sampled_back(image, shift), picture) + 1) / 2
    holes = splat_plan(flow, "sum").coverage()[0] < THIN
    front = in_front(length, holes)
    filled = inpainted(picture, holes[:, 0], unlike=front[:, 0])
    known = _largest_near((holes | front).float(), EDGE) == 0
    around = torch.where(holes, _surroundings(picture, known), picture)
    made = with_soft_rims((filled + around) / 2, length) * 2 - 1  # two guesses miss by less
    return made[..., top : top + height, left : left + width]


def _sampled_back(image: Float[Tensor, "1 3 H W"], shift: Float[Tensor, "T 2 H W"]) -> Frames:
    """What each pixel shows of where it came from, `shift` pixels before."""
    height, width = shift.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    here = torch.stack([x, y]).to(shift)
    last = shift.new_tensor([width - 1, height - 1])
    where = (here - shift).permute(0, 2, 3, 1) * 2 / last - 1
    pictures = image.expand(len(shift), -1, -1, -1)
    how = {"padding_mode": "border", "align_corners": True}
    # On the CPU, since Apple's devices have no such kernel; holes are inpainted there, too.
    found = F.grid_sample(pictures.cpu().to(where.dtype), where.cpu(), "bicubic", **how)
    return found.clamp(-1, 1).to(shift)


def own_motion(flow: Float[Tensor, "T 2 H W"]) -> Float[Tensor, "T 2 H W"]:
    """A flow beyond the picture's own, which is affine in every frame, as most of its rim moves (a
    robust fit by reweighted least squares): a camera moves all, and brings nothing to the front."""
    height, width = flow.shape[-2:]
    across, down = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)
    y, x = torch.meshgrid(down, across, indexing="ij")
    places = torch.stack([torch.ones_like(x), x, y], -1).to(flow.dtype).view(-1, 3)
    rim = torch.ones(height, width, dtype=torch.bool)
    inside = max(2, min(height, width) // RIM_SHARE)
    rim[inside:-inside, inside:-inside] = False
    on_rim = rim.flatten().nonzero()[::SPARSE, 0]
    # A few thousand numbers, fitted on the CPU: not every device solves equations.
    inputs, moved = places[on_rim], flow.flatten(2)[..., on_rim.to(flow.device)].mT.cpu()
    ridge, missed = 1e-6 * torch.eye(3, dtype=flow.dtype), moved  # at first the picture rests
    for _ in range(REWEIGHTED):
        weight = 1 / (0.01 + missed.norm(dim=-1, keepdim=True) ** 1.5)
        normal = (inputs * weight).mT
        fitted = torch.linalg.solve(normal @ inputs + ridge, normal @ moved)
        missed = moved - inputs @ fitted
    return flow - (places @ fitted).mT.unflatten(-1, (height, width)).to(flow)


def _surroundings(picture: Frames, known: Mask) -> Frames:
    """What is known around each pixel, from as far away as it has to come: a pyramid of means."""
    weight = known.to(picture)
    levels = [(picture * weight, weight)]
    while max(levels[-1][1].shape[-2:]) > 1:
        levels.append(tuple(F.avg_pool2d(each, 2, ceil_mode=True) for each in levels[-1]))
    means = levels[-1][0] / levels[-1][1].clamp(min=1e-6)
    for values, weight in reversed(levels[:-1]):
        wider = F.interpolate(means, size=weight.shape[-2:], mode="bilinear")
        means = values + (1 - weight) * wider
    return means


def motion_boundaries(
    flow: Float[Tensor, "1 steps 2 H W"], length: Float[Tensor, "1 steps 1 H W"]
) -> Bool[Tensor, "1 steps 1 H W"]:
    """Pixels with jumps of the flow on both sides (two pixels away, too: resized flow comes in
    pairs), and the nearest ones on the side that moved less far (`length`), which often show some
    of what moved."""
    between = torch.zeros_like(flow[:, :, :1], dtype=torch.bool)
    for dim in (-1, -2):
        jumps = (flow.diff(dim=dim).norm(dim=2, keepdim=True) > TEAR).transpose(dim, -1)
        before = F.pad(jumps, (1, 0)) | F.pad(jumps, (2, -1))
        after = F.pad(jumps, (0, 1)) | F.pad(jumps, (-1, 2))
        between |= (before & after).transpose(dim, -1)
    slow = length < _largest_near(length[0], EDGE)[None] / 2
    return between | (slow & (_largest_near(between[0].float(), EDGE)[None] > 0))


def in_front(landed: Map, holes: Mask) -> Mask:
    """What moved farther, near holes that have something slower near them, too; `landed` says how
    far what lands on a pixel has come, in pixels."""
    farther = landed > (landed.amax((1, 2, 3), keepdim=True) / 2).clamp(min=TEAR)
    reach = round(BEHIND * min(landed.shape[-2:]))
    beside = holes & (_largest_near((~farther & ~holes).float(), reach) > 0)
    return farther & (_largest_near(beside.float(), reach) > 0)


def _ahead(steps: Float[Tensor, "T 2 H W"]) -> Ends:
    """How far what lies at the picture's ends moves in, and a little more."""
    across, down = steps.unbind(1)
    inwards = (across[..., 0], -across[..., -1], down[..., 0, :], -down[..., -1, :])
    farthest = [min(float(end.max()), max(steps.shape[-2:])) for end in inwards]
    return tuple(math.ceil(pixels) + EDGE if pixels > 0 else 0 for pixels in farthest)


def padded_pixels(moving: Bool[Tensor, "H W"], ends: Ends) -> tuple[Tensor, Tensor]:
    """Row and column of the pixel that each of a wider picture shows: beyond the ends the nearest
    one, but `moving` things, cut off there, taper by a pixel on either side with every pixel."""
    from scipy import ndimage

    (height, width), (left, right, top, bottom) = moving.shape, ends
    y, x = np.mgrid[-top : height + bottom, -left : width + right]
    rows, columns = y.clip(0, height - 1), x.clip(0, width - 1)
    cut_off = moving.cpu().numpy()
    still = np.pad(np.zeros((height - 2, width - 2), bool), 1, constant_values=True) & ~cut_off
    if still.any():
        away, nearest = ndimage.distance_transform_edt(~still, return_indices=True)
        depth = np.maximum(abs(y - rows), abs(x - columns))
        ended = cut_off[rows, columns] & (away[rows, columns] <= depth)
        rows, columns = np.where(ended, nearest[:, rows, columns], (rows, columns))
    return torch.from_numpy(rows), torch.from_numpy(columns)


def with_soft_rims(frames: Frames, landed: Map) -> Frames:
    """Frames that are blurred a little where two motions meet: whole pixels make stairs there."""
    jump = _largest_near(landed, 1) + _largest_near(-landed, 1)
    return torch.where(jump > TEAR, blurred(frames, RIM), frames)


def _largest_near(values: Tensor, reach: int) -> Tensor:
    """Largest value up to `reach` pixels away in both directions: rows, then columns."""
    rows = F.max_pool2d(values, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))


def _length(flow: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(flow, dim=-3, keepdim=True)
    return length.nan_to_num().clamp(max=FARTHEST)


def inpainted(
    frames: Frames, holes: Bool[Tensor, "T H W"], *, unlike: Bool[Tensor, "T H W"] | None = None,
) -> Frames:  # fmt: skip
    """Frames in [0, 1], holes filled by OpenCV (Telea) with what is near, but not `unlike`."""
    import cv2

    pictures = (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    masks = holes if unlike is None else holes | unlike

    def fill(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return cv2.inpaint(np.ascontiguousarray(picture), mask, 3.0, cv2.INPAINT_TELEA)

    with ThreadPoolExecutor() as pool:
        filled = np.stack(list(pool.map(fill, pictures, masks.byte().cpu().numpy())))
    filled = torch.from_numpy(filled).permute(0, 3, 1, 2).float() / 255
    return torch.where(holes[:, None], filled.to(frames), frames)


def disoccluded(flow: Flow, seen: Mask) -> Mask:
    """Pixels of frame t that show nothing of frame 0: its visible pixels do not land there."""
    sources = torch.where(seen, flow, torch.nan)
    return splat_plan(sources[None], "sum").coverage()[0] < THIN


def depth_order(motion: Motion, flow: Flow, native: int | None = None) -> Order | None:
    """How far in front each pixel of frame 0 is: 0 for what follows no track, then 1, 2, ...; None
    where no track says its depth (one that says none is at 0).

    A pixel belongs to the track whose motion its own is most like, of two the nearer one, and to
    none where it moves less than half as far; tracks on a brush have what it covers alone."""
    if all(track.depth is None for track in motion.tracks):
        return None
    depths = [track.depth or 0.0 for track in motion.tracks]
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths), reverse=True), start=1)}
    steps = torch.linspace(1, len(flow), LOOKED_AT).round().long().unique()
    paths = motion.paths(len(flow) + 1, native)[: len(depths)].to(flow)
    moved, flow = paths[:, steps] - paths[:, :1], flow[steps - 1]  # N t 2
    height, width = flow.shape[-2:]
    brush = np.zeros((height, width)) if motion.brush is None else motion.brush
    brushed = torch.from_numpy(brush > 0)
    y, x = torch.meshgrid(torch.arange(1.0 * height), torch.arange(1.0 * width), indexing="ij")
    near = NEARBY * float(moved.norm(dim=-1).mean(1).max()) / max(height, width)
    order = torch.zeros(1, height, width)
    least = flow.norm(dim=1).mean(0)  # to follow no track
    starts = paths[:, 0].int().tolist()
    if any(brushed[row, column] for column, row in starts):
        least = least.where(~brushed, torch.inf)
    for (column, row), track_flow, depth in zip(starts, moved, depths, strict=True):
        unlike = (flow - track_flow[..., None, None]).norm(dim=1).mean(0)
        unlike = unlike + near * torch.hypot(x - column, y - row)
        own = (unlike < least) & (brushed == brushed[row, column])
        order[0, own], least = float(ranks[depth]), torch.where(own, unlike, least)
    return order


def front_weights(order: Float[Tensor, "*B 1 H W"], ahead: float = AHEAD) -> Tensor:
    """The metric for softmax splatting (`splat_plan`, "soft"): e-folds of weight, at most 80."""
    return order * min(ahead, STRONGEST / max(float(order.max()), 1.0))


def ordered_splat(
    flow: Float[Tensor, "B T 2 h w"], order: Float[Tensor, "B 1 H W"] | None, stride: int = 1
) -> SplatPlan:
    """The plan that averages what lands on a pixel, or with an order softly picks the front; the
    flow lies on a grid of every `stride`-th pixel of the order's."""
    if order is None:
        return splat_plan(flow)
    metric = front_weights(order.to(flow)[..., ::stride, ::stride])[:, None]
    return splat_plan(flow, "soft", metric.expand(-1, flow.shape[1], -1, -1, -1))
