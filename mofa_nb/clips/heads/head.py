"""Everything around the face skin: eyeballs, mouth, teeth, skull, ears, hair, neck, shoulders.

Parts are small grids of vertices in the canonical mesh's centimetres, wrapped around the shaped
face of each clip, so that one z-buffer hides what should be hidden.
"""

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofa_nb.clips.heads.body import (
    NECK_COLUMNS,
    NECK_ROWS,
    SHEET_COLUMNS,
    SHEET_ROWS,
    TORSO_COLUMNS,
    TORSO_ROWS,
    Hair,
    hair_sheet,
    hair_shell,
    neck,
    torso,
)
from mofa_nb.clips.heads.curves import FaceCurves
from mofa_nb.faces.mesh import (
    EXPRESSIONS,
    JAW_DEGREES,
    JAW_HINGE,
    OVAL,
    eye_loop,
    mouth_loop,
    posed,
    rotation,
    skin_triangles,
)
from mofa_nb.faces.model_file import canonical_geometry

TILES = ("face", "eye", "mouth", "teeth", "hair", "skin", "cloth")  # of the texture atlas
EYE_RINGS, EYE_SPOKES = 5, 16
TEETH = 9  # columns
EAR_SPOKES = 10


@dataclass(frozen=True)
class HeadTopology:
    """What all rendered heads share.

    triangles: vertex numbers; the first 468 vertices are the face's.
    part: number of the triangle's part (see PARTS).
    uv, tile: where in which tile of the atlas a vertex looks.
    shade: 1 where light acts, 0 where a vertex keeps its colour.
    dim: constant darkening, for the neck under the chin.
    """

    triangles: Int[Tensor, "F 3"]
    part: Int[Tensor, " F"]
    uv: Float[Tensor, "V 2"]
    tile: Int[Tensor, " V"]
    shade: Float[Tensor, " V"]
    dim: Float[Tensor, " V"]


PARTS = (
    *("face", "eye_right", "eye_left", "mouth", "teeth_upper", "teeth_lower"),
    *("skull", "hair", "ear_right", "ear_left", "neck", "torso", "sheet"),
)


def grid(rows: int, columns: int, closed: bool = False) -> tuple[Tensor, Tensor]:
    """Triangles [F, 3] and uv [rows * columns, 2] (u along columns) of a grid of vertices."""
    number = torch.arange(rows * columns).view(rows, columns)
    if closed:
        number = torch.cat([number, number[:, :1]], 1)
    a, b = number[:-1, :-1], number[:-1, 1:]
    c, d = number[1:, :-1], number[1:, 1:]
    triangles = torch.cat([torch.stack(t, -1).flatten(0, 1) for t in ((a, c, b), (b, c, d))])
    v, u = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
    return triangles, torch.stack([u, v], -1).flatten(0, 1)


def disc(rings: int, spokes: int) -> tuple[Tensor, Tensor]:
    """Grid of rings around a centre (ring 0 has radius 0); uv is planar, centre at (0.5, 0.5)."""
    triangles, _ = grid(rings, spokes, closed=True)
    radius = torch.linspace(0, 1, rings)[:, None]
    angle = torch.arange(spokes) / spokes * 2 * math.pi
    flat = torch.stack([radius * angle.cos(), -radius * angle.sin()], -1)
    return triangles, 0.5 + 0.5 * flat.flatten(0, 1)


@functools.cache
def topology(device: str = "cpu") -> HeadTopology:
    """Triangles, texture coordinates and light flags of the whole head, in PARTS order."""
    face_uv = torch.tensor(canonical_geometry()[1])
    face = (torch.tensor(skin_triangles()), face_uv)
    eye = disc(EYE_RINGS, EYE_SPOKES)
    teeth = grid(2, TEETH)
    ring = len(mouth_loop())
    grids = {
        "face": (*face, "face"),
        "eye_right": (*eye, "eye"),
        "eye_left": (*eye, "eye"),
        "mouth": (*grid(3, ring, closed=True), "mouth"),
        "teeth_upper": (*teeth, "teeth"),
        "teeth_lower": (*teeth, "teeth"),
        "skull": (*grid(4, 36, closed=True), "skin"),
        "hair": (*grid(5, 36, closed=True), "hair"),
        "ear_right": (*disc(3, EAR_SPOKES), "skin"),
        "ear_left": (*disc(3, EAR_SPOKES), "skin"),
        "neck": (*grid(NECK_ROWS, NECK_COLUMNS), "skin"),
        "torso": (*grid(TORSO_ROWS, TORSO_COLUMNS), "cloth"),
        "sheet": (*grid(SHEET_ROWS, SHEET_COLUMNS), "hair"),
    }
    triangles, part, uv, tile, shade, dim = [], [], [], [], [], []
    start = 0
    for number, name in enumerate(PARTS):
        index, where, image = grids[name]
        count = len(where)
        triangles.append(index + start)
        part.append(torch.full((len(index),), number))
        uv.append(where)
        tile.append(torch.full((count,), TILES.index(image)))
        lit = {"eye": 0.35, "mouth": 0.0, "teeth": 0.2}.get(image, 1.0)
        shade.append(torch.full((count,), lit))
        dim.append(_dimming(name, count))
        start += count
    columns = [torch.cat(column).to(device) for column in (triangles, part, uv, tile, shade, dim)]
    return HeadTopology(*columns)


def _dimming(name: str, count: int) -> Tensor:
    if name == "neck":
        return torch.tensor([0.5, 0.72, 0.95, 1.0]).repeat_interleave(NECK_COLUMNS)
    if name == "teeth_upper":
        return torch.tensor([0.75, 1.0]).repeat_interleave(TEETH)
    if name == "teeth_lower":
        return torch.tensor([0.85, 0.5]).repeat_interleave(TEETH)
    if name == "skull":
        return torch.tensor([1.0, 0.9, 0.8, 0.7]).repeat_interleave(36)
    if name == "sheet":
        return torch.full((count,), 0.6)
    if name.startswith("ear"):
        return torch.full((count,), 0.9)
    return torch.ones(count)


def head_points(
    neutral: Float[Tensor, "B 468 3"],
    expressed: Float[Tensor, "B T 468 3"],
    curves: FaceCurves,
    hair: Hair,
) -> Float[Tensor, "B T V 3"]:
    """Positions of all vertices of `topology`, head turned, body still.

    Args:
        neutral: shaped face, upright. expressed: the same face, expression applied, upright.
    """

    def still(points: Tensor) -> Tensor:
        return points[:, None].expand(-1, expressed.shape[1], -1, -1)

    oval = expressed[:, :, list(OVAL)]
    skull = _skull(oval)
    upper, lower = teeth_bands(neutral)
    turned = [
        expressed,
        *(still(eyeball(neutral, right)) + _flat(curves.gaze) for right in (True, False)),
        mouth_pocket(neutral, expressed),
        still(upper),
        turned_with_jaw(lower, curves.strengths[..., EXPRESSIONS.index("jaw_open")]),
        skull,
        hair_shell(oval, skull, hair),
        *(still(_ear(neutral, side)) for side in (-1, 1)),
    ]
    degrees = curves.degrees
    follow = neutral.new_tensor([0.85, 0.5, 0.12, 0.0]).repeat_interleave(NECK_COLUMNS)[:, None]
    body = [
        _following(neck(neutral), degrees, follow),
        still(torso(neutral)),
        _following(hair_sheet(neutral, hair), degrees, neutral.new_full((1, 1), 0.7)),
    ]
    return torch.cat([posed(torch.cat(turned, 2), degrees), *body], 2)


def _following(points: Tensor, degrees: Tensor, weight: Tensor) -> Tensor:
    points = points[:, None].expand(-1, degrees.shape[1], -1, -1)
    return points + weight * (posed(points, degrees) - points)


def _flat(gaze: Tensor) -> Tensor:
    """Eyeballs shift only in x and y: [B, T, 1, 3]."""
    return torch.cat([gaze, torch.zeros_like(gaze[..., :1])], -1)[:, :, None]


def eyeball(neutral: Tensor, right: bool) -> Tensor:
    """A shallow cap behind the lids, [B, rings * spokes, 3]."""
    loop = neutral[:, list(eye_loop(right))]
    centre = loop.mean(1)
    half = (loop[..., 0].amax(1) - loop[..., 0].amin(1)) / 2
    radius = torch.linspace(0, 1, EYE_RINGS, device=neutral.device).repeat_interleave(EYE_SPOKES)
    angle = torch.arange(EYE_SPOKES, device=neutral.device).repeat(EYE_RINGS) / EYE_SPOKES
    angle = angle * 2 * math.pi
    cap = torch.stack([radius * angle.cos(), radius * angle.sin(), -0.55 * radius**2], -1)
    side = -1.0 if right else 1.0
    cap = cap * half[:, None, None] * 1.25
    cap[..., 2] = cap[..., 2] - side * cap[..., 0] * 0.25  # the outer side lies further back
    centre = centre + centre.new_tensor((0.0, 0.0, -0.12))
    return centre[:, None] + cap


def mouth_pocket(neutral: Tensor, expressed: Tensor) -> Tensor:
    """Dark bag behind the lips: their edge, a ring behind it, and its bottom. [B, T, 3 * 20, 3]"""
    edge = expressed[:, :, list(mouth_loop())]
    front = edge - edge.new_tensor((0, 0, 0.12))
    centre = edge.mean(2, keepdim=True)
    depth = neutral[:, list(mouth_loop()), 2].amin(1)[:, None, None]
    middle = centre + (edge - centre) * 1.12
    middle[..., 2] = torch.minimum(edge[..., 2] - 1.2, depth - 0.4)
    back = centre + (edge - centre) * 0.2
    back[..., 2] = middle[..., 2] - 1.5
    return torch.cat([front, middle, back], 2)


def teeth_bands(neutral: Tensor) -> tuple[Tensor, Tensor]:
    """Upper and lower bands on an arc behind the lips, [B, 2 * TEETH, 3] each."""
    corners = neutral[:, [78, 308]]
    half = (corners[:, 1, 0] - corners[:, 0, 0]) / 2
    span = torch.linspace(-1, 1, TEETH, device=neutral.device)
    lip_upper, lip_lower = neutral[:, 13], neutral[:, 14]
    middle = (corners[:, :, 0].mean(1))[:, None]
    x = middle + span * (half * 0.98)[:, None]
    front = torch.minimum(lip_upper[:, 2], lip_lower[:, 2]) - 0.7
    z = front[:, None] - 1.5 * span**2
    bands = []
    for top, bottom, lip in ((0.9, -0.28, lip_upper), (-0.05, -0.85, lip_lower)):
        rows = [
            torch.stack([x, (lip[:, 1] + offset)[:, None].expand_as(x), z], -1)
            for offset in (top, bottom)
        ]
        bands.append(torch.cat(rows, 1))
    return bands[0], bands[1]


def turned_with_jaw(points: Tensor, jaw: Tensor) -> Tensor:
    """Turn points [B, V, 3] with the jaw: [B, T, V, 3]."""
    zero = torch.zeros_like(jaw)
    turn = rotation(torch.stack([zero, -jaw * JAW_DEGREES, zero], -1))  # B T 3 3
    hinge = points.new_tensor(JAW_HINGE)
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


def _ear(neutral: Tensor, side: int) -> Tensor:
    anchor = neutral[:, 454 if side > 0 else 234]
    radius = torch.linspace(0, 1, 3, device=neutral.device).repeat_interleave(EAR_SPOKES)
    angle = torch.arange(EAR_SPOKES, device=neutral.device).repeat(3) / EAR_SPOKES * 2 * math.pi
    x = side * (0.25 + 0.75 * radius * angle.cos())
    y = 2.1 * radius * angle.sin() + 0.3
    z = -0.9 - 1.1 * radius * angle.cos() + 0.4 * radius
    return anchor[:, None] + torch.stack([x, y, z], -1)
