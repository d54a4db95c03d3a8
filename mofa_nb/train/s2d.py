"""Train the sparse-to-dense network with its discrete loss (paper section 3.2)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mofa_nb.resize import resize_flow, resize_nearest
from mofa_nb.s2d import S2D, ImageFeatures
from mofa_nb.scenes import SceneBatch


def discrete_loss(
    network: S2D,
    logits: Float[Tensor, "N channels h w"],
    flow: Float[Tensor, "N 2 h w"],
    known: Bool[Tensor, "N 1 h w"],
) -> Float[Tensor, ""]:
    """Cross-entropy over displacement bins; a flow between two bin centres belongs to both.

    Moving pixels count three times: most of a picture usually rests.
    """
    bins, extent = network.config.bins, network.config.flow_range
    position = ((flow + extent) * (bins / (2 * extent)) - 0.5).clamp(0, bins - 1)
    low = position.floor().clamp(max=bins - 2)
    share = (position - low).unsqueeze(2)
    scores = logits.float().unflatten(1, (2, bins)).log_softmax(dim=2)
    index = low.long().unsqueeze(2)
    picked = scores.gather(2, index) * (1 - share) + scores.gather(2, index + 1) * share
    moving = flow.norm(dim=1, keepdim=True) > 1
    weight = (known * (1 + 2 * moving)).unsqueeze(1).expand_as(picked)
    return -(picked * weight).sum() / weight.sum().clamp(min=1)


def s2d_loss(
    network: S2D,
    batch: SceneBatch,
    hints: Bool[Tensor, "B 1 H W"],
    frames: list[int],
    epe_weight: float = 0.05,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The discrete loss and the end-point error on the chosen flow frames of a batch.

    Args:
        hints: pixels of frame 0 whose true flow is given to the network.
        frames: indices of the flow frames to train on.
        epe_weight: the more, the sharper the distribution: its mean is what counts in use.
    """
    grid = (network.config.grid,) * 2
    image = resize_nearest(batch.frames[:, 0], grid)
    flow = resize_flow(batch.flow[:, frames], grid)
    mask = resize_nearest(hints.float(), grid)[:, None].expand(-1, len(frames), -1, -1, -1)
    flow, mask = flow.flatten(0, 1), mask.flatten(0, 1)
    known = resize_nearest(batch.visible[:, frames].float().flatten(0, 1), grid) > 0.5
    features = network.image_features(image)
    repeated = ImageFeatures(*(f.repeat_interleave(len(frames), dim=0) for f in features))
    logits = network.logits(repeated, flow * mask, mask)
    target, sure = flow[..., ::2, ::2], known[..., ::2, ::2]
    error = (network.decode(logits.float()) - target).square().sum(1, keepdim=True)
    epe = (error + 1e-6).sqrt()[sure].mean()
    loss = discrete_loss(network, logits, target, sure) + epe_weight * epe
    return loss, {"epe": epe, "still": target.norm(dim=1, keepdim=True)[sure].mean()}


@torch.no_grad()
def s2d_flow(network: S2D, batch: SceneBatch, hints: Bool[Tensor, "B 1 H W"]) -> Tensor:
    """Dense flow of every clip from its hints, at the clips' own size: what stage 2 trains on."""
    grid, size = (network.config.grid,) * 2, batch.frames.shape[-2:]
    steps = batch.flow.shape[1]
    image = resize_nearest(batch.frames[:, 0], grid)
    flow = resize_flow(batch.flow, grid).flatten(0, 1)
    mask = resize_nearest(hints.float(), grid).repeat_interleave(steps, dim=0)
    features = network.image_features(image)
    repeated = ImageFeatures(*(f.repeat_interleave(steps, dim=0) for f in features))
    dense = network(repeated, flow * mask, mask)
    return resize_flow(dense.float().unflatten(0, (-1, steps)), tuple(size))


def random_frames(count: int, frames: int, generator: torch.Generator) -> list[int]:
    """`count` different flow frames, always with the last one."""
    rest = torch.randperm(frames - 1, generator=generator)[: count - 1].tolist()
    return sorted([*rest, frames - 1])
