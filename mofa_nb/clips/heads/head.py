"""Everything around the face skin: eyeballs, mouth, teeth, skull, ears, hair, neck, shoulders.

Parts are grids of vertices in the canonical mesh's centimetres, wrapped around each clip's face.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import TEXTURE, Painter
from mofa_nb.clips.heads.curves import FaceCurves
from mofa_nb.faces import mesh

TILES = ("face", "eye", "mouth", "teeth", "hair", "skin", "cloth")  # of the texture atlas
EYE, EAR = (5, 16), (3, 10)  # rings, spokes
TEETH, NECK, TORSO, SHEET = (2, 9), (4, 12), (5, 15), (4, 9)  # rows, columns
RING = len(mesh.OVAL)


@dataclass(frozen=True)
class HeadTopology:
    """What all rendered heads share; the first 468 vertices are the face's."""

    triangles: Int[Tensor, "F 3"]
    part: Int[Tensor, " F"]
    look: Float[Tensor, "V 2"]  # where a vertex reads the atlas, in [-1, 1] (x, y)
    shade: Float[Tensor, " V"]  # 1 where light acts, 0 where a vertex keeps its colour
    gloss: Float[Tensor, " V"]  # the same for highlights
    dim: Float[Tensor, " V"]  # constant darkening, for the neck under the chin


def grid(rows: int, columns: int, closed: bool = False) -> tuple[Tensor, Tensor]:
    """Triangles [F, 3] and uv [rows * columns, 2] (u along columns) of a grid of vertices."""
    number = torch.arange(rows * columns).view(rows, columns)
    if closed:
        number = torch.cat([number, number[:, :1]], 1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = torch.cat([torch.stack(t, -1).flatten(0, 1) for t in ((a, c, b), (b, c, d))])
    v, u = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
    return triangles, torch.stack([u, v], -1).flatten(0, 1)


def disc(rings: int, spokes: int) -> tuple[Tensor, Tensor]:
    """Grid of rings around a centre (ring 0 has radius 0); uv is planar, centre at (0.5, 0.5)."""
    radius, angle = _polar(rings, spokes)
    flat = torch.stack([radius * angle.cos(), -radius * angle.sin()], -1)
    return grid(rings, spokes, closed=True)[0], 0.5 + 0.5 * flat


def _polar(rings: int, spokes: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Radius in [0, 1] and angle of a disc's vertices, [rings * spokes] each."""
    radius = torch.linspace(0, 1, rings, device=device).repeat_interleave(spokes)
    return radius, torch.arange(spokes, device=device).repeat(rings) / spokes * 2 * math.pi


def joined(
    triangles: Sequence[Tensor], counts: Sequence[int], parts: Iterable[int]
) -> tuple[Tensor, Tensor]:
    """Meshes of so many vertices as one: its triangles, and the numbers of their parts."""
    starts = itertools.accumulate(counts[:-1], initial=0)
    index = torch.cat([each + start for each, start in zip(triangles, starts, strict=True)])
    sizes = torch.tensor([len(each) for each in triangles])
    return index, torch.tensor(list(parts)).repeat_interleave(sizes)


@functools.cache
def topology(device: str = "cpu") -> HeadTopology:
    """Triangles, texture coordinates and light flags of the whole head."""
    face = torch.tensor(mesh.skin_triangles()), torch.tensor(mesh.canonical_geometry()[1])
    # grid, tile of the atlas, darkening from its first row to its last
    parts = (
        (face, "face", (1.0,)),
        (disc(*EYE), "eye", (1.0,)),
        (disc(*EYE), "eye", (1.0,)),
        (grid(3, len(mesh.mouth_loop()), closed=True), "mouth", (1.0,)),
        (grid(*TEETH), "teeth", (0.75, 1.0)),
        (grid(*TEETH), "teeth", (0.85, 0.5)),
        (grid(4, RING, closed=True), "skin", (1.0, 0.9, 0.8, 0.7)),  # skull
        (grid(5, RING, closed=True), "hair", (1.0,)),
        (disc(*EAR), "skin", (0.9,)),
        (disc(*EAR), "skin", (0.9,)),
        (grid(*NECK), "skin", (0.5, 0.72, 0.95, 1.0)),
        (grid(*TORSO), "cloth", (1.0,)),
        (grid(*SHEET), "hair", (0.6,)),
    )
    meshes, counts = zip(*((index, len(uv)) for (index, uv), _, _ in parts), strict=True)
    triangles, part = joined(meshes, counts, range(len(parts)))
    looks, shades, glosses, dims = [], [], [], []
    margin = 0.5 / TEXTURE
    for (_, uv), tile, rows in parts:
        u = (TILES.index(tile) + uv[:, :1].clamp(margin, 1 - margin)) / len(TILES)
        looks.append(torch.cat([u, uv[:, 1:]], 1) * 2 - 1)
        lit = {"eye": 0.35, "mouth": 0.0, "teeth": 0.2}.get(tile, 1.0)
        shades.append(torch.full((len(uv),), lit))
        glosses.append(torch.full((len(uv),), 0.0 if tile == "cloth" else lit))
        dims.append(torch.tensor(rows).repeat_interleave(len(uv) // len(rows)))
    vertices = (torch.cat(column) for column in (looks, shades, glosses, dims))
    return HeadTopology(*(each.to(device) for each in (triangles, part, *vertices)))


def head_points(
    painter: Painter,
    neutral: Float[Tensor, "B 468 3"],
    expressed: Float[Tensor, "B T 468 3"],
    curves: FaceCurves,
) -> Float[Tensor, "B T V 3"]:
    """Positions of all vertices of `topology`, head turned, body still; with random hair.

    neutral: the shaped face, upright; expressed: the same with its expression."""
    degrees = curves.degrees

    def still(points: Tensor) -> Tensor:
        return points[:, None].expand(-1, expressed.shape[1], -1, -1)

    def following(points: Tensor, weight: Tensor) -> Tensor:
        return still(points) + weight * (mesh.posed(still(points), degrees) - still(points))

    grown, long = 1 - painter.chance(0.1), painter.chance(0.45)
    volume = painter.uniform(0.0, 1.8) * grown  # cm
    oval = expressed[:, :, list(mesh.OVAL)]
    skull = _skull(oval)
    reach = painter.uniform(5.5, 9.0) * grown + 3 * long * grown
    shell = _hair_shell(painter, oval, skull, volume, reach)
    length = long * grown * painter.uniform(8.0, 24.0)  # cm behind the neck
    upper, lower = teeth_bands(neutral)
    turned = [
        expressed,
        *(shifted(ball, curves.gaze) for ball in eyeballs(neutral)),
        mouth_pocket(neutral, expressed),
        still(upper),
        turned_with_jaw(lower, curves.strengths),
        skull,
        shell,
        *(still(_ear(neutral, side)) for side in (-1, 1)),
    ]
    follow = neutral.new_tensor([0.85, 0.5, 0.12, 0.0]).repeat_interleave(NECK[1])[:, None]
    body = [
        following(_neck(neutral), follow),
        still(_torso(neutral)),
        following(_hair_sheet(neutral, volume, length), neutral.new_full((1, 1), 0.7)),
    ]
    return torch.cat([mesh.posed(torch.cat(turned, 2), degrees), *body], 2)


def shifted(points: Tensor, gaze: Float[Tensor, "B T 2"]) -> Tensor:
    """Points [B, V, 3] moved with the eyes, in x and y: [B, T, V, 3]."""
    return points[:, None] + functional.pad(gaze, (0, 1))[:, :, None]


def eyeballs(neutral: Tensor) -> list[Tensor]:
    """Shallow caps behind the lids of the right and the left eye, [B, rings * spokes, 3]."""
    radius, angle = _polar(*EYE, neutral.device)
    shape = torch.stack([radius * angle.cos(), radius * angle.sin(), -0.55 * radius**2], -1)
    caps = []
    for right, side in ((True, -1.0), (False, 1.0)):
        loop = neutral[:, list(mesh.eye_loop(right))]
        half = (loop[..., 0].amax(1) - loop[..., 0].amin(1)) / 2
        cap = shape * half[:, None, None] * 1.25
        cap[..., 2] = cap[..., 2] - side * cap[..., 0] * 0.25  # the outer side lies further back
        centre = loop.mean(1) + loop.new_tensor((0.0, 0.0, -0.12))
        caps.append(centre[:, None] + cap)
    return caps


def mouth_pocket(neutral: Tensor, expressed: Tensor) -> Tensor:
    """Dark bag behind the lips: their edge, a ring behind it, and its bottom. [B, T, 3 * 20, 3]"""
    loop = list(mesh.mouth_loop())
    edge = expressed[:, :, loop]
    front = edge - edge.new_tensor((0, 0, 0.12))
    centre = edge.mean(2, keepdim=True)
    depth = neutral[:, loop, 2].amin(1)[:, None, None]
    middle = centre + (edge - centre) * 1.12
    middle[..., 2] = torch.minimum(edge[..., 2] - 1.2, depth - 0.4)
    back = centre + (edge - centre) * 0.2
    back[..., 2] = middle[..., 2] - 1.5
    return torch.cat([front, middle, back], 2)


def teeth_bands(neutral: Tensor) -> list[Tensor]:
    """Upper and lower bands on an arc behind the lips, [B, rows * columns, 3] each."""
    corners = neutral[:, [78, 308]]
    half = (corners[:, 1, 0] - corners[:, 0, 0]) / 2
    span = torch.linspace(-1, 1, TEETH[1], device=neutral.device)
    x = corners[:, :, 0].mean(1)[:, None] + span * (half * 0.98)[:, None]
    upper, lower = neutral[:, 13], neutral[:, 14]
    front = torch.minimum(upper[:, 2], lower[:, 2]) - 0.7
    z = front[:, None] - 1.5 * span**2
    rows = ((upper, (0.9, -0.28)), (lower, (-0.05, -0.85)))
    return [torch.cat([_row(x, lip[:, 1:2] + y, z) for y in ys], 1) for lip, ys in rows]


def turned_with_jaw(points: Tensor, strengths: Float[Tensor, "B T 11"]) -> Tensor:
    """Turn points [B, V, 3] with the jaw: [B, T, V, 3]."""
    jaw = strengths[..., mesh.EXPRESSIONS.index("jaw_open")]
    zero = torch.zeros_like(jaw)
    turn = mesh.rotation(torch.stack([zero, -jaw * mesh.JAW_DEGREES, zero], -1))  # B T 3 3
    hinge = points.new_tensor(mesh.JAW_HINGE)
    return (points - hinge)[:, None] @ turn.transpose(-1, -2) + hinge


def _skull(oval: Tensor) -> Tensor:
    """Four rings of 36 from the face's outline to the back of the head; the top is a dome."""
    centre = oval.new_tensor((0.0, 0.5))
    around = oval[..., :2] - centre
    side = around[..., :1].abs().amax(2, keepdim=True) * 1.06
    radius = torch.cat([side, side * 1.36], -1)  # of the dome, x and y
    dome = around / (around / radius).norm(dim=-1, keepdim=True)
    low = ((0.5 - around[..., 1:]) / 4.0).clamp(0, 1)
    rings = [oval - oval.new_tensor((0, 0, 0.05))]
    for grow, small, z, lift in ((0.7, 0.96, 0.5, 0.2), (1.0, 0.86, 1.0, 1.0), (0.8, 0.7, 2.2, 2)):
        upper = torch.lerp(around, dome, grow) * (0.9 if z > 2 else 1.0)
        xy = centre + torch.lerp(upper, around * small, low)
        y = xy[..., 1] + low[..., 0] * lift
        depth = torch.lerp(oval[..., 2], oval.new_tensor(-3.5), min(z, 1.0)) - max(z - 1, 0) * 4.0
        rings.append(torch.stack([xy[..., 0], y, depth], -1))
    return torch.cat(rings, 2)


def _hair_shell(
    painter: Painter, oval: Tensor, skull: Tensor, volume: Tensor, reach: Tensor
) -> Tensor:
    """A random shell over the skull, inside it where there is no hair; `volume` [B] cm thick,
    `reach` [B] (0 to 18) steps of the oval around the head."""
    step = torch.arange(RING, device=oval.device)
    from_top = torch.minimum(step, RING - step).to(oval.dtype)
    cover = (reach[:, None] - from_top).clamp(0, 1)[:, None, :, None]  # B 1 36 1
    top = (1 - from_top / 7).clamp(min=0)[None, None, :, None]
    fringe = painter.uniform(-0.6, 1.0, 1, 1, 1).clamp(min=0) * top
    puff = (volume[:, None] * (1 + 0.25 * painter.normal(RING)))[:, None, :, None]
    rings = skull.unflatten(2, (4, RING)).unbind(2)
    centre = oval.new_tensor((0.0, 0.5, -3.0))
    bangs = oval + (centre - oval) * oval.new_tensor((0.22, 0.3, 0.0)) * fringe
    shell = [bangs + oval.new_tensor((0, 0, 0.45))]
    for ring, gain in zip(rings, (0.45, 0.9, 1.0, 0.8), strict=True):
        outward = ring - centre
        outward = outward / outward.norm(dim=-1, keepdim=True)
        shell.append(ring + outward * (0.25 + puff * gain))
    hidden = [centre + (ring - centre) * 0.9 for ring in (rings[1], *rings)]
    return torch.cat([torch.lerp(b, a, cover) for a, b in zip(shell, hidden, strict=True)], 2)


def _ear(neutral: Tensor, side: int) -> Tensor:
    radius, angle = _polar(*EAR, neutral.device)
    x = side * (0.25 + 0.75 * radius * angle.cos())
    y = 2.1 * radius * angle.sin() + 0.3
    z = -0.9 - 1.1 * radius * angle.cos() + 0.4 * radius
    anchor = neutral[:, 454 if side > 0 else 234]
    return anchor[:, None] + torch.stack([x, y, z], -1)


def _row(x: Tensor, y: Tensor, z: Tensor) -> Float[Tensor, "B columns 3"]:
    return torch.stack(torch.broadcast_tensors(x, y, z), -1)


def _neck(neutral: Tensor) -> Tensor:
    """Front half of a cylinder, wider at the shoulders."""
    jaw, chin = (neutral[:, 397, :1] - neutral[:, 172, :1]) / 2, neutral[:, 152, 1:2]  # B 1
    angle = torch.linspace(-0.15, 1.15, NECK[1], device=neutral.device) * math.pi
    rows = []
    for drop, grow in ((3.0, 0.8), (-1.2, 0.8), (-5.5, 0.85), (-9.5, 1.1)):
        radius = jaw * grow
        rows.append(_row(-radius * angle.cos(), chin + drop, -4.0 + radius * 0.9 * angle.sin()))
    return torch.cat(rows, 1)


def _torso(neutral: Tensor) -> Tensor:
    """Chest and shoulders, running out of the picture below."""
    chin, x = neutral[:, 152, 1:2], torch.linspace(-1, 1, TORSO[1], device=neutral.device)
    slope = 4.2 * x.abs() ** 1.3 + 9 * (x.abs() - 0.86).clamp(min=0) / 0.14
    collar = -1.6 * torch.exp(-((x / 0.22) ** 2))
    rows = []
    for drop, z, flat in ((0.0, -4.5, 1.0), (0.5, -1.0, 1.0), (3.0, 1.4, 0.9), (12.0, 3.0, 0.5)):
        y = chin - 5.2 - drop - slope * flat + (collar if drop else 0.0)
        rows.append(_row(x * 23, y, x.new_tensor(z)))
    return torch.cat([*rows, rows[-1] - neutral.new_tensor((0, 70.0, 0))], 1)


def _hair_sheet(neutral: Tensor, volume: Tensor, length: Tensor) -> Tensor:
    """Hair behind the neck; of no height where the clip has none."""
    x = torch.linspace(-1, 1, SHEET[1], device=neutral.device)
    half = (neutral[:, 454, :1] - neutral[:, 234, :1]) / 2
    rows = []
    for row in range(SHEET[0]):
        down = row / (SHEET[0] - 1)
        width = half * (1.05 + 0.12 * math.sin(down * math.pi)) + volume[:, None] * 0.7
        y, z = 2.0 - length[:, None] * down, -6.0 + 1.5 * down - 1.5 * x**2
        rows.append(_row(x * width, y, z))
    return torch.cat(rows, 1)
