"""A photographed face moved by its mesh: clips with exact landmarks and flow from one picture.

What a warp cannot make is drawn: the inside of the mouth, teeth, eyelids closing over the eyes.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.clips.draws import TEXTURE, Painter
from mofa_nb.clips.heads import head
from mofa_nb.clips.heads.camera import Canvas, FaceBatch, film, still_photo
from mofa_nb.clips.heads.curves import FaceCurves
from mofa_nb.clips.heads.textures import mouth_tile, teeth_tile
from mofa_nb.faces import mesh
from mofa_nb.faces.pose import HeadPose, fit_head, to_head, to_picture

# rings around the face: size over the outline, how far they follow the head and its expression
RINGS = ((1.0, 1.0, 1.0), (1.18, 0.95, 0.5), (1.45, 0.7, 0.12), (1.85, 0.3, 0.0), (2.4, 0.0, 0.0))
SKIN, EYES, WHITES, MOUTH_PHOTO, MOUTH, BITE, AROUND = range(7)  # numbers of the parts
DRAWN = (WHITES, MOUTH, BITE)  # the others show the photograph
OPEN_CM = 0.35  # lips further apart show the photograph's own teeth
EYE_LOOPS = [list(mesh.eye_loop(right)) for right in (True, False)]
MOUTH_LOOP, OVAL = list(mesh.mouth_loop()), list(mesh.OVAL)


def animate_portrait(
    photo: Float[Tensor, "3 H W"],
    landmarks: Float[Tensor, "P 3"],
    curves: FaceCurves,
    *,
    supersample: int = 2,
) -> FaceBatch:
    """Move a real face along curves, a clip per row; what is far from it stays as photographed.

    landmarks: the detector's 478 points (or the first 468), pixels, in 3-D. curves: strengths add
    to the photographed expression, degrees and shift to its pose; a frame whose curves are zero is
    the photograph, but for single pixels at the edges of lips and eyelids."""
    if landmarks.shape[0] < 468 or landmarks.shape[1] != 3:
        raise InputError(f"a portrait needs 478 points in 3-D, got {tuple(landmarks.shape)}")
    points, curves = landmarks[:468].to(photo.device, torch.float32), curves.to(photo.device)
    pose = fit_head(points)
    neutral = to_head(points, pose)[None]  # 1 468 3
    pixels = _moved(points, neutral, pose, curves)
    is_open = float((neutral[0, 13] - neutral[0, 14]).norm()) > OPEN_CM
    texture, pieces = _looks(photo, points, is_open)
    parts, triangles, looks, set_back = zip(*pieces, strict=True)
    counts = [*map(len, looks)]

    def per_vertex(values: Iterable[float]) -> Tensor:  # V 1
        filled = zip(counts, values, strict=True)
        return torch.cat([points.new_full((count, 1), value) for count, value in filled])

    depth = pixels[..., 2:] / pose.scale + per_vertex(set_back)
    pixels = torch.cat([pixels[..., :2], depth], -1)
    x, y = _inside(points[:, :2], photo).long().unbind(-1)
    tone = float((photo[:, y, x].mean() / 0.55).clamp(0.4, 1.15))  # light on what is drawn
    light = per_vertex(tone if part in DRAWN else 1.0 for part in parts)
    faces, part = (each.to(photo.device) for each in head.joined(triangles, counts, parts))
    canvas = Canvas(
        faces,
        part,
        torch.where(part % AROUND == 0, -1, part),  # skin and what is around it: one surface
        torch.cat(looks) / points.new_tensor((texture.shape[-1], texture.shape[-2])) * 2 - 1,
        texture.expand(len(pixels), -1, -1, -1),
        light.expand(*pixels.shape[:2], -1, 3),
        torch.zeros_like(pixels[..., :1]),
    )
    behind = still_photo(photo, curves.camera)
    return film(pixels, canvas, behind, samples=supersample, crisp=True)


def _looks(photo: Tensor, points: Tensor, is_open: bool) -> tuple[Tensor, list[tuple]]:
    """Photograph and drawn tiles side by side; and for each piece of the mesh, in the order of
    `_moved`: part, triangles, where its vertices read the texture (texels), and how far behind its
    place it is drawn (cm): lids lie before eyes, lips before teeth, the photographed mouth only
    where the lips stand open."""
    height, width = photo.shape[-2:]
    tall = max(height, TEXTURE)
    painter = Painter(1, photo.device, torch.Generator().manual_seed(0))
    white = torch.full((3, TEXTURE, TEXTURE), 0.85, device=photo.device)
    tiles = [white, *(paint(painter)[0].clamp(0, 1) for paint in (mouth_tile, teeth_tile))]
    strip = [functional.pad(tile, (0, 0, 0, tall - TEXTURE)) for tile in tiles]
    padded = functional.pad(photo[None], (0, 0, 0, tall - height), mode="replicate")[0]

    def tile(number: int, uv: Tensor) -> Tensor:
        uv = uv.to(photo.device).clamp(0.5 / TEXTURE, 1 - 0.5 / TEXTURE) * TEXTURE
        return uv + uv.new_tensor((width + number * TEXTURE, 0))

    def opening(loop: list[int]) -> tuple[Tensor, Tensor]:
        """Triangles from a loop's vertices to its centre, which comes last."""
        here = torch.arange(len(loop))
        fan = torch.stack([here, here.roll(-1), torch.full_like(here, len(loop))], 1)
        return fan, _inside(_with_centre(points[loop])[:, :2], photo)

    start = points[OVAL, :2]
    rings = torch.cat([start.mean(0) + (start - start.mean(0)) * grow for grow, _, _ in RINGS])
    ball, teeth = head.disc(*head.EYE), head.grid(*head.TEETH)
    pocket = head.grid(3, len(MOUTH_LOOP), closed=True)
    pieces = [
        (SKIN, torch.tensor(mesh.skin_triangles()), _inside(points[:, :2], photo), 0.0),
        *((EYES, *opening(loop), 0.1) for loop in EYE_LOOPS),
        *[(WHITES, ball[0], tile(0, ball[1]), 0.35)] * 2,
        (MOUTH_PHOTO, *opening(MOUTH_LOOP), 0.35 if is_open else 6.0),
        (MOUTH, pocket[0], tile(1, pocket[1]), 0.0),
        *[(BITE, teeth[0], tile(2, teeth[1]), 1.2 if is_open else 0.0)] * 2,
        (AROUND, head.grid(len(RINGS), len(OVAL), closed=True)[0], rings, 0.0),
    ]
    return torch.cat([padded, *strip], -1)[None], pieces


def _inside(place: Tensor, photo: Tensor) -> Tensor:
    """Pixels (x, y) held half a pixel away from the photo's border."""
    limit = place.new_tensor((photo.shape[-1] - 0.5, photo.shape[-2] - 0.5))
    return torch.minimum(place.clamp(min=0.5), limit)


def _moved(points: Tensor, neutral: Tensor, pose: HeadPose, curves: FaceCurves) -> Tensor:
    """All vertices in the picture, pixels (x, y, depth), [B, T, V, 3]."""
    batch, frames = curves.strengths.shape[:2]
    shift = functional.pad(curves.shift, (0, 1))[:, :, None]

    def still(local: Tensor) -> Tensor:
        return local[:, None].expand(batch, frames, -1, -1)

    def placed(local: Tensor) -> Tensor:
        return to_picture(mesh.posed(local, curves.degrees) + shift @ pose.rotation, pose)

    expressed = mesh.express(still(neutral), curves.strengths)
    upper, lower = head.teeth_bands(neutral)
    inner = [
        *(head.shifted(_with_centre(neutral[:, loop]), curves.gaze) for loop in EYE_LOOPS),
        *map(still, head.eyeballs(neutral)),
        still(_with_centre(neutral[:, MOUTH_LOOP])),
        head.mouth_pocket(neutral, expressed),
        still(upper),
        head.turned_with_jaw(lower.expand(batch, -1, -1), curves.strengths),
    ]
    start = points[OVAL]  # 36 3
    rigid = placed(still(neutral[:, OVAL])) - start
    face = placed(torch.cat([expressed, *inner], 2))
    extra = face[:, :, OVAL] - start - rigid
    rings = []
    for number, (grow, follow, feel) in enumerate(RINGS):
        ring = start.mean(0) + (start - start.mean(0)) * grow
        ring[:, 2] = start[:, 2] + (0.2 + 2.5 * number) * float(pose.scale)
        rings.append(ring + follow * rigid + feel * extra)
    return torch.cat([face, *rings], 2)


def _with_centre(loop: Tensor) -> Tensor:
    return torch.cat([loop, loop.mean(-2, keepdim=True)], -2)
