"""Layers, how they move (poses, a similarity per frame, and bends, smooth and not rigid; both
exact), and their way to frames, flow and visibility: by looking backwards through the motion."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import Size
from mofa_nb.clips.draws import Dice, Rows

ROUNDS = 12  # of the fixed-point iteration; bends contract by 0.6 or faster
Points = Float[Tensor, "n T H W 2"]  # pixels (x, y) from the canvas centre, in each frame
Places = Float[Tensor, "n 2"]  # pixels (x, y)
Curves, Ways = Float[Tensor, "n T"], Float[Tensor, "n T 2"]  # a number, or pixels, in each frame


@dataclass(frozen=True)
class Pose(Rows):
    """Forward map of frame-0 points, q = matrix p + shift, in pixels from the canvas centre."""

    matrix: Float[Tensor, "n T 2 2"]
    shift: Float[Tensor, "n T 2"]

    def apply(self, points: Points) -> Points:
        x, y = points.unbind(-1)
        a, d = self.matrix[..., None, None], self.shift[..., None, None]
        moved_x = a[:, :, 0, 0] * x + a[:, :, 0, 1] * y + d[:, :, 0]
        moved_y = a[:, :, 1, 0] * x + a[:, :, 1, 1] * y + d[:, :, 1]
        return torch.stack([moved_x, moved_y], -1)

    def after(self, first: "Pose") -> "Pose":
        """This pose applied to the outcome of `first`; no matmul, so that TF32 cannot enter."""
        matrix = (self.matrix[..., :, :, None] * first.matrix[..., None, :, :]).sum(-2)
        return Pose(matrix, (self.matrix * first.shift[..., None, :]).sum(-1) + self.shift)

    def inverse(self) -> "Pose":
        a, b = self.matrix[..., 0, 0], self.matrix[..., 0, 1]
        c, d = self.matrix[..., 1, 0], self.matrix[..., 1, 1]
        rows = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
        matrix = rows / (a * d - b * c)[..., None, None]
        return Pose(matrix, -(matrix * self.shift[..., None, :]).sum(-1))

    def where(self, mask: Bool[Tensor, " n"], other: "Pose") -> "Pose":
        """This pose in the rows that the mask chooses, the other one elsewhere."""
        matrix = torch.where(mask[:, None, None, None], self.matrix, other.matrix)
        return Pose(matrix, torch.where(mask[:, None, None], self.shift, other.shift))


@dataclass(frozen=True)
class Bend(Rows):
    """A smooth displacement that grows in time: u(a) = window(a) (drag + turn + wave). Rendering
    looks backwards, p = a - u(a); the forward map a = p + u(a) is iterated."""

    centre: Float[Tensor, "n 2"]
    radius: Float[Tensor, "n 2"]  # of the Gaussian window, per axis, in pixels
    drag: Float[Tensor, "n T 2"]  # pixels
    turn: Float[Tensor, "n T"]  # small-angle rotation about the centre, radians
    wave: Float[Tensor, "n 2"]  # pixels
    frequency: Float[Tensor, "n 2"]  # radians per pixel
    phase: Float[Tensor, "n T"]  # radians; the wave counts from the first frame

    def displacement(self, points: Points) -> Points:
        """u at the points, in pixels; zero everywhere in frame 0."""

        def spread(values: Tensor) -> Tensor:  # n [T] [2] -> n T 1 1 [2]
            return values[:, :, None, None] if values.ndim > 2 else values[:, None, None, None]

        offset, first = points - spread(self.centre), self.phase[:, :1, None, None]
        window = (-(offset / spread(self.radius)).square().sum(-1)).exp()
        argument = (points * spread(self.frequency)).sum(-1) + first
        moved = argument + (self.phase[..., None, None] - first)
        height = (moved.sin() - argument.sin())[..., None]
        turn = self.turn[..., None, None]
        across = torch.stack([-turn * offset[..., 1], turn * offset[..., 0]], -1)
        return window[..., None] * (spread(self.drag) + across + height * spread(self.wave))

    def forward(self, points: Points) -> Points:
        """Solve a = p + u(a) by fixed-point iteration."""
        moved = points
        for _ in range(ROUNDS):
            moved = points + self.displacement(moved)
        return moved


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
    """One layer of some of the batch's scenes: a picture, a place, and a motion. A frame-0 point p
    (pixels from the canvas centre) lies at raster pixel centre + offset + zoom p."""

    depth: int
    scenes: Int[Tensor, " n"]
    raster: Float[Tensor, "n C S S"]  # RGB, and alpha for all but the background
    zoom: Float[Tensor, " n"]
    offset: Float[Tensor, "n 2"]
    pose: Pose
    bend: Bend | None = None

    def __getitem__(self, index: Int[Tensor, " m"]) -> "Layer":
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
            self.raster[:, channels], grid.reshape(count, frames * height, width, 2),
            padding_mode="reflection" if self.depth == 0 else "zeros", align_corners=True,
        )  # fmt: skip
        return seen.unflatten(2, (frames, height)).transpose(1, 2)


def canvas_points(height: int, width: int, device: torch.device) -> Float[Tensor, "H W 2"]:
    """Pixel centres, counted from the canvas centre."""
    y = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def render_layers(layers: list[Layer], batch: int, num_frames: int, size: Size) -> SceneBatch:
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


def progress(dice: Dice, count: int, num_frames: int) -> Curves:
    """Smooth curves from 0, mostly to 1: steady, eased, late, or swinging back."""
    s = torch.linspace(0, 1, num_frames, device=dice.device).expand(count, -1)
    rest = dice.uniform((count, 1), 0.1, 0.4)
    late = ((s - rest) / (1 - rest)).clamp(0, 1)
    swing = (s * dice.uniform((count, 1), 0.8, 1.7) * torch.pi).sin()
    curves = [s, s * s * (3 - 2 * s), s.square(), 1 - (1 - s).square(), late.square(), swing]
    return dice.one_of(curves, (0.38, 0.22, 0.11, 0.11, 0.06, 0.12))


def pose_about(centre: Places, shift: Ways, angle: Curves, growth: Curves) -> Pose:
    """Turn (radians) and scale (e to the growth) about a centre, then shift (pixels)."""
    cos, sin, scale = angle.cos(), angle.sin(), growth.exp()
    rows = [torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)]
    matrix = torch.stack(rows, -2) * scale[..., None, None]
    moved = (matrix * centre[:, None, None, :]).sum(-1)
    return Pose(matrix, centre[:, None] - moved + shift)


def curved_shift(dice: Dice, reach: Places, curve: Curves) -> Ways:
    """A path that ends at `reach` pixels; a third of the paths are arcs."""
    count = len(reach)
    bow = dice.uniform((count, 1), -0.45, 0.45) * dice.chance((count, 1), 0.35)
    across = torch.stack([-reach[:, 1], reach[:, 0]], -1) * bow
    arc = 4 * curve * (1 - curve)
    return curve[..., None] * reach[:, None] + arc[..., None] * across[:, None]


def object_poses(dice: Dice, centre: Places, num_frames: int, unit: float, still=0.1) -> Pose:
    """Objects that glide, turn and grow about their `centre` at frame 0; a share `still` rests.
    `unit`: pixels per 1/128 of the canvas' short side; reaches are 4 to 34 units."""
    count = len(centre)
    curve = progress(dice, count, num_frames)
    reach = dice.direction(count) * dice.log_uniform((count, 1), 4.0, 34.0) * unit
    outward = ((reach * centre).sum(-1, keepdim=True) > 0) & dice.chance((count, 1), 0.75)
    moves = ~dice.chance((count, 1), still)
    reach = torch.where(outward, -reach, reach) * moves
    turn = dice.normal((count, 1), 0.22) * dice.chance((count, 1), 0.5) * moves
    growth = dice.normal((count, 1), 0.12).clamp(-0.3, 0.3) * dice.chance((count, 1), 0.35) * moves
    return pose_about(centre, curved_shift(dice, reach, curve), turn * curve, growth * curve)


def camera_poses(dice: Dice, count: int, num_frames: int, unit: float, still: float) -> Pose:
    """Camera moves: pan, zoom and a little roll; a share `still` stands."""
    curve = progress(dice, count, num_frames)
    moves = ~dice.chance((count, 1), still)
    reach = dice.direction(count) * torch.tensor([1.0, 0.6], device=dice.device)
    reach = reach * dice.log_uniform((count, 1), 2.0, 24.0) * unit * moves
    roll = dice.normal((count, 1), 0.08) * dice.chance((count, 1), 0.3) * moves
    zoom = dice.normal((count, 1), 0.14).clamp(-0.3, 0.35) * dice.chance((count, 1), 0.45) * moves
    centre = dice.normal((count, 2), 20 * unit)
    return pose_about(centre, curved_shift(dice, reach, curve), roll * curve, zoom * curve)


def random_bends(dice: Dice, centre: Places, num_frames: int, unit: float, waves=0.35) -> Bend:
    """Soft drags of a region (some with a turn), and a share `waves` of swaying ones.
    Steepness is kept below 0.6, so the forward iteration converges and nothing folds."""
    count = len(centre)
    radius = dice.log_uniform((count, 1), 22.0, 58.0) * dice.uniform((count, 2), 0.8, 1.25) * unit
    narrow = radius.amin(-1, keepdim=True)
    curve = progress(dice, count, num_frames)
    is_wave = dice.chance((count, 1), waves).float()
    direction = dice.direction(count)
    reach = direction * dice.uniform((count, 1), 0.15, 0.46) * narrow * (1 - is_wave)
    turn = dice.uniform((count, 1), -0.12, 0.12) * (1 - is_wave)
    number = dice.uniform((count, 1), 0.05, 0.12) / unit  # wavelengths of 52 to 126 units
    frequency = dice.direction(count) * number
    wavy = direction * dice.uniform((count, 1), 0.06, 0.15) / number * is_wave
    speed = dice.uniform((count, 1), 1.0, 4.0)
    speed = speed * (dice.chance((count, 1), 0.5).float() * 2 - 1)
    drag = curved_shift(dice, reach, curve)
    phase = dice.angle((count, 1)) + speed * curve
    return Bend(centre, radius * (1 + is_wave), drag, turn * curve, wavy, frequency, phase)
