"""How a rendered clip moves: random expression, head, gaze and camera curves."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.clips.draws import Painter, Rows
from mofa_nb.faces.mesh import EXPRESSIONS

# in the order of EXPRESSIONS: chance that it moves, how far it typically goes
ACTIVITY = (
    *((0.7, 0.65), (0.45, 0.7), (0.2, 0.6), (0.35, 0.6), (0.25, 0.6), (0.3, 0.6)),  # mouth
    *((0.4, 0.7), (0.25, 0.7)),  # brows
    *((0.0, 0.0), (0.0, 0.0), (0.15, 0.7)),  # eyelids; blinks have their own curves
)


@dataclass(frozen=True)
class FaceCurves(Rows):
    """Everything that changes over a clip."""

    strengths: Float[Tensor, "B T 11"]  # of mesh.EXPRESSIONS
    degrees: Float[Tensor, "B T 3"]  # yaw, pitch, roll
    shift: Float[Tensor, "B T 2"]  # of the whole person, cm (x right, y up)
    gaze: Float[Tensor, "B T 2"]  # of the eyeballs, cm
    camera: Float[Tensor, "B T 3"]  # pan x, y (of the shorter side), zoom factor minus 1


def still_curves(batch: int, num_frames: int) -> FaceCurves:
    """A neutral face that does not move; a start for hand-made curves (`dataclasses.replace`)."""
    widths = (len(EXPRESSIONS), 3, 2, 2, 3)
    return FaceCurves(*(torch.zeros(batch, num_frames, w) for w in widths))


# strengths, and (yaw, pitch, roll) in degrees, at the end of the evaluation's clips
EVALUATION = {
    "mouth opens": ({"jaw_open": 1.0}, (9.0, 0.0, 0.0)),
    "smiles with raised brows": ({"smile": 1.0, "jaw_open": 0.3, "brows_up": 1.0}, (0.0, 7.0, 4.0)),
    "eyes close": ({"blink_right": 1.0, "blink_left": 1.0}, (0.0, -8.0, 5.0)),
    "turns to the right": ({}, (20.0, 0.0, 0.0)),
    "turns to the left and up": ({"jaw_open": 0.4}, (-16.0, 8.0, 0.0)),
    "tilts and speaks": ({"jaw_open": 0.7, "pucker": 0.5}, (0.0, 0.0, 12.0)),
}


def evaluation_curves(num_frames: int) -> dict[str, FaceCurves]:
    """Six motions that a warp alone cannot make, eased over the clip; one row each."""
    share = torch.linspace(0, 1, num_frames)
    share = (share * share * (3 - 2 * share))[None, :, None]
    made = {}
    for name, (strengths, degrees) in EVALUATION.items():
        target = torch.tensor([strengths.get(name, 0.0) for name in EXPRESSIONS])
        moved = {"strengths": share * target, "degrees": share * torch.tensor(degrees)}
        made[name] = replace(still_curves(1, num_frames), **moved)
    return made


def random_curves(painter: Painter, num_frames: int) -> FaceCurves:
    """Talking, single expressions, blinks and head turns; some clips stay still, few pan."""
    device, channels = painter.device, len(ACTIVITY)
    moves = 1 - painter.chance(0.05, 1)
    gate, reach = torch.tensor(ACTIVITY, device=device).unbind(1)
    start = painter.uniform(0, 1, channels) * reach * 0.7
    start = start * (painter.uniform(0, 1, channels) < gate * 0.45) * painter.chance(0.6, 1)
    active = (painter.uniform(0, 1, channels) < gate).float() * moves
    size = painter.uniform(0.35, 1.35, channels) * reach
    size = torch.where(start > 0.45 * reach, -size, size)
    change = (active * size)[..., None] * _motion(painter, num_frames, channels, talk=0.5)
    strengths = (start[..., None] + change).clamp(0, 1).transpose(1, 2)
    strengths[..., 8:10] = _blinks(painter, num_frames) * moves[..., None]
    spread = torch.tensor((8.0, 5.0, 3.5), device=device)
    turn = torch.tensor((11.0, 7.0, 6.0), device=device)
    first = (painter.normal(3) * spread).clamp(-18, 18)
    turning = painter.normal(3) * turn * (painter.uniform(0, 1, 3) < 0.65) * moves
    path = turning.clamp(-24, 24)[..., None] * _motion(painter, num_frames, 3, talk=0.3)
    degrees = (first[..., None] + path).transpose(1, 2)

    def drift(channels: int, size: float | int, chance: float | int) -> Tensor:
        amount = painter.normal(channels) * size * painter.chance(chance, 1) * moves
        return (amount[..., None] * _motion(painter, num_frames, channels, 0.3)).transpose(1, 2)

    camera, shift = drift(3, 0.035, 0.2), drift(2, 0.7, 0.6)
    gaze = drift(2, 0.18, 0.5).clamp(-0.45, 0.45)
    return FaceCurves(strengths, degrees, shift, gaze, camera)


def _motion(painter: Painter, num_frames: int, channels: int, talk: float | int) -> Tensor:
    """[B, C, T] paths that start at 0: a step with soft ends, or (share `talk`) waves."""
    time = torch.linspace(0, 1, num_frames, device=painter.device)
    begin = painter.uniform(0, 0.5, channels, 1) * painter.chance(0.5, 1, 1)
    step = ((time - begin) / painter.uniform(0.35, 1.0, channels, 1)).clamp(0, 1)
    step = step * step * (3 - 2 * step)
    waves = 0.0
    for size in (0.6, 0.4):
        speed = painter.uniform(0.7, 3.5, channels, 1)
        waves = waves + size * (0.5 - 0.5 * torch.cos(2 * torch.pi * speed * time))
    return torch.lerp(step, waves, painter.chance(talk, 1, 1))


def _blinks(painter: Painter, num_frames: int) -> Tensor:
    """[B, T, 2]: a quick blink, a slow closing or opening, or nothing; now and then a wink."""
    time = torch.linspace(0, 1, num_frames, device=painter.device)
    centre, width = painter.uniform(0.15, 1.0, 1), painter.uniform(0.05, 0.12, 1)
    quick = torch.exp(-(((time - centre) / width) ** 2))
    slow = ((time - painter.uniform(0, 0.4, 1)) / painter.uniform(0.3, 0.8, 1)).clamp(0, 1)
    slow = slow * painter.uniform(0.5, 1.0, 1)
    opening = 1 - slow / slow.amax(1, keepdim=True).clamp(min=1e-3)
    opening = opening * painter.uniform(0.4, 1, 1)
    kind = painter.uniform(0, 1, 1)
    both = torch.where(kind < 0.4, quick, torch.where(kind < 0.55, slow, torch.zeros_like(slow)))
    both = torch.where(kind > 0.95, opening, both)
    wink = painter.chance(0.06)
    sides = torch.stack([torch.ones_like(wink), 1 - wink], -1)
    return (both[..., None] * sides[:, None]).clamp(0, 1)
