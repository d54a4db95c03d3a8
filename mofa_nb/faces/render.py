"""Rendered face clips with exact landmarks and exact flow, to train the landmark adapter on.

A textured head of random shape, skin, hair and light is drawn over a photograph's crop. Everything
that is seen is a mesh, so where each pixel of the first frame goes is known.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.faces import mesh
from mofa_nb.faces.bundle import canonical_geometry
from mofa_nb.faces.curves import FaceCurves, random_curves
from mofa_nb.faces.head import TILES, Hair, HeadTopology, head_points, topology
from mofa_nb.faces.looks import Painter, paint_atlas
from mofa_nb.faces.points import VERTEX_OF_68
from mofa_nb.faces.raster import Raster, interpolate, rasterise

FACE_CM = 17.7  # forehead to chin of the canonical face
FACE_PARTS = 6  # the first parts: skin, eyes, mouth, teeth
FRAMES_AT_ONCE = 224
SAME_PART_CM, OTHER_PART_CM = 0.6, 0.03  # how much nearer a surface must be to hide another


@dataclass(frozen=True)
class FaceBatch:
    """Rendered clips.

    frames: [0, 1]. landmarks: the 68 points, pixels (x, y), pixel i covers [i, i + 1).
    flow: pixels (dx, dy), frame 0 -> frame t. visible: 1 where the frame-0 pixel is still seen in
    frame t. face_mask: 1 on the face (skin, eyes, mouth) of frame 0.
    """

    frames: Float[Tensor, "B T 3 H W"]
    landmarks: Float[Tensor, "B T 68 2"]
    flow: Float[Tensor, "B T-1 2 H W"]
    visible: Float[Tensor, "B T-1 1 H W"]
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
    camera = _camera(curves.camera, size)
    pixels = _project(points, curves.shift, where, camera)
    shade, gloss = _light(painter, points)
    behind = _Background(painter, backgrounds, size, camera)
    top = topology(str(backgrounds.device))
    frames, depth, part = _draw(pixels, shade, gloss, atlas, behind, size, supersample)
    flow, visible, face = _exact_flow(pixels, depth, part, behind, size, top)
    frames = _develop(painter, frames)
    return FaceBatch(frames, pixels[:, :, list(VERTEX_OF_68), :2], flow, visible, face)


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
    jaw = curves.strengths[..., 0]
    return head_points(neutral, expressed, jaw, curves.degrees, curves.gaze, hair)


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


def _camera(camera: Tensor, size: tuple[int, int]) -> Tensor:
    """Pan in pixels and zoom factor, relative to frame 0; [B, T, 3]."""
    camera = camera - camera[:, :1]
    short = min(size)
    return torch.cat([camera[..., :2] * short, 1 + camera[..., 2:]], -1)


def _project(points: Tensor, shift: Tensor, where: _Placement, camera: Tensor) -> Tensor:
    """Pixels (x, y) and depth in cm of world points, [B, T, V, 3]."""
    shift = (shift - shift[:, :1])[:, :, None]
    x = points[..., 0] + shift[..., 0]
    y = points[..., 1] + shift[..., 1]
    near = where.distance[..., None] / (where.distance[..., None] - points[..., 2])
    x = where.x[..., None] + where.scale[..., None] * near * x
    y = where.y[..., None] - where.scale[..., None] * near * y
    pan, zoom = camera[..., :2], camera[..., 2, None]
    x = (x - where.x[..., None]) * zoom + where.x[..., None] + pan[..., :1]
    y = (y - where.y[..., None]) * zoom + where.y[..., None] + pan[..., 1:]
    return torch.stack([x, y, -points[..., 2]], -1)


def _light(painter: Painter, points: Tensor) -> tuple[Tensor, Tensor]:
    """Diffuse light [B, T, V, 3] and gloss [B, T, V, 1] per vertex."""
    top = topology(str(points.device))
    normal = mesh.vertex_normals(points, top.triangles)
    facing = torch.where(normal[..., 2:] < 0, -1.0, 1.0)
    facing[:, :, : mesh.NECK] = 1.0
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


class _Background:
    """A crop of a photograph that follows the camera."""

    def __init__(self, painter: Painter, bank: Tensor, size: tuple[int, int], camera: Tensor):
        number = torch.randint(len(bank), (painter.batch,), generator=painter.generator)
        self.photo = bank[number.to(bank.device)].float() / 255
        height, width = bank.shape[-2:]
        fit = min(width / size[1], height / size[0])
        zoom = painter.uniform(0.55, 0.92)  # photo texels per pixel, as a share of what fits
        self.step = (zoom * fit)[:, None, None, None]
        slack = torch.stack(
            [(width - size[1] * zoom * fit) / 2, (height - size[0] * zoom * fit) / 2], -1
        )
        centre = self.photo.new_tensor((width / 2, height / 2))
        self.centre = (centre + slack * painter.uniform(-0.7, 0.7, 2))[:, None, None]
        self.size, self.camera = size, camera
        blur = painter.chance(0.5)[:, None, None, None]
        soft = functional.avg_pool2d(self.photo, 5, 1, 2, count_include_pad=False)
        self.photo = torch.lerp(self.photo, soft, blur)

    def moved(self, place: Tensor) -> Tensor:
        """Where the background at pixels `place` [B, H, W, 2] of frame 0 goes: [B, T, H, W, 2]."""
        middle = place.new_tensor((self.size[1] / 2, self.size[0] / 2))
        pan, zoom = self.camera[:, :, None, None, :2], self.camera[:, :, None, None, 2:]
        return (place[:, None] - middle) * zoom + middle + pan

    def picture(self, clip: Tensor, frame: Tensor, samples: int) -> Tensor:
        """What is seen in the frames numbered `frame` of the clips `clip`, [N, 3, H*s, W*s]."""
        height, width = self.size
        camera = self.camera[clip, frame][:, None, None]
        x = (torch.arange(width * samples, device=clip.device) + 0.5) / samples - width / 2
        y = (torch.arange(height * samples, device=clip.device) + 0.5) / samples - height / 2
        place = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)
        place = (place - camera[..., :2]) / camera[..., 2:]
        texel = self.centre[clip] + place * self.step[clip]
        limit = texel.new_tensor((self.photo.shape[-1], self.photo.shape[-2]))
        grid = texel / limit * 2 - 1
        return functional.grid_sample(
            self.photo[clip], grid, align_corners=False, padding_mode="reflection"
        )


def _draw(
    pixels: Tensor,
    shade: Tensor,
    gloss: Tensor,
    atlas: Tensor,
    behind: _Background,
    size: tuple[int, int],
    samples: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [B, T, 3, H, W], and per sample depth and part number (-1: background)."""
    batch, frames = pixels.shape[:2]
    top = topology(str(pixels.device))
    fine = (size[0] * samples, size[1] * samples)
    enlarge = pixels.new_tensor((samples, samples, 1))
    images, depths, parts = [], [], []
    step = max(1, FRAMES_AT_ONCE * 128 * 128 // (size[0] * size[1]))
    for chunk in torch.arange(batch * frames, device=pixels.device).split(step):
        clip, frame = chunk // frames, chunk % frames
        points = pixels[clip, frame] * enlarge
        raster = rasterise(points, top.triangles, fine)
        colour = _shaded(raster, shade[clip, frame], gloss[clip, frame], atlas, clip, top)
        seen = raster.covered[:, None]
        image = torch.where(seen, colour, behind.picture(clip, frame, samples))
        images.append(functional.avg_pool2d(image, samples) if samples > 1 else image)
        z = interpolate(raster, points[..., 2:], top.triangles)[..., 0]
        depths.append(torch.where(raster.covered, z, torch.full_like(z, torch.inf)))
        number = top.part.to(torch.int8)[raster.triangle.clamp(min=0)]
        parts.append(torch.where(raster.covered, number, -1))
    shape = (batch, frames)
    return (
        torch.cat(images).unflatten(0, shape).clamp(0, 1),
        torch.cat(depths).unflatten(0, shape),
        torch.cat(parts).unflatten(0, shape),
    )


def _shaded(
    raster: Raster, shade: Tensor, gloss: Tensor, atlas: Tensor, clip: Tensor, top: HeadTopology
) -> Tensor:
    """Texture times light, [N, 3, H, W]."""
    count = len(clip)
    margin = 0.5 / atlas.shape[-2]
    u = (top.tile[:, None] + top.uv[:, :1].clamp(margin, 1 - margin)) / len(TILES)
    look = torch.cat([u, top.uv[:, 1:]], 1) * 2 - 1
    values = torch.cat([look.expand(count, -1, -1), shade, gloss], -1)
    spread = interpolate(raster, values, top.triangles)
    colour = functional.grid_sample(
        atlas[clip], spread[..., :2], align_corners=False, padding_mode="border"
    )
    light = spread[..., 2:5].permute(0, 3, 1, 2)
    return colour * light + spread[..., 5:].permute(0, 3, 1, 2)


def _exact_flow(
    pixels: Tensor,
    depth: Tensor,
    part: Tensor,
    behind: _Background,
    size: tuple[int, int],
    top: HeadTopology,
) -> tuple[Tensor, Tensor, Tensor]:
    """Flow [B, T-1, 2, H, W], visibility [B, T-1, 1, H, W], face mask [B, 1, H, W]."""
    height, width = size
    first = rasterise(pixels[:, 0], top.triangles, size)
    number = torch.where(first.covered, top.part[first.triangle.clamp(min=0)], -1)
    x = torch.arange(width, device=pixels.device) + 0.5
    y = torch.arange(height, device=pixels.device) + 0.5
    here = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)  # H W 2
    far = behind.moved(here.expand(len(pixels), -1, -1, -1))
    flows, seen = [], []
    for t in range(1, pixels.shape[1]):
        target = interpolate(first, pixels[:, t], top.triangles)  # B H W 3
        place = torch.where(first.covered[..., None], target[..., :2], far[:, t])
        flows.append((place - here).permute(0, 3, 1, 2))
        z = torch.where(first.covered, target[..., 2], torch.full_like(target[..., 2], torch.inf))
        seen.append(_still_seen(place, z, number, depth[:, t], part[:, t], size))
    face = ((number >= 0) & (number < FACE_PARTS)).to(pixels.dtype)[:, None]
    return torch.stack(flows, 1), torch.stack(seen, 1)[:, :, None], face


def _still_seen(
    place: Tensor, z: Tensor, number: Tensor, depth: Tensor, part: Tensor, size: tuple[int, int]
) -> Bool[Tensor, "B H W"]:
    """True where a surface at `place`, `z` is what the picture shows there."""
    fine = depth.shape[-2:]
    x = (place[..., 0] * (fine[1] / size[1])).floor().long()
    y = (place[..., 1] * (fine[0] / size[0])).floor().long()
    inside = (x >= 0) & (x < fine[1]) & (y >= 0) & (y < fine[0])
    index = (y.clamp(0, fine[0] - 1) * fine[1] + x.clamp(0, fine[1] - 1)).flatten(1)
    there = torch.gather(depth.flatten(1), 1, index).view_as(z)
    what = torch.gather(part.flatten(1), 1, index).view_as(z).long()
    surface = (what == number) & (z <= there + SAME_PART_CM) | (z <= there + OTHER_PART_CM)
    return inside & torch.where(number < 0, what < 0, surface)


def _develop(painter: Painter, frames: Tensor) -> Tensor:
    """Exposure, contrast and a little grain, the same over a clip but for the grain."""
    gain = painter.uniform(0.85, 1.15)[:, None, None, None, None]
    bend = painter.uniform(0.85, 1.2)[:, None, None, None, None]
    return (frames.clamp(1e-4, 1) ** bend * gain).clamp(0, 1)
