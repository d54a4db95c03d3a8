"""Layers to frames, flow and visibility, by looking backwards through each layer's motion."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import Rows
from mofa_nb.clips.scenes.motions import Bend, Points, Pose


@dataclass(frozen=True)
class SceneBatch(Rows):
    """Clips whose motion is known exactly."""

    frames: Float[Tensor, "B T 3 H W"]  # [0, 1]
    flow: Float[Tensor, "B T-1 2 H W"]  # of frame-0 pixels (dx, dy), frame 0 -> frame t
    visible: Bool[Tensor, "B T-1 1 H W"]  # that pixel is still in the frame and not covered
    layers: Int[Tensor, "B H W"]  # 0 is the background, higher numbers are nearer

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Layer:
    """One layer of some of the batch's scenes: a picture, a place, and a motion.

    A frame-0 point p (pixels from the canvas centre) lies at raster pixel centre + offset + zoom p.
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

    def forward(self, points: Float[Tensor, "H W 2"]) -> Points:
        """Where frame-0 points stand in each frame."""
        frames = self.pose.shift.shape[1]
        still = points.expand(len(self.scenes), frames, *points.shape)
        return self.pose.apply(still if self.bend is None else self.bend.forward(still))

    def look(self, points: Points, channels: slice) -> Float[Tensor, "n T C H W"]:
        """The raster's channels at these points of each frame (bilinear)."""
        origin = self.pose.inverse().apply(points)
        if self.bend is not None:
            origin = origin - self.bend.displacement(origin)
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
    """Frames of (H, W) `size`, exact flow and visibility of layers sorted from far to near."""
    points = canvas_points(*size, layers[0].raster.device)
    frames = points.new_zeros(batch, num_frames, 3, *size)
    owner = torch.zeros_like(frames[:, 0, 0], dtype=torch.long)  # which layer shows at frame 0
    for layer in layers:
        scenes = layer.scenes
        seen = layer.look(points.expand(len(scenes), num_frames, *points.shape), slice(None))
        if layer.depth == 0:
            frames[scenes] = seen
            continue
        colour, alpha = seen[:, :, :3], seen[:, :, 3:]
        below = frames[scenes]
        frames[scenes] = below + alpha * (colour - below)
        owner[scenes] = torch.where(alpha[:, 0, 0] >= 0.5, layer.depth, owner[scenes])
    place = points.new_zeros(batch, num_frames, *size, 2)  # of each frame-0 pixel
    for layer in layers:
        own = (owner[layer.scenes] == layer.depth)[:, None, :, :, None]
        place[layer.scenes] = torch.where(own, layer.forward(points), place[layer.scenes])
    visible = (place.abs() <= place.new_tensor([size[1] / 2, size[0] / 2])).all(-1)
    for layer in layers:
        if layer.depth > 0:
            alpha = layer.look(place[layer.scenes], slice(3, 4))[:, :, 0]
            behind = (owner[layer.scenes] < layer.depth)[:, None]
            visible[layer.scenes] &= ~((alpha >= 0.5) & behind)
    flow = (place[:, 1:] - points).permute(0, 1, 4, 2, 3).contiguous()
    return SceneBatch(frames.clamp_(0, 1), flow, visible[:, 1:, None], owner)
