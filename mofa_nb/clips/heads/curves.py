"""How a rendered clip moves: random curves of expression, head and gaze."""

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


def still_curves(batch: int, num_frames: int) -> FaceCurves:
    """A neutral face that does not move; a start for hand-made curves (`dataclasses.replace`)."""
    return FaceCurves(*(torch.zeros(batch, num_frames, n) for n in (len(EXPRESSIONS), 3, 2, 2)))


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
    """Talking, single expressions, blinks and head turns; some clips stay still."""
    gate, reach = torch.tensor(ACTIVITY, device=painter.device).unbind(1)
    moves, channels = 1 - painter.chance(0.05, 1), len(ACTIVITY)
    start = painter.uniform(0, 0.7, channels) * reach * painter.chance(0.6, 1)
    start = start * (painter.uniform(0, 1, channels) < gate * 0.45)
    size = painter.uniform(0.35, 1.35, channels) * reach * moves
    size = torch.where(start > 0.45 * reach, -size, size)  # back from where it begins
    size = size * (painter.uniform(0, 1, channels) < gate)
    strengths = start[:, None] + size[:, None] * _paths(painter, num_frames, channels, talk=0.5)
    strengths[..., 8:10] = _blinks(painter, num_frames) * moves[..., None]

    def drift(spread: tuple[float, ...], share: float, most: float) -> Tensor:
        reach = painter.normal(len(spread)) * moves.new_tensor(spread) * moves
        reach = reach.clamp(-most, most) * painter.chance(share, len(spread))
        return reach[:, None] * _paths(painter, num_frames, len(spread), talk=0.3)

    first = (painter.normal(3) * moves.new_tensor((8.0, 5.0, 3.5))).clamp(-18, 18)
    degrees = first[:, None] + drift((11.0, 7.0, 6.0), 0.65, 24.0)
    shift, gaze = drift((0.7, 0.7), 0.6, 3.0), drift((0.18, 0.18), 0.5, 0.45)
    return FaceCurves(strengths.clamp(0, 1), degrees, shift, gaze)


def _paths(painter: Painter, num_frames: int, channels: int, talk: float) -> Tensor:
    """[B, T, C] from 0: a step with soft ends, or (share `talk`) waves."""
    time = torch.linspace(0, 1, num_frames, device=painter.device)[:, None]
    begin = painter.uniform(0, 0.5, 1, channels) * painter.chance(0.5, 1, 1)
    step = ((time - begin) / painter.uniform(0.35, 1.0, 1, channels)).clamp(0, 1)
    speed = 2 * torch.pi * painter.uniform(0.7, 3.5, 2, 1, channels)
    slow, fast = (0.5 - 0.5 * (speed * time).cos()).unbind(1)
    step = step * step * (3 - 2 * step)
    return torch.lerp(step, 0.6 * slow + 0.4 * fast, painter.chance(talk, 1, 1))


def _blinks(painter: Painter, num_frames: int) -> Tensor:
    """[B, T, 2]: a quick blink, a slow closing or opening, or nothing; now and then a wink."""
    time = torch.linspace(0, 1, num_frames, device=painter.device)
    centre, width = painter.uniform(0.15, 1.0, 1), painter.uniform(0.05, 0.12, 1)
    quick = torch.exp(-(((time - centre) / width) ** 2))
    slow = ((time - painter.uniform(0, 0.4, 1)) / painter.uniform(0.3, 0.8, 1)).clamp(0, 1)
    ways = torch.stack([quick, slow, slow.flip(1), 0 * slow], 1) * painter.uniform(0.6, 1, 1, 1)
    kind = painter.dice.pick((painter.batch,), (0.4, 0.15, 0.05, 0.4))
    both = ways[torch.arange(painter.batch, device=kind.device), kind]
    left = 1 - painter.chance(0.06, 1)
    return torch.stack([both, both * left], -1)
