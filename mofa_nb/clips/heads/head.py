"""How a head moves, and its vertices: inside a face, and for rendered ones all around it.

Parts are grids of vertices in the canonical mesh's centimetres, wrapped around each clip's face.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import TEXTURE, Painter, Rows
from mofa_nb.clips.heads.film import Mesh, joined
from mofa_nb.faces import mesh

MOUTH_LOOP, OVAL = list(mesh.mouth_loop()), list(mesh.OVAL)
EYE, TEETH, NECK, TORSO = (5, 16), (2, 9), (4, 12), (4, 15)  # rows and columns
RING = len(OVAL)
TILES = ("face", "eye", "mouth", "teeth", "hair", "skin", "neck", "cloth")  # of the texture
# in the order of EXPRESSIONS: chance that it moves, how far it typically goes
ACTIVITY = (
    *((0.7, 0.65), (0.45, 0.7), (0.2, 0.6), (0.35, 0.6), (0.25, 0.6), (0.3, 0.6)),  # mouth
    *((0.4, 0.7), (0.25, 0.7)),  # brows
    *((0.4, 0.9), (0.0, 0.0), (0.15, 0.7)),  # eyelids; the left one does as the right one
)


@dataclass(frozen=True)
class FaceCurves(Rows):
    strengths: Float[Tensor, "B T 11"]  # of mesh.EXPRESSIONS
    degrees: Float[Tensor, "B T 3"]  # yaw, pitch, roll
    shift: Float[Tensor, "B T 2"]  # of the whole person, cm (x right, y up)
    gaze: Float[Tensor, "B T 2"]  # of the eyeballs, cm


def still_curves(batch: int, num_frames: int) -> FaceCurves:
    """A neutral face that does not move; a start for hand-made curves (`dataclasses.replace`)."""
    channels = (len(mesh.EXPRESSIONS), 3, 2, 2)
    return FaceCurves(*(torch.zeros(batch, num_frames, count) for count in channels))


def random_curves(painter: Painter, num_frames: int) -> FaceCurves:
    """Talking, single expressions, blinks and head turns; some clips stay still."""
    gate, reach = torch.tensor(ACTIVITY, device=painter.device).unbind(1)
    moves, channels = 1 - painter.chance(0.05, 1), len(ACTIVITY)
    start = painter.uniform(0, 0.7, channels) * reach
    start = start * (painter.uniform(0, 1, channels) < 0.3 * gate)
    size = painter.uniform(0.35, 1.35, channels) * reach * moves
    size = torch.where(start > 0.45 * reach, -size, size)  # back from where it begins
    size = size * (painter.uniform(0, 1, channels) < gate)
    strengths = start[:, None] + size[:, None] * _paths(painter, num_frames, channels, talk=0.5)
    strengths[..., 9] = strengths[..., 8]

    def drift(spread: tuple[float, ...], probability: float, most: float) -> Tensor:
        reach = painter.normal(len(spread)) * moves.new_tensor(spread) * moves
        reach = reach.clamp(-most, most) * painter.chance(probability, len(spread))
        return reach[:, None] * _paths(painter, num_frames, len(spread), talk=0.3)

    first = (painter.normal(3) * moves.new_tensor((8.0, 5.0, 3.5))).clamp(-18, 18)
    degrees = first[:, None] + drift((11.0, 7.0, 6.0), 0.65, 24.0)
    shift, gaze = drift((0.7, 0.7), 0.6, 3.0), drift((0.18, 0.18), 0.5, 0.45)
    return FaceCurves(strengths.clamp(0, 1), degrees, shift, gaze)


def _paths(painter: Painter, num_frames: int, channels: int, talk: float) -> Tensor:
    """[B, T, C] from 0: a step with soft ends, or (share `talk`) waves."""
    time = torch.linspace(0, 1, num_frames, device=painter.device)[:, None]
    step = (time / painter.uniform(0.35, 1.0, 1, channels)).clamp(0, 1)
    speed = 2 * torch.pi * painter.uniform(0.7, 3.5, 1, channels)
    wave = 0.5 - 0.5 * (speed * time).cos()
    return torch.lerp(step * step * (3 - 2 * step), wave, painter.chance(talk, 1, 1))


def grid_mesh(rows: int, columns: int, closed: bool = False) -> tuple[Tensor, Tensor]:
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
    triangles, uv = grid_mesh(rings, spokes, closed=True)
    angle = 2 * math.pi * torch.arange(spokes).repeat(rings) / spokes
    return triangles, 0.5 + 0.5 * uv[:, 1:] * torch.stack([angle.cos(), -angle.sin()], -1)


def still(points: Float[Tensor, "b V 3"], batch: int, frames: int) -> Float[Tensor, "B T V 3"]:
    return points[:, None].expand(batch, frames, -1, -1)


def shifted(
    points: Float[Tensor, "b V 3"], gaze: Float[Tensor, "B T 2"]
) -> Float[Tensor, "B T V 3"]:
    return points[:, None] + functional.pad(gaze, (0, 1))[:, :, None]


def eyeballs(neutral: Tensor) -> list[Tensor]:
    """Shallow caps behind the lids of the right and the left eye, [B, rings * spokes, 3]."""
    flat = (2 * disc(*EYE)[1] - 1).to(neutral)
    shape, caps = torch.cat([flat, -0.55 * flat.square().sum(-1, keepdim=True)], -1), []
    for right, side in ((True, -1.0), (False, 1.0)):
        loop = neutral[:, list(mesh.eye_loop(right))]
        half = (loop[..., 0].amax(1) - loop[..., 0].amin(1)) / 2
        cap = shape * half[:, None, None] * 1.25
        cap[..., 2] = cap[..., 2] - side * cap[..., 0] * 0.25  # the outer side lies further back
        centre = loop.mean(1) + loop.new_tensor((0.0, 0.0, -0.12))
        caps.append(centre[:, None] + cap)
    return caps


def mouth_inside(
    neutral: Float[Tensor, "b 468 3"],
    expressed: Float[Tensor, "B T 468 3"],
    strengths: Float[Tensor, "B T 11"],
) -> list[Float[Tensor, "B T V 3"]]:
    """Points of the dark bag behind the lips (three rings), and of upper and lower teeth, the lower
    ones turned with the jaw."""
    edge = expressed[:, :, MOUTH_LOOP]
    front = edge - edge.new_tensor((0, 0, 0.12))
    centre = edge.mean(2, keepdim=True)
    depth = neutral[:, MOUTH_LOOP, 2].amin(1)[:, None, None]
    middle = centre + (edge - centre) * 1.12
    middle[..., 2] = torch.minimum(edge[..., 2] - 1.2, depth - 0.4)
    back = centre + (edge - centre) * 0.2
    back[..., 2] = middle[..., 2] - 1.5
    upper, lower = _teeth_bands(neutral)
    jaw = strengths[..., mesh.EXPRESSIONS.index("jaw_open")]
    zero = torch.zeros_like(jaw)
    turn = mesh.rotation(torch.stack([zero, -jaw * mesh.JAW_DEGREES, zero], -1))  # B T 3 3
    hinge = neutral.new_tensor(mesh.JAW_HINGE)
    turned = (lower - hinge)[:, None] @ turn.transpose(-1, -2) + hinge
    return [torch.cat([front, middle, back], 2), still(upper, *jaw.shape), turned]


def _teeth_bands(neutral: Tensor) -> list[Tensor]:
    """Upper and lower bands on an arc behind the lips, [B, rows * columns, 3] each."""
    corners = neutral[:, [78, 308]]
    half = (corners[:, 1, 0] - corners[:, 0, 0]) / 2
    span = torch.linspace(-1, 1, TEETH[1], device=neutral.device)
    x = corners[:, :, 0].mean(1)[:, None] + span * (half * 0.98)[:, None]
    upper, lower = neutral[:, 13], neutral[:, 14]
    front = torch.minimum(upper[:, 2], lower[:, 2]) - 0.7
    z = front[:, None] - 1.5 * span**2
    rows = ((upper, (0.9, -0.28)), (lower, (-0.05, -0.85)))
    return [torch.cat([row(x, lip[:, 1:2] + y, z) for y in ys], 1) for lip, ys in rows]


def row(x: Tensor, y: Tensor, z: Tensor) -> Float[Tensor, "B columns 3"]:
    return torch.stack(torch.broadcast_tensors(x, y, z), -1)


def random_head(painter: Painter, curves: FaceCurves) -> Mesh:
    """Random heads under the curves, cm; the head turns, the body stays."""
    shape = curves.strengths.shape[:2]
    neutral = _neutral(painter)
    expressed = mesh.express(still(neutral, *shape), curves.strengths)
    skull = _skull(expressed[:, :, OVAL])
    face = torch.tensor(mesh.skin_triangles()), torch.tensor(mesh.canonical_geometry()[1])
    ball, bite = disc(*EYE), grid_mesh(*TEETH)
    pocket, upper, lower = mouth_inside(neutral, expressed, curves.strengths)
    turning = [
        (face, "face", expressed),
        *((ball, "eye", shifted(points, curves.gaze)) for points in eyeballs(neutral)),
        (grid_mesh(3, len(MOUTH_LOOP), closed=True), "mouth", pocket), (bite, "teeth", upper),
        (bite, "teeth", lower), (grid_mesh(4, RING, closed=True), "skin", skull),
        (grid_mesh(4, RING, closed=True), "hair", _hair(painter, skull)),
    ]  # fmt: skip
    neck, torso = (still(points, *shape) for points in _body(neutral))
    follow = neck.new_tensor([0.85, 0.5, 0.12, 0.0]).repeat_interleave(NECK[1])[:, None]
    neck = torch.lerp(neck, mesh.posed(neck, curves.degrees), follow)
    pieces = [(look, tile, mesh.posed(points, curves.degrees)) for look, tile, points in turning]
    pieces += [(grid_mesh(*NECK), "neck", neck), (grid_mesh(*TORSO), "cloth", torso)]
    numbered, margin = [], 0.5 / TEXTURE
    for part, ((triangles, uv), tile, points) in enumerate(pieces):
        u = (TILES.index(tile) + uv[:, :1].clamp(margin, 1 - margin)) / len(TILES)
        numbered.append((part, triangles, torch.cat([u, uv[:, 1:]], 1) * 2 - 1, points))
    return joined(numbered)


def _neutral(painter: Painter) -> Float[Tensor, "B 468 3"]:
    """Faces of random shape at rest, their lips together: the canonical mouth stands open."""
    base = torch.tensor(mesh.canonical_geometry()[0], device=painter.device)
    modes = torch.tensor(mesh.identity_modes(), device=painter.device)
    amounts = (painter.normal(len(modes)) * 0.9).clamp(-2, 2)
    points = base + torch.einsum("bm,mvc->bvc", amounts, modes)
    upper, lower = list(mesh.LIPS_UPPER[0]), list(mesh.LIPS_LOWER[0])
    gap = (points[:, upper, 1] - points[:, lower, 1])[:, 1:-1] / 2 * painter.uniform(0.75, 1.0, 1)
    rings = zip(mesh.LIPS_UPPER, mesh.LIPS_LOWER, (1.0, 0.85, 0.6, 0.3), strict=True)
    for above, below, weight in rings:
        points[:, list(above[1:-1]), 1] -= weight * gap
        points[:, list(below[1:-1]), 1] += weight * gap
    resting = torch.zeros(painter.batch, len(mesh.EXPRESSIONS), device=painter.device)
    resting[:, mesh.EXPRESSIONS.index("eyes_wide")] = painter.uniform(0.1, 0.9)
    return mesh.express(points, resting)


def _skull(oval: Float[Tensor, "B T 36 3"]) -> Float[Tensor, "B T 144 3"]:
    """Four rings from the face's outline to the back of the head; the top is a dome."""
    centre = oval.new_tensor((0.0, 0.5))
    around = oval[..., :2] - centre
    side = around[..., :1].abs().amax(2, keepdim=True) * 1.06
    dome = around / (around / torch.cat([side, side * 1.36], -1)).norm(dim=-1, keepdim=True)
    low = ((0.5 - around[..., 1:]) / 4.0).clamp(0, 1)
    rings = [oval - oval.new_tensor((0, 0, 0.05))]
    for grow, small, z, lift in ((0.7, 0.96, -0.5, 0.2), (1.0, 0.86, -3.5, 1.0), (0.8, 0.6, -8, 2)):
        xy = centre + torch.lerp(torch.lerp(around, dome, grow), around * small, low)
        xy = xy + functional.pad(low * lift, (1, 0))
        rings.append(torch.cat([xy, torch.full_like(low, z)], -1))
    return torch.cat(rings, 2)


def _hair(painter: Painter, skull: Float[Tensor, "B T 144 3"]) -> Float[Tensor, "B T 144 3"]:
    """A random shell over the skull, inside it where there is no hair."""
    step = torch.arange(RING, device=skull.device)
    reach = painter.uniform(5.5, 15.0, 1) - torch.minimum(step, RING - step)  # from the top
    centre = skull.new_tensor((0.0, 0.5, -3.0))
    outward = skull.unflatten(2, (4, RING)) - centre  # B T 4 36 3
    gain = outward.new_tensor((0.0, 0.6, 1.0, 0.8))[:, None, None]
    shell = outward * (1.04 + gain * painter.uniform(0.0, 0.2, 1, 1, 1, 1))
    shell[:, :, 0, :, 2] += 0.45
    cover = reach.clamp(0, 1)[:, None, None, :, None]
    return (centre + torch.lerp(0.9 * outward, shell, cover)).flatten(2, 3)


def _body(neutral: Tensor) -> tuple[Tensor, Tensor]:
    """The front half of a neck, and a chest with shoulders that runs out of the picture below."""
    jaw, chin = (neutral[:, 397, :1] - neutral[:, 172, :1]) / 2, neutral[:, 152, 1:2]  # B 1
    angle = torch.linspace(-0.15, 1.15, NECK[1], device=neutral.device) * math.pi
    neck, torso = [], []
    for drop, grow in ((3.0, 0.8), (-1.2, 0.8), (-5.5, 0.85), (-9.5, 1.1)):
        radius = jaw * grow
        neck.append(row(-radius * angle.cos(), chin + drop, -4.0 + radius * 0.9 * angle.sin()))
    x = torch.linspace(-1, 1, TORSO[1], device=neutral.device)
    slope = 4.2 * x.abs() ** 1.3 + 9 * (x.abs() - 0.86).clamp(min=0) / 0.14
    for drop, z, flat in ((0.0, -4.5, 1.0), (0.5, -1.0, 1.0), (3.0, 1.4, 0.9), (80.0, 3.0, 0.5)):
        y = chin - 5.2 - drop - slope * flat
        torso.append(row(x * 23, y, x.new_tensor(z)))
    return torch.cat(neck, 1), torch.cat(torso, 1)
