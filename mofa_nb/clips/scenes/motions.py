"""How a layer moves: poses (similarity per frame) and bends (smooth, non-rigid), both exact."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mofa_nb.clips.draws import Dice, Rows

ROUNDS = 12  # of the fixed-point iteration; bends contract by 0.6 or faster
Points = Float[Tensor, "n T H W 2"]  # pixels (x, y) from the canvas centre, in each frame


@dataclass(frozen=True)
class Pose(Rows):
    """Forward map of frame-0 points, q = matrix p + shift, in pixels from the canvas centre."""

    matrix: Float[Tensor, "n T 2 2"]
    shift: Float[Tensor, "n T 2"]

    def apply(self, points: Points) -> Points:
        """Where the points stand in each frame."""
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
        """The backward map."""
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
    """A smooth displacement that grows in time: u(a) = window(a) (drag + turn + wave).

    Rendering looks backwards, p = a - u(a); the forward map a = p + u(a) is iterated."""

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


def progress(dice: Dice, count: int, num_frames: int) -> Float[Tensor, "n T"]:
    """Smooth curves from 0, mostly to 1: steady, eased, late, or swinging back."""
    s = torch.linspace(0, 1, num_frames, device=dice.device).expand(count, -1)
    rest = dice.uniform((count, 1), 0.1, 0.4)
    late = ((s - rest) / (1 - rest)).clamp(0, 1)
    swing = (s * dice.uniform((count, 1), 0.8, 1.7) * torch.pi).sin()
    curves = [s, s * s * (3 - 2 * s), s.square(), 1 - (1 - s).square(), late.square(), swing]
    return dice.one_of(curves, (0.38, 0.22, 0.11, 0.11, 0.06, 0.12))


def pose_about(
    centre: Float[Tensor, "n 2"],
    shift: Float[Tensor, "n T 2"],
    angle: Float[Tensor, "n T"],
    growth: Float[Tensor, "n T"],
) -> Pose:
    """Turn (radians) and scale (e to the growth) about a centre, then shift (pixels)."""
    cos, sin, scale = angle.cos(), angle.sin(), growth.exp()
    rows = [torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)]
    matrix = torch.stack(rows, -2) * scale[..., None, None]
    moved = (matrix * centre[:, None, None, :]).sum(-1)
    return Pose(matrix, centre[:, None] - moved + shift)


def curved_shift(
    dice: Dice, reach: Float[Tensor, "n 2"], curve: Float[Tensor, "n T"]
) -> Float[Tensor, "n T 2"]:
    """A path that ends at `reach` pixels; a third of the paths are arcs."""
    count = len(reach)
    bow = dice.uniform((count, 1), -0.45, 0.45) * dice.chance((count, 1), 0.35)
    across = torch.stack([-reach[:, 1], reach[:, 0]], -1) * bow
    arc = 4 * curve * (1 - curve)
    return curve[..., None] * reach[:, None] + arc[..., None] * across[:, None]


def object_poses(
    dice: Dice, centre: Float[Tensor, "n 2"], num_frames: int, unit: float, still: float = 0.1
) -> Pose:
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


def random_bends(
    dice: Dice, centre: Float[Tensor, "n 2"], num_frames: int, unit: float, waves: float = 0.35
) -> Bend:
    """Soft drags of a region (some with a turn), and a share `waves` of swaying ones.

    Steepness is kept below 0.6, so the forward iteration converges and nothing folds."""
    count = len(centre)
    radius = dice.log_uniform((count, 1), 22.0, 58.0) * dice.uniform((count, 2), 0.8, 1.25) * unit
    narrow = radius.amin(-1, keepdim=True)
    curve = progress(dice, count, num_frames)
    is_wave = dice.chance((count, 1), waves).float()
    way = dice.direction(count)
    reach = way * dice.uniform((count, 1), 0.15, 0.46) * narrow * (1 - is_wave)
    turn = dice.uniform((count, 1), -0.12, 0.12) * (1 - is_wave)
    number = dice.uniform((count, 1), 0.05, 0.12) / unit  # wavelengths of 52 to 126 units
    frequency = dice.direction(count) * number
    wavy = way * dice.uniform((count, 1), 0.06, 0.15) / number * is_wave
    speed = dice.uniform((count, 1), 1.0, 4.0)
    speed = speed * (dice.chance((count, 1), 0.5).float() * 2 - 1)
    drag = curved_shift(dice, reach, curve)
    phase = dice.angle((count, 1)) + speed * curve
    return Bend(centre, radius * (1 + is_wave), drag, turn * curve, wavy, frequency, phase)
