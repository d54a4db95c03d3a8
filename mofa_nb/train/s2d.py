"""Train the sparse-to-dense network with its discrete loss (paper section 3.2)."""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mofa_nb.clips.scenes import SceneBatch
from mofa_nb.flow.resize import resize_flow, resize_nearest
from mofa_nb.flow.s2d import S2D, ImageFeatures

First = Float[Tensor, "B 3 H W"]  # first frames, in [0, 1]
Field = Float[Tensor, "N 2 h w"]  # flow in pixels
PIXELS = 1024  # of a field on which it is scored: most of the work is in the bins
NEAR = 4  # pixels of the grid to a hint, where `near_weight` counts


class ClipHints(NamedTuple):
    """Hints of a batch of clips on their own pixels: where, and which flow; elsewhere anything."""

    mask: Bool[Tensor, "B 1 H W"]
    flow: Float[Tensor, "B steps 2 H W"]

    def on_grid(
        self, grid: tuple[int, int], frames: slice | list[int]
    ) -> tuple[Float[Tensor, "N 2 G G"], Float[Tensor, "N 1 G G"]]:
        """Flow and mask on the S2D grid, in its pixels; N = B times the chosen frames. Every hint
        keeps its place: on a coarser grid none falls between two pixels."""
        flow = self.flow[:, frames]
        height, width = flow.shape[-2:]
        clip, _, y, x = self.mask.nonzero(as_tuple=True)
        row, column = y * grid[0] // height, x * grid[1] // width
        scale = flow.new_tensor([grid[1] / width, grid[0] / height])
        hints = flow.new_zeros(*flow.shape[:3], *grid)
        hints[clip, :, :, row, column] = flow[clip, :, :, y, x] * scale
        mask = flow.new_zeros(*flow.shape[:2], 1, *grid)
        mask[clip, :, 0, row, column] = 1
        return hints.flatten(0, 1), mask.flatten(0, 1)


def discrete_loss(
    network: S2D, logits: Float[Tensor, "N K h w"], flow: Field, known: Bool[Tensor, "N 1 h w"]
) -> Float[Tensor, ""]:
    """Cross-entropy over displacement bins; a flow between two bin centres belongs to both.
    Moving pixels count three times: most of a picture usually rests."""
    bins, extent = network.config.bins, network.config.flow_range
    position = ((flow + extent) * (bins / (2 * extent)) - 0.5).clamp(0, bins - 1)
    low = position.floor().clamp(max=bins - 2)
    fraction = (position - low).unsqueeze(2)
    scores = logits.float().unflatten(1, (2, bins)).log_softmax(dim=2)
    index = low.long().unsqueeze(2)
    picked = scores.gather(2, index) * (1 - fraction) + scores.gather(2, index + 1) * fraction
    moving = flow.norm(dim=1, keepdim=True) > 1
    weight = (known * (1 + 2 * moving)).unsqueeze(1).expand_as(picked)
    return -(picked * weight).sum() / weight.sum().clamp(min=1)


def s2d_loss(
    network: S2D, batch: SceneBatch, hints: ClipHints, frames: list[int], epe_weight=0.05,
    near_weight=1,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The discrete loss and the end-point error (of the distribution's mean: the more it weighs,
    the sharper that gets) on the chosen flow frames of a batch. near_weight: how much likelier a
    pixel near a hint is scored than any other."""
    grid, inputs = _inputs(network, batch.frames[:, 0], hints, frames)
    last, mask = network.last_features(*inputs), inputs[-1]
    target = resize_flow(batch.flow[:, frames], grid).flatten(0, 1)[..., ::2, ::2]
    visible = resize_nearest(batch.visible[:, frames].float().flatten(0, 1), grid) > 0.5
    near = F.max_pool2d(mask, 2 * NEAR + 1, stride=2, padding=NEAR).flatten(1)
    places = scored_pixels(1 + (near_weight - 1) * near)
    last, target, sure = (picked(v, places) for v in (last, target, visible[..., ::2, ::2]))
    logits = network.flow_decoder.head(last)
    error = (network.mean(logits.float()) - target).square().sum(1, keepdim=True)
    epe = (error + 1e-6).sqrt()[sure].mean()
    loss = discrete_loss(network, logits, target, sure) + epe_weight * epe
    return loss, {"epe": epe, "still": target.norm(dim=1, keepdim=True)[sure].mean()}


def _inputs(
    network: S2D, first: First, hints: ClipHints, frames: slice | list[int]
) -> tuple[tuple[int, int], tuple[ImageFeatures, Tensor, Tensor]]:
    """The grid, and the network's inputs on it: features and hints once for each frame."""
    grid = (network.config.grid,) * 2
    features = network.image_features(resize_nearest(first, grid))
    flow, mask = hints.on_grid(grid, frames)
    steps = len(flow) // len(first)
    repeated = ImageFeatures(*(f.repeat_interleave(steps, dim=0) for f in features))
    return grid, (repeated, flow, mask)


def scored_pixels(weight: Float[Tensor, "N pixels"]) -> Int[Tensor, "N P"]:
    """Different pixels of each field, drawn one by one with chances in proportion to `weight`."""
    keys = torch.rand_like(weight) ** (1 / weight)
    return keys.topk(min(PIXELS, weight.shape[1]), dim=1, sorted=False).indices


def picked(values: Tensor, places: Int[Tensor, "N P"]) -> Tensor:
    """Values [N, C, h, w] at these pixels, [N, C, P, 1]."""
    index = places[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2).gather(2, index).unsqueeze(-1)


@torch.no_grad()
def s2d_flow(network: S2D, first: First, hints: ClipHints) -> Float[Tensor, "B steps 2 H W"]:
    """Dense flow of every clip from its hints, at the clips' own size: what stage 2 trains on."""
    _, inputs = _inputs(network, first, hints, slice(None))
    dense = network(*inputs).float().unflatten(0, (len(first), -1))
    return resize_flow(dense, tuple(first.shape[-2:]))


def mirrored(batch: SceneBatch, hints: ClipHints) -> tuple[SceneBatch, ClipHints]:
    """The same motion seen in a mirror: left and right, up and down, each in every second call."""
    for axis, signs in ((-1, (-1.0, 1.0)), (-2, (1.0, -1.0))):
        if torch.rand(()) < 0.5:
            sign = batch.flow.new_tensor(signs)[:, None, None]
            batch = batch.mapped(lambda value, axis=axis: value.flip(axis))
            batch = replace(batch, flow=batch.flow * sign)
            hints = ClipHints(hints.mask.flip(axis), hints.flow.flip(axis) * sign)
    return batch, hints


def recoloured(frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 H W"]:
    """Most clips in other colours, each in its own: few photographs are to stand for all."""
    count, device = len(frames), frames.device

    def drawn(low: float, high: float, channels: int = 1) -> Float[Tensor, "B 1 C 1 1"]:
        return low + (high - low) * torch.rand(count, 1, channels, 1, 1, device=device)

    swapped = frames.gather(2, drawn(0, 1, 3).argsort(dim=2).expand_as(frames))
    grey = swapped.mean(dim=2, keepdim=True)
    vivid = grey + (swapped - grey) * drawn(0.0, 1.5)
    turned = torch.where(drawn(0, 1) < 0.2, 1 - vivid, vivid).clamp(1e-3, 1)
    toned = turned ** drawn(0.6, 1.6, 3) * drawn(0.6, 1.2, 3) + drawn(-0.1, 0.1, 3)
    return torch.where(drawn(0, 1) < 0.3, frames, toned.clamp(0, 1))


def random_frames(count: int, frames: int, generator: torch.Generator) -> list[int]:
    """`count` different flow frames, always with the last one."""
    rest = torch.randperm(frames - 1, generator=generator)[: count - 1].tolist()
    return sorted([*rest, frames - 1])
