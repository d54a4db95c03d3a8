"""Layers to frames, flow and visibility, by looking backwards through each layer's motion."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import Rows
from mofa_nb.clips.scenes.motions import Bend, Pose


@dataclass(frozen=True)
class SceneBatch(Rows):
    """Clips whose motion is known exactly.

    frames in [0, 1]; flow in pixels (dx, dy), frame 0 -> frame t, for every frame-0 pixel;
    visible: that pixel is still in the frame and not covered; layers: 0 is the background,
    higher numbers are nearer.
    """

    frames: Float[Tensor, "B T 3 H W"]
    flow: Float[Tensor, "B T-1 2 H W"]
    visible: Bool[Tensor, "B T-1 1 H W"]
    layers: Int[Tensor, "B H W"]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Layer:
    """One layer of some of the batch's scenes: a picture, a place, and a motion.

    A frame-0 point p (pixels from the canvas centre) lies at raster pixel
    `centre of the raster + offset + zoom p`. Several layers may share a depth when their
    scenes differ.
    """

    depth: int
    scenes: Int[Tensor, " n"]
    raster: Float[Tensor, "n C S S"]  # RGB, and alpha for all but the background
    zoom: Float[Tensor, " n"]
    offset: Float[Tensor, "n 2"]
    pose: Pose
    bend: Bend | None = None

    def __getitem__(self, index: Int[Tensor, " m"]) -> "Layer":
        """Some of the scenes, without their bends."""
        rows = ("scenes", "raster", "zoom", "offset", "pose")
        return Layer(self.depth, *(getattr(self, name)[index] for name in rows))

    def forward(self, points: Float[Tensor, "H W 2"]) -> Float[Tensor, "n T H W 2"]:
        """Where frame-0 points stand in each frame."""
        frames = self.pose.shift.shape[1]
        still = points.expand(len(self.scenes), frames, *points.shape)
        return self.pose.apply(still if self.bend is None else self.bend.forward(still))

    def backward(self, points: Float[Tensor, "n T H W 2"]) -> Float[Tensor, "n T H W 2"]:
        """Which frame-0 points are seen at these points of each frame."""
        before = self.pose.inverse().apply(points)
        return before if self.bend is None else before - self.bend.displacement(before)

    def look(
        self, points: Float[Tensor, "n T H W 2"], channels: slice
    ) -> Float[Tensor, "n T C H W"]:
        """The raster's channels at these points of each frame (bilinear)."""
        origin = self.backward(points)
        side = self.raster.shape[-1]
        scale = (2 / (side - 1)) * self.zoom[:, None, None, None, None]
        grid = origin * scale + (2 / (side - 1)) * self.offset[:, None, None, None]
        count, frames, height, width, _ = grid.shape
        seen = functional.grid_sample(
            self.raster[:, channels],
            grid.reshape(count, frames * height, width, 2),
            padding_mode="reflection" if self.depth == 0 else "zeros",
            align_corners=True,
        )
        return seen.unflatten(2, (frames, height)).transpose(1, 2)


def canvas_points(height: int, width: int, device: torch.device) -> Float[Tensor, "H W 2"]:
    """Pixel centres, counted from the canvas centre."""
    y = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def rendered(layers: list[Layer], batch: int, num_frames: int, size: tuple[int, int]) -> SceneBatch:
    """Frames, exact flow and visibility of layers sorted from far to near.

    Args:
        size: (H, W).
    """
    points = canvas_points(*size, layers[0].raster.device)
    frames, owner = composed(layers, points.new_zeros(batch, num_frames, 3, *size), points)
    place, visible = traced(layers, owner, num_frames, points)
    flow = (place[:, 1:] - points).permute(0, 1, 4, 2, 3).contiguous()
    return SceneBatch(frames, flow, visible[:, 1:, None], owner)


def composed(
    layers: list[Layer], frames: Float[Tensor, "B T 3 H W"], points: Float[Tensor, "H W 2"]
) -> tuple[Float[Tensor, "B T 3 H W"], Int[Tensor, "B H W"]]:
    """Paint the layers over `frames` from far to near; also say which one shows at frame 0."""
    owner = torch.zeros_like(frames[:, 0, 0], dtype=torch.long)
    for layer in layers:
        everywhere = points.expand(len(layer.scenes), frames.shape[1], *points.shape)
        seen = layer.look(everywhere, slice(None))
        if layer.depth == 0:
            frames[layer.scenes] = seen
            continue
        colour, alpha = seen[:, :, :3], seen[:, :, 3:]
        below = frames[layer.scenes]
        frames[layer.scenes] = below + alpha * (colour - below)
        own = owner[layer.scenes]
        owner[layer.scenes] = torch.where(alpha[:, 0, 0] >= 0.5, layer.depth, own)
    return frames.clamp_(0, 1), owner


def traced(
    layers: list[Layer],
    owner: Int[Tensor, "B H W"],
    num_frames: int,
    points: Float[Tensor, "H W 2"],
) -> tuple[Float[Tensor, "B T H W 2"], Bool[Tensor, "B T H W"]]:
    """Each frame-0 pixel's place in every frame, and whether it can be seen there."""
    batch, height, width = owner.shape
    place = points.new_zeros(batch, num_frames, height, width, 2)
    for layer in layers:
        own = (owner[layer.scenes] == layer.depth)[:, None, :, :, None]
        place[layer.scenes] = torch.where(own, layer.forward(points), place[layer.scenes])
    visible = (place.abs() <= place.new_tensor([width / 2, height / 2])).all(-1)
    for layer in layers:
        if layer.depth > 0:
            alpha = layer.look(place[layer.scenes], slice(3, 4))[:, :, 0]
            behind = (owner[layer.scenes] < layer.depth)[:, None]
            visible[layer.scenes] &= ~((alpha >= 0.5) & behind)
    return place, visible
