"""Rendered face clips with exact landmarks and flow, to train the landmark adapter on: meshes of
random shape, skin, hair and light over a photograph's crop."""

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.clips.draws import Painter
from mofa_nb.clips.heads.camera import Canvas, FaceBatch, film, photo_crop
from mofa_nb.clips.heads.curves import FaceCurves, random_curves
from mofa_nb.clips.heads.head import head_points, topology
from mofa_nb.clips.heads.textures import paint_atlas
from mofa_nb.faces import mesh

FACE_CM = 17.7  # forehead to chin of the canonical face


def render_faces(
    batch: int,
    num_frames: int,
    size: tuple[int, int],
    backgrounds: UInt8[Tensor, "P 3 S1 S2"],
    generator: torch.Generator,
    *,
    curves: FaceCurves | None = None,
    supersample: int = 2,
) -> FaceBatch:
    """Draw a batch of random talking, blinking, turning heads before crops of the `backgrounds`
    (0-255), on their device.

    size: (H, W). generator: on the CPU. curves: what moves; random when None. supersample: picture
    samples per pixel and side."""
    if num_frames < 2 or min(size) < 32:
        raise InputError(f"need 2 frames of 32 pixels or more, got {num_frames} of {size}")
    painter = Painter(batch, backgrounds.device, generator)
    curves = curves or random_curves(painter, num_frames)
    atlas = paint_atlas(painter)
    points = _world_points(painter, curves)
    pixels = _projected(painter, points, curves.shift, size)
    light, gloss = _light(painter, points)
    behind = photo_crop(painter, backgrounds, size, curves.camera)
    top = topology(str(atlas.device))
    canvas = Canvas(top.triangles, top.part, top.part, top.look, atlas, light, gloss)
    clips = film(pixels, canvas, behind, samples=supersample)
    # exposure and contrast, the same over a clip
    gain = painter.uniform(0.85, 1.15, 1, 1, 1, 1)
    bend = painter.uniform(0.85, 1.2, 1, 1, 1, 1)
    return replace(clips, frames=(clips.frames.clamp(1e-4, 1) ** bend * gain).clamp(0, 1))


def _world_points(painter: Painter, curves: FaceCurves) -> Float[Tensor, "B T V 3"]:
    """Vertices of random heads under the curves, cm."""
    base = torch.tensor(mesh.canonical_geometry()[0], device=painter.device)
    modes = torch.tensor(mesh.identity_modes(), device=painter.device)
    amounts = (painter.normal(len(modes)) * 0.9).clamp(-2, 2)
    neutral = base + torch.einsum("bm,mvc->bvc", amounts, modes)
    neutral = _lips_closed(neutral, painter.uniform(0.75, 1.0, 1))
    resting = torch.zeros(painter.batch, len(mesh.EXPRESSIONS), device=painter.device)
    resting[:, mesh.EXPRESSIONS.index("eyes_wide")] = painter.uniform(0.1, 0.9)
    neutral = mesh.express(neutral, resting)
    frames = curves.strengths.shape[1]
    expressed = mesh.express(neutral[:, None].expand(-1, frames, -1, -1), curves.strengths)
    return head_points(painter, neutral, expressed, curves)


def _lips_closed(points: Tensor, amount: Float[Tensor, "B 1"]) -> Tensor:
    """Bring the inner lips together: the canonical mouth stands a little open."""
    upper, lower = list(mesh.LIPS_UPPER[0]), list(mesh.LIPS_LOWER[0])
    points = points.clone()
    middle = (points[:, upper] + points[:, lower]) / 2
    gap = (points[:, upper, 1] - points[:, lower, 1])[:, 1:-1] / 2
    rings = zip(mesh.LIPS_UPPER, mesh.LIPS_LOWER, (1.0, 0.85, 0.6, 0.3), strict=True)
    for above, below, share in rings:
        points[:, list(above[1:-1]), 1] -= amount * share * gap
        points[:, list(below[1:-1]), 1] += amount * share * gap
    points[:, upper, 2] = torch.lerp(points[:, upper, 2], middle[..., 2], 0.5)
    return points


def _projected(painter: Painter, points: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (x, y) and depth in cm of world points before a random camera, [B, T, V, 3]."""
    scale = painter.uniform(0.36, 0.64, 1, 1) * min(size) / FACE_CM  # pixels per cm
    x = size[1] / 2 + painter.uniform(-0.1, 0.1, 1, 1) * size[1]
    y = size[0] * painter.uniform(0.42, 0.55, 1, 1)
    distance = painter.uniform(55, 140, 1, 1)  # cm
    near = scale * distance / (distance - points[..., 2])
    moved = near[..., None] * (points[..., :2] + (shift - shift[:, :1])[:, :, None])
    return torch.stack([x + moved[..., 0], y - moved[..., 1], -points[..., 2]], -1)


def _light(painter: Painter, points: Tensor) -> tuple[Tensor, Tensor]:
    """Diffuse light [B, T, V, 3] and gloss [B, T, V, 1] per vertex."""
    top = topology(str(points.device))
    normal = mesh.vertex_normals(points, top.triangles)
    facing = torch.where(normal[..., 2:] < 0, -1.0, 1.0)
    facing[:, :, : mesh.SKIN] = 1.0
    normal = normal * facing
    sun = [painter.normal(1), painter.uniform(-0.2, 0.9, 1), painter.uniform(0.7, 1.4, 1)]
    sun = functional.normalize(torch.cat(sun, 1))
    ambient = painter.uniform(0.4, 0.8, 1, 1)
    diffuse = torch.einsum("btvc,bc->btv", normal, sun).clamp(min=0)
    warm = 1 + 0.06 * painter.normal(3)
    light = (ambient + (1 - ambient) * 1.3 * diffuse)[..., None] * warm[:, None, None]
    half = functional.normalize(sun + sun.new_tensor((0, 0, 1)))
    gloss = torch.einsum("btvc,bc->btv", normal, half).clamp(min=0) ** 24
    gloss = gloss * painter.uniform(0, 0.16, 1, 1) * top.gloss
    lit = top.shade[:, None]
    return (1 - lit + lit * light) * top.dim[:, None], gloss[..., None]
