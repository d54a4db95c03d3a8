"""Hair, neck and shoulders: what surrounds a rendered head."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.faces.mesh import OVAL

NECK_COLUMNS, NECK_ROWS = 12, 4
TORSO_COLUMNS, TORSO_ROWS = 15, 5
SHEET_COLUMNS, SHEET_ROWS = 9, 4


@dataclass(frozen=True)
class Hair:
    """Per clip: volume in cm, reach around the head in oval steps (0 to 18), fringe in [0, 1],
    uneven outline per oval vertex, length of the hair behind the neck in cm (0: none)."""

    volume: Float[Tensor, " B"]
    reach: Float[Tensor, " B"]
    fringe: Float[Tensor, " B"]
    outline: Float[Tensor, "B 36"]
    length: Float[Tensor, " B"]


def hair_shell(
    oval: Float[Tensor, "B T 36 3"], skull: Float[Tensor, "B T 144 3"], hair: Hair
) -> Float[Tensor, "B T 180 3"]:
    """A shell over the skull down to `reach`; where there is none it hides inside the skull."""
    step = torch.arange(len(OVAL), device=oval.device)
    from_top = torch.minimum(step, len(OVAL) - step).to(oval.dtype)
    cover = (hair.reach[:, None] - from_top).clamp(0, 1)[:, None, :, None]  # B 1 36 1
    rings = skull.unflatten(2, (4, len(OVAL))).unbind(2)
    centre = oval.new_tensor((0.0, 0.5, -3.0))
    puff = (hair.volume[:, None] * (1 + hair.outline))[:, None, :, None]
    top = (1 - from_top / 7).clamp(min=0)[None, None, :, None]
    fringe = hair.fringe[:, None, None, None] * top
    bangs = oval + (centre - oval) * oval.new_tensor((0.22, 0.3, 0.0)) * fringe
    bangs = bangs + oval.new_tensor((0, 0, 0.45))

    def raised(ring: Tensor, gain: float | int) -> Tensor:
        outward = ring - centre
        outward = outward / outward.norm(dim=-1, keepdim=True)
        return ring + outward * (0.25 + puff * gain)

    shell = [bangs, raised(rings[0], 0.45), raised(rings[1], 0.9), raised(rings[2], 1.0)]
    shell.append(raised(rings[3], 0.8))
    hidden = [centre + (ring - centre) * 0.9 for ring in (rings[1], *rings)]
    blended = [torch.lerp(b, a, cover) for a, b in zip(shell, hidden, strict=True)]
    return torch.cat(blended, 2)


def neck(neutral: Float[Tensor, "B 468 3"]) -> Float[Tensor, "B V 3"]:
    """Front half of a cylinder, wider at the shoulders."""
    jaw = (neutral[:, 397, 0] - neutral[:, 172, 0]) / 2  # B
    chin = neutral[:, 152, 1]
    angle = torch.linspace(-0.15, 1.15, NECK_COLUMNS, device=neutral.device) * math.pi
    rows = []
    for drop, grow in ((3.0, 0.8), (-1.2, 0.8), (-5.5, 0.85), (-9.5, 1.1)):
        radius = (jaw * grow)[:, None]
        x = -radius * angle.cos()
        y = (chin + drop)[:, None].expand_as(x)
        z = -4.0 + radius * 0.9 * angle.sin()
        rows.append(torch.stack([x, y, z], -1))
    return torch.cat(rows, 1)


def torso(neutral: Float[Tensor, "B 468 3"]) -> Float[Tensor, "B V 3"]:
    """Chest and shoulders, running out of the picture below."""
    chin = neutral[:, 152, 1][:, None]
    x = torch.linspace(-1, 1, TORSO_COLUMNS, device=neutral.device)
    slope = 4.2 * x.abs() ** 1.3 + 9 * (x.abs() - 0.86).clamp(min=0) / 0.14
    collar = -1.6 * torch.exp(-((x / 0.22) ** 2))
    rows = []
    for drop, z, flat in ((0.0, -4.5, 1.0), (0.5, -1.0, 1.0), (3.0, 1.4, 0.9), (12.0, 3.0, 0.5)):
        y = chin - 5.2 - drop - slope * flat + (collar if drop else 0.0)
        rows.append(torch.stack([(x * 23).expand_as(y), y, torch.full_like(y, z)], -1))
    last = rows[-1] - neutral.new_tensor((0, 70.0, 0))
    return torch.cat([*rows, last], 1)


def hair_sheet(neutral: Float[Tensor, "B 468 3"], hair: Hair) -> Float[Tensor, "B V 3"]:
    """Hair behind the neck; of no height where the clip has none."""
    x = torch.linspace(-1, 1, SHEET_COLUMNS, device=neutral.device)
    half = (neutral[:, 454, 0] - neutral[:, 234, 0])[:, None] / 2
    rows = []
    for row in range(SHEET_ROWS):
        down = row / (SHEET_ROWS - 1)
        width = half * (1.05 + 0.12 * math.sin(down * math.pi)) + hair.volume[:, None] * 0.7
        y = 2.0 - hair.length[:, None] * down + 0 * x
        z = -6.0 + 1.5 * down - 1.5 * x**2 + 0 * y
        rows.append(torch.stack([x * width, y, z], -1))
    return torch.cat(rows, 1)
