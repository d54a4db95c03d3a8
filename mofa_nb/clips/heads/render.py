"""Rendered face clips with exact landmarks and exact flow, to train the landmark adapter on.

A textured head of random shape, skin, hair and light is drawn over a photograph's crop. Everything
that is seen is a mesh, so where each pixel of the first frame goes is known.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.clips.heads.body import Hair
from mofa_nb.clips.heads.camera import (
    Canvas,
    PhotoCrop,
    camera_path,
    draw_frames,
    exact_flow,
    filmed,
)
from mofa_nb.clips.heads.curves import FaceCurves, random_curves
from mofa_nb.clips.heads.head import TILES, head_points, topology
from mofa_nb.clips.heads.painter import Painter
from mofa_nb.clips.heads.textures import paint_atlas
from mofa_nb.faces import mesh
from mofa_nb.faces.model_file import canonical_geometry
from mofa_nb.faces.points import VERTEX_OF_68

FACE_CM = 17.7  # forehead to chin of the canonical face
FACE_PARTS = 6  # the first parts: skin, eyes, mouth, teeth


@dataclass(frozen=True)
class FaceBatch:
    """Rendered clips.

    frames: [0, 1]. landmarks: the 68 points, pixels (x, y), pixel i covers [i, i + 1).
    flow: pixels (dx, dy), frame 0 -> frame t. visible: true where the frame-0 pixel is still seen
    in frame t. face_mask: 1 on the face (skin, eyes, mouth) of frame 0.
    """

    frames: Float[Tensor, "B T 3 H W"]
    landmarks: Float[Tensor, "B T 68 2"]
    flow: Float[Tensor, "B T-1 2 H W"]
    visible: Bool[Tensor, "B T-1 1 H W"]
    face_mask: Float[Tensor, "B 1 H W"]


@dataclass(frozen=True)
class _Placement:
    """Per clip: pixels per cm, head centre in pixels, and camera distance in cm; [B, 1] each."""

    scale: Tensor
    x: Tensor
    y: Tensor
    distance: Tensor


def render_faces(
    batch: int,
    num_frames: int,
    size: tuple[int, int],
    backgrounds: UInt8[Tensor, "P 3 S1 S2"],
    generator: torch.Generator,
    *,
    photo_textures: Float[Tensor, "Q 3 S S"] | None = None,
    curves: FaceCurves | None = None,
    supersample: int = 2,
) -> FaceBatch:
    """Draw a batch of random talking, blinking, turning heads, on the device of `backgrounds`.

    Args:
        size: (H, W). backgrounds: photographs, 0-255, of which crops are shown behind the head.
        generator: a CPU generator; the same seed gives the same clips.
        photo_textures: skins made by `looks.face_texture`, worn by a quarter of the heads.
        curves: what moves; drawn at random when None.
        supersample: picture samples per pixel and side.
    """
    if num_frames < 2 or min(size) < 32:
        raise InputError(f"need 2 frames of 32 pixels or more, got {num_frames} of {size}")
    painter = Painter(batch, backgrounds.device, generator)
    curves = curves or random_curves(painter, num_frames)
    atlas = paint_atlas(painter, photo_textures)
    points = _world_points(painter, curves)  # B T V 3, cm
    where = _place(painter, size)
    camera = camera_path(curves.camera, size)
    pixels = _project(points, curves.shift, where)
    pixels = torch.cat([filmed(pixels[..., :2], camera, size), pixels[..., 2:]], -1)
    shade, gloss = _light(painter, points)
    behind = PhotoCrop(painter, backgrounds, size, camera)
    canvas = _canvas(atlas, shade, gloss)
    drawing = draw_frames(pixels, canvas, behind, samples=supersample)
    flow, visible, part = exact_flow(pixels, canvas, behind, drawing)
    face = ((part >= 0) & (part < FACE_PARTS)).to(pixels.dtype)[:, None]
    frames = _develop(painter, drawing.frames)
    return FaceBatch(frames, pixels[:, :, list(VERTEX_OF_68), :2], flow, visible, face)


def _canvas(atlas: Tensor, shade: Tensor, gloss: Tensor) -> Canvas:
    top = topology(str(atlas.device))
    margin = 0.5 / atlas.shape[-2]
    u = (top.tile[:, None] + top.uv[:, :1].clamp(margin, 1 - margin)) / len(TILES)
    look = torch.cat([u, top.uv[:, 1:]], 1) * 2 - 1
    return Canvas(top.triangles, top.part, top.part, look, atlas, shade, gloss)


def _world_points(painter: Painter, curves: FaceCurves) -> Tensor:
    base = torch.tensor(canonical_geometry()[0], device=painter.device)
    modes = torch.tensor(mesh.identity_modes(), device=painter.device)
    amounts = (painter.normal(len(modes)) * 0.9).clamp(-2, 2)
    neutral = base + torch.einsum("bm,mvc->bvc", amounts, modes)
    neutral = _close_lips(neutral, painter.uniform(0.75, 1.0))
    wide = painter.uniform(0.1, 0.9)
    resting = torch.zeros(painter.batch, len(mesh.EXPRESSIONS), device=painter.device)
    resting[:, mesh.EXPRESSIONS.index("eyes_wide")] = wide
    neutral = mesh.express(neutral, resting)
    frames = curves.strengths.shape[1]
    expressed = mesh.express(neutral[:, None].expand(-1, frames, -1, -1), curves.strengths)
    bald = painter.chance(0.1)
    long = painter.chance(0.45)
    hair = Hair(
        volume=painter.uniform(0.0, 1.8) * (1 - bald),
        reach=painter.uniform(5.5, 9.0) * (1 - bald) + 3 * long * (1 - bald),
        fringe=painter.uniform(-0.6, 1.0).clamp(min=0),
        outline=0.25 * painter.normal(36),
        length=long * (1 - bald) * painter.uniform(8.0, 24.0),
    )
    return head_points(neutral, expressed, curves, hair)


def _close_lips(points: Tensor, amount: Tensor) -> Tensor:
    """Bring the inner lips together: the canonical mouth stands a little open."""
    upper, lower = list(mesh.LIPS_UPPER[0]), list(mesh.LIPS_LOWER[0])
    points = points.clone()
    middle = (points[:, upper] + points[:, lower]) / 2
    gap = (points[:, upper, 1] - points[:, lower, 1]) / 2
    for ring, (a, b) in enumerate(zip(mesh.LIPS_UPPER, mesh.LIPS_LOWER, strict=True)):
        share = (amount * (1.0, 0.85, 0.6, 0.3)[ring])[:, None]
        points[:, list(a[1:-1]), 1] -= (share * gap)[:, 1:-1]
        points[:, list(b[1:-1]), 1] += (share * gap)[:, 1:-1]
    points[:, upper, 2] = torch.lerp(points[:, upper, 2], middle[..., 2], 0.5)
    return points


def _place(painter: Painter, size: tuple[int, int]) -> _Placement:
    height, width = size
    short = min(size)
    tall = painter.uniform(0.36, 0.64)[:, None] * short
    x = width / 2 + painter.uniform(-0.1, 0.1)[:, None] * width
    y = height * painter.uniform(0.42, 0.55)[:, None]
    return _Placement(tall / FACE_CM, x, y, painter.uniform(55, 140)[:, None])


def _project(points: Tensor, shift: Tensor, where: _Placement) -> Tensor:
    """Pixels (x, y) and depth in cm of world points, [B, T, V, 3]."""
    moved = points[..., :2] + (shift - shift[:, :1])[:, :, None]
    near = where.scale * where.distance
    near = near[..., None] / (where.distance[..., None] - points[..., 2])
    x = where.x[..., None] + near * moved[..., 0]
    y = where.y[..., None] - near * moved[..., 1]
    return torch.stack([x, y, -points[..., 2]], -1)


def _light(painter: Painter, points: Tensor) -> tuple[Tensor, Tensor]:
    """Diffuse light [B, T, V, 3] and gloss [B, T, V, 1] per vertex."""
    top = topology(str(points.device))
    normal = mesh.vertex_normals(points, top.triangles)
    facing = torch.where(normal[..., 2:] < 0, -1.0, 1.0)
    facing[:, :, : mesh.SKIN] = 1.0
    normal = normal * facing
    sun = torch.cat(
        [painter.normal(1), painter.uniform(-0.2, 0.9, 1), painter.uniform(0.7, 1.4, 1)], 1
    )
    sun = sun / sun.norm(dim=1, keepdim=True)
    ambient = painter.uniform(0.4, 0.8)[:, None, None]
    diffuse = torch.einsum("btvc,bc->btv", normal, sun).clamp(min=0)
    warm = 1 + 0.06 * painter.normal(3)
    light = ambient + (1 - ambient) * 1.3 * diffuse
    shade = light[..., None] * warm[:, None, None]
    half = sun + sun.new_tensor((0, 0, 1))
    half = half / half.norm(dim=1, keepdim=True)
    gloss = torch.einsum("btvc,bc->btv", normal, half).clamp(min=0) ** 24
    gloss = gloss * painter.uniform(0, 0.16)[:, None, None] * (top.tile != TILES.index("cloth"))
    lit = top.shade[:, None]
    shade = (1 - lit + lit * shade) * top.dim[:, None]
    return shade, (gloss * top.shade)[..., None]


def _develop(painter: Painter, frames: Tensor) -> Tensor:
    """Exposure, contrast and a little grain, the same over a clip but for the grain."""
    gain = painter.uniform(0.85, 1.15)[:, None, None, None, None]
    bend = painter.uniform(0.85, 1.2)[:, None, None, None, None]
    return (frames.clamp(1e-4, 1) ** bend * gain).clamp(0, 1)
