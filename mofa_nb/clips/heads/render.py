"""Faces with exact landmarks and flow, what the landmark adapter is trained on: random heads
before photographs, and a photographed face moved by its mesh.

Shape, skin, hair, clothes, light and place of heads are drawn anew for every clip. What a warp of
a photograph cannot make is drawn: the inside of the mouth, teeth, eyelids closing over the eyes.
"""

import functools
from dataclasses import replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from mofa_nb.checks import InputError, shaped
from mofa_nb.clips.draws import TEXTURE, Painter
from mofa_nb.clips.heads import head
from mofa_nb.clips.heads.film import FACE_PARTS, FaceBatch, Mesh, film, joined, pixel_centres
from mofa_nb.clips.heads.head import MOUTH_LOOP, OVAL, TILES, FaceCurves, grid_mesh, still
from mofa_nb.faces import mesh
from mofa_nb.faces.mesh import fit_head, to_head, to_picture

FACE_CM = 17.7  # forehead to chin of the canonical face
SAMPLES, FINE = 2, 4  # of the picture per pixel and side; texels of masks per texel
SKINS = ((0.97, 0.82, 0.72), (0.78, 0.56, 0.42), (0.56, 0.38, 0.27), (0.36, 0.24, 0.17))
HAIRS = ((0.06, 0.05, 0.05), (0.42, 0.26, 0.13), (0.75, 0.6, 0.36), (0.6, 0.59, 0.58))
IRISES = ((0.25, 0.15, 0.08), (0.4, 0.28, 0.14), (0.3, 0.42, 0.3), (0.35, 0.5, 0.65))
FLESH = ((0.5, 0.16, 0.15), (0.35, 0.09, 0.1))
BEARD = (234, 132, 172, 150, 152, 379, 397, 361, 454, 411, 410, 287, 164, 57, 186, 187)
# Over the skin, one after the other: rows of face vertices, softness in texels, the width of a line
# (0: a filled outline), colour as a multiple of the skin's or the hair's, and how strong
COATS = (
    ((BEARD,), 5.0, 0.0, "hair", (0.9, 0.9, 0.9), (-1.2, 0.95)),
    (((*mesh.LIPS_UPPER[3], *reversed(mesh.LIPS_LOWER[3])),), 1.2, 0.0,
     "skin", (0.92, 0.55, 0.55), (0.5, 1.0)),
    ((mesh.LIPS_UPPER[0], mesh.LIPS_LOWER[0]), 0.8, 0.8, "skin", (0.41, 0.25, 0.25), (0.4, 0.9)),
    ((mesh.RIGHT_BROW, mesh.LEFT_BROW), 1.2, 0.0, "hair", (0.6, 0.6, 0.6), (0.5, 1.0)),
    (((33, *mesh.RIGHT_UPPER[0], 133), (263, *mesh.LEFT_UPPER[0], 362)), 0.7, 2.0,
     "skin", (0.15, 0.15, 0.15), (0.5, 1.0)),
    (((79, 20), (309, 250)), 1.0, 3.0, "skin", (0.22, 0.22, 0.22), (0.6, 1.0)),
)  # fmt: skip
# rings around the face: size over the outline, how far they follow the head and its expression
RINGS = ((1.0, 1.0, 1.0), (1.18, 0.95, 0.5), (1.45, 0.7, 0.12), (1.85, 0.3, 0.0), (2.4, 0.0, 0.0))
SKIN, EYES, MOUTH_PHOTO, WHITES, MOUTH, BITE, AROUND = range(7)  # numbers of the parts
OPEN_CM = 0.35  # lips further apart show the photograph's own teeth


def render_faces(
    batch: int, num_frames: int, size: tuple[int, int], backgrounds: UInt8[Tensor, "P 3 S1 S2"],
    generator: torch.Generator,
    *, curves: FaceCurves | None = None,
) -> FaceBatch:  # fmt: skip
    """Draw a batch of random talking, blinking, turning heads before crops of the `backgrounds`
    (0-255), on their device.

    size: (H, W). generator: on the CPU. curves: what moves; random when None."""
    if num_frames < 2 or min(size) < 32:
        raise InputError(f"need 2 frames of 32 pixels or more, got {num_frames} of {size}")
    painter = Painter(batch, backgrounds.device, generator)
    curves = curves or head.random_curves(painter, num_frames)
    person = head.random_head(painter, curves)
    light = _light(painter, person)
    person = person._replace(points=_projected(painter, person.points, curves.shift, size))
    clips = film(person, _texture(painter), light, _crops(painter, backgrounds, size), SAMPLES)
    gain = painter.uniform(0.85, 1.15, 1, 1, 1, 1) * (1 + 0.05 * painter.normal(1, 3, 1, 1))
    return replace(clips, frames=(clips.frames * gain).clamp(0, 1))


def _light(painter: Painter, person: Mesh) -> Float[Tensor, "B T V 1"]:
    """A sun and what comes from all around; eyes and mouth have the face's mean."""
    normal = mesh.vertex_normals(person.points, person.triangles)
    facing = torch.where((normal[..., 2:] < 0) & (person.part > 0)[:, None], -1.0, 1.0)
    sun = [painter.normal(1), painter.uniform(-0.2, 0.9, 1), painter.uniform(0.7, 1.4, 1)]
    sun = F.normalize(torch.cat(sun, 1))
    ambient = painter.uniform(0.4, 0.8, 1, 1, 1)
    diffuse = torch.einsum("btvc,bc->btv", normal * facing, sun).clamp(min=0)[..., None]
    light = ambient + (1 - ambient) * 1.3 * diffuse
    inside = (person.part > 0) & (person.part < FACE_PARTS)
    mean = light[:, :, : mesh.SKIN].mean(2, keepdim=True)
    return torch.where(inside[:, None], mean, light)


def _projected(painter: Painter, points: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (x, y) and depth in cm of world points before a random camera, [B, T, V, 3]."""
    scale = painter.uniform(0.36, 0.64, 1, 1) * min(size) / FACE_CM  # pixels per cm
    x = size[1] / 2 + painter.uniform(-0.1, 0.1, 1, 1) * size[1]
    y = size[0] * painter.uniform(0.42, 0.55, 1, 1)
    distance = painter.uniform(55, 140, 1, 1)  # cm
    near = scale * distance / (distance - points[..., 2])
    moved = near[..., None] * (points[..., :2] + (shift - shift[:, :1])[:, :, None])
    return torch.stack([x + moved[..., 0], y - moved[..., 1], -points[..., 2]], -1)


def _crops(painter: Painter, photos: Tensor, size: tuple[int, int]) -> Float[Tensor, "B 3 H W"]:
    number = torch.randint(len(photos), (painter.batch,), generator=painter.generator)
    photo = photos[number.to(photos.device)].float() / 255
    soft = F.avg_pool2d(photo, 5, 1, 2, count_include_pad=False)
    photo = torch.lerp(photo, soft, painter.chance(0.5, 1, 1, 1))
    sides = photo.new_tensor((size[1] / photo.shape[-1], size[0] / photo.shape[-2]))
    part = painter.uniform(0.55, 0.92, 1) * sides / sides.max()  # of the photograph, x and y
    place = (1 - part) * painter.uniform(-0.7, 0.7, 2)
    theta = torch.cat([torch.diag_embed(part), place[..., None]], -1)
    place = F.affine_grid(theta, [len(photo), 3, *size], align_corners=False)
    return F.grid_sample(photo, place, align_corners=False, padding_mode="reflection")


@functools.cache
def _masks() -> list[Float32[np.ndarray, "S S"]]:
    texels, masks = mesh.canonical_geometry()[1] * TEXTURE * FINE, []
    for rows, blur, width, *_ in COATS:
        canvas = np.zeros((TEXTURE * FINE, TEXTURE * FINE), np.float32)
        for vertices in rows:
            place = [np.int32(texels[list(vertices)])]
            if width:
                cv2.polylines(canvas, place, False, 1.0, int(width * FINE))
            else:
                cv2.fillPoly(canvas, place, 1.0)
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur * FINE)
        masks.append(cv2.resize(canvas, (TEXTURE, TEXTURE), interpolation=cv2.INTER_AREA))
    return masks


def _texture(painter: Painter) -> Float[Tensor, "B 3 S A"]:
    """TILES side by side, each S x S, values in [0, 1]."""
    skin, hair = painter.colour(SKINS), painter.colour(HAIRS)
    mouth, teeth = mouth_tiles(painter)
    strands = F.interpolate(painter.normal(1, 6, 60), (TEXTURE, TEXTURE), mode="bicubic")
    face = skin * (1 + 0.05 * painter.clouds(5) + 0.03 * painter.clouds(24))
    for mask, (*_, colour, factors, strength) in zip(_masks(), COATS, strict=True):
        coat = {"skin": skin, "hair": hair}[colour] * skin.new_tensor(factors).view(3, 1, 1)
        opaque = torch.tensor(mask, device=skin.device) * painter.uniform(*strength, 1, 1, 1)
        face = torch.lerp(face, coat, opaque.clamp(min=0))
    tiles = {
        "face": face, "eye": _eye(painter), "mouth": mouth, "teeth": teeth,
        "hair": hair * (1 + painter.uniform(0.12, 0.3, 1, 1, 1) * strands),
        "skin": skin * (1 + 0.04 * painter.clouds(8)),
        "neck": 0.8 * skin * (1 + 0.04 * painter.clouds(8)),
        "cloth": painter.uniform(0.05, 0.9, 3, 1, 1) * (1 + 0.08 * painter.clouds(10)),
    }  # fmt: skip
    return torch.cat([tiles[name].clamp(0, 1) for name in TILES], -1)


def _eye(painter: Painter) -> Tensor:
    x, y = _plane(painter.device)
    radius, iris = torch.hypot(x, y), painter.colour(IRISES)
    size = painter.uniform(0.34, 0.42, 1, 1, 1)
    white = painter.uniform(0.82, 0.98, 1, 1, 1) * x.new_tensor((1, 0.98, 0.96)).view(3, 1, 1)
    ring = (radius / size).clamp(0, 1) ** 4
    image = torch.lerp(white, iris * (1 - 0.6 * ring), ((size - radius) * 30).clamp(0, 1))
    image = image * (1 - 0.95 * ((size * 0.45 - radius) * 30).clamp(0, 1))
    gap = (x - painter.uniform(-0.2, 0.2, 1, 1, 1)) ** 2 + (y + 0.16) ** 2
    return (image + 0.9 * torch.exp(-gap / 0.006)) * (1 - 0.55 * (-(y + 0.12) * 2.2).clamp(0, 1))


def _plane(device: torch.device) -> tuple[Tensor, Tensor]:
    """x to the right and y down in [-1, 1] over a texture tile, [S, S] each."""
    return (pixel_centres((TEXTURE, TEXTURE), device) / TEXTURE * 2 - 1).unbind(-1)


def mouth_tiles(painter: Painter) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 3 S S"]]:
    """Inside of a mouth, v from lips to throat, u around from the right corner, upper lip first;
    and a row of teeth, u along it."""
    x, y = _plane(painter.device)
    flesh = painter.colour(FLESH)
    depth = ((1 - y) / 2).clamp(0, 1) ** 1.6
    tongue = torch.exp(-(((x - 0.5) / 0.28) ** 2)) * torch.exp(-(((y + 0.35) / 0.4) ** 2))
    tone = painter.uniform(0.72, 0.95, 1, 1, 1) * x.new_tensor((1.0, 0.97, 0.9)).view(3, 1, 1)
    gaps = (0.5 + 0.5 * torch.cos(x * torch.pi * 5)) ** 24 * 0.3
    teeth = tone * (1 - gaps) * (1 - 0.35 * x.abs() ** 3)
    return flesh * (0.1 + 0.75 * depth + 0.9 * tongue), teeth


def animate_portrait(
    photo: Float[Tensor, "3 H W"], landmarks: Float[Tensor, "P 3"], curves: FaceCurves
) -> FaceBatch:
    """Move a real face along curves, a clip per row; what is far from it stays as photographed.

    landmarks: the detector's 478 points (or the first 468), pixels, in 3-D. curves: strengths add
    to the photographed expression, degrees and shift to its pose; a frame whose curves are zero is
    the photograph, but for single pixels at the edges of lips and eyelids."""
    shaped(landmarks, "478 3 | 468 3", "points of a portrait")
    points, curves = landmarks[:468].to(photo.device, torch.float32), curves.to(photo.device)
    batch, frames = shape = curves.strengths.shape[:2]
    pose = fit_head(points)
    neutral = to_head(points, pose)[None]  # 1 468 3
    moved = F.pad(curves.shift, (0, 1))[:, :, None] @ pose.rotation

    def placed(local: Tensor, set_back: float = 0.0) -> Tensor:
        """Head space to pixels (x, y) and depth, so many cm behind its place."""
        place = to_picture(mesh.posed(local, curves.degrees) + moved, pose)
        return torch.cat([place[..., :2], place[..., 2:] / pose.scale + set_back], -1)

    inner = _pieces(photo, points, neutral, curves)
    pieces = [(*piece, placed(local, set_back)) for *piece, local, set_back in inner]
    start = torch.cat([points[OVAL, :2], points[OVAL, 2:] / pose.scale], 1)  # 36 3
    rigid = placed(still(neutral[:, OVAL], *shape)) - start
    rings = _rings(start, rigid, pieces[0][-1][:, :, OVAL] - start - rigid)
    whole, texture = joined([*pieces, (AROUND, *rings)]), _sheet(photo)
    size = points.new_tensor(texture.shape[:0:-1])
    x, y = _inside(points, photo).long().unbind(-1)
    tone = (photo[:, y, x].mean() / 0.55).clamp(0.4, 1.15)  # light on what is drawn
    lit = torch.where((whole.part >= WHITES) & (whole.part < AROUND), tone, 1.0)[:, None]
    clips = (texture, lit.expand(frames, -1, -1), photo)
    whole = whole._replace(look=whole.look / size * 2 - 1)
    return film(whole, *(each.expand(batch, -1, -1, -1) for each in clips), samples=1)


def _pieces(photo: Tensor, points: Tensor, neutral: Tensor, curves: FaceCurves) -> list[tuple]:
    """For each piece of the face: part, triangles, where its vertices read the texture (texels),
    where they are in head space, and how far behind that they are drawn (cm): lids lie before eyes,
    lips before teeth, the photographed mouth only where the lips stand open."""
    shape = curves.strengths.shape[:2]
    is_open = float((neutral[0, 13] - neutral[0, 14]).norm()) > OPEN_CM

    def opening(loop: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Triangles from a loop's vertices to its centre, which comes last."""
        here = torch.arange(len(loop))
        fan = torch.stack([here, here.roll(-1), torch.full_like(here, len(loop))], 1)
        return fan, _inside(_with_centre(points[loop]), photo), _with_centre(neutral[:, loop])

    def drawn(part: int, piece: tuple[Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
        """A piece that reads its own tile beside the photograph."""
        texels = piece[1].to(points).clamp(0.5 / TEXTURE, 1 - 0.5 / TEXTURE) * TEXTURE
        aside = (photo.shape[-1] + (part - WHITES) * TEXTURE, 0)
        return part, piece[0], texels + texels.new_tensor(aside)

    expressed = mesh.express(still(neutral, *shape), curves.strengths)
    bag, *teeth = head.mouth_inside(neutral, expressed, curves.strengths)
    pocket, bite = grid_mesh(3, len(MOUTH_LOOP), closed=True), grid_mesh(*head.TEETH)
    eyes = [opening(list(mesh.eye_loop(right))) for right in (True, False)]
    *mouth, lips = opening(MOUTH_LOOP)
    skin = torch.tensor(mesh.skin_triangles()), _inside(points, photo)
    white = drawn(WHITES, head.disc(*head.EYE))
    return [
        (SKIN, *skin, expressed, 0.0),
        *((EYES, *eye, head.shifted(lids, curves.gaze), 0.1) for *eye, lids in eyes),
        *((*white, still(ball, *shape), 0.35) for ball in head.eyeballs(neutral)),
        (MOUTH_PHOTO, *mouth, still(lips, *shape), 0.35 if is_open else 6.0),
        (*drawn(MOUTH, pocket), bag, 0.0),
        *((*drawn(BITE, bite), row, 1.2 if is_open else 0.0) for row in teeth),
    ]


def _rings(start: Tensor, rigid: Tensor, extra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Triangles, texels and places of the face's surroundings, which fade from the head's motion
    (and the expression's, `extra`) into the photograph."""
    looks, places = [], []
    for number, (grow, follow, feel) in enumerate(RINGS):
        ring = start.mean(0) + (start - start.mean(0)) * grow
        ring[:, 2] = start[:, 2] + 0.2 + 2.5 * number
        looks.append(ring[:, :2])
        places.append(ring + follow * rigid + feel * extra)
    triangles = grid_mesh(len(RINGS), len(OVAL), closed=True)[0]
    return triangles, torch.cat(looks), torch.cat(places, 2)


def _sheet(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 _ _"]:
    """The photograph, and beside it the drawn tiles: white of the eye, mouth, teeth."""
    height, tall = photo.shape[-2], max(photo.shape[-2], TEXTURE)
    painter = Painter(1, photo.device, torch.Generator().manual_seed(0))
    white = torch.full((3, TEXTURE, TEXTURE), 0.85, device=photo.device)
    tiles = torch.cat([white, *(tile[0].clamp(0, 1) for tile in mouth_tiles(painter))], -1)
    padded = F.pad(photo[None], (0, 0, 0, tall - height), mode="replicate")[0]
    return torch.cat([padded, F.pad(tiles, (0, 0, 0, tall - TEXTURE))], -1)


def _inside(place: Tensor, photo: Tensor) -> Tensor:
    """(x, y) of points, held half a pixel away from the photograph's border."""
    limit = place.new_tensor((photo.shape[-1] - 0.5, photo.shape[-2] - 0.5))
    return torch.minimum(place[:, :2].clamp(min=0.5), limit)


def _with_centre(loop: Tensor) -> Tensor:
    return torch.cat([loop, loop.mean(-2, keepdim=True)], -2)
