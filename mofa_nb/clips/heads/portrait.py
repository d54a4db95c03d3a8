"""A photographed face moved by its mesh: clips with exact landmarks and flow from one picture.

The skin stretches as the mesh does; what a warp cannot make is drawn: the inside of the mouth and
teeth behind the lips, eyelids closing over the eyes. Around the face the picture follows with a
smooth falloff.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError
from mofa_nb.clips.heads.camera import (
    Canvas,
    StillPhoto,
    camera_path,
    draw_frames,
    exact_flow,
    filmed,
)
from mofa_nb.clips.heads.curves import FaceCurves, random_curves
from mofa_nb.clips.heads.head import TEETH, disc, eyeball, grid, mouth_pocket, teeth_bands
from mofa_nb.clips.heads.head import turned_with_jaw as with_jaw
from mofa_nb.clips.heads.painter import TEXTURE, Painter
from mofa_nb.clips.heads.render import FACE_PARTS, FaceBatch
from mofa_nb.clips.heads.textures import mouth_tile, teeth_tile
from mofa_nb.faces import mesh
from mofa_nb.faces.points import VERTEX_OF_68
from mofa_nb.faces.pose import fit_head, to_head, to_picture

# rings around the face: size over the outline, how far they follow the head and its expression
RINGS = ((1.0, 1.0, 1.0), (1.18, 0.95, 0.5), (1.45, 0.7, 0.12), (1.85, 0.3, 0.0), (2.4, 0.0, 0.0))
PARTS = ("skin", "eyes", "whites", "mouth_photo", "mouth", "teeth", "around")
OPEN_CM = 0.35  # lips further apart show the photograph's own teeth


def random_portrait_clips(
    photo: Float[Tensor, "3 H W"],
    points: Float[Tensor, "P 3"],
    batch: int,
    num_frames: int,
    generator: torch.Generator,
) -> FaceBatch:
    """A real face talking, blinking and turning at random; to train and test beside rendered ones.

    Args:
        generator: on the CPU; the same seed gives the same clips.
    """
    curves = random_curves(Painter(batch, photo.device, generator), num_frames)
    return animate_portrait(photo, points, curves)


def animate_portrait(
    photo: Float[Tensor, "3 H W"],
    landmarks: Float[Tensor, "P 3"],
    curves: FaceCurves,
    *,
    supersample: int = 2,
) -> FaceBatch:
    """Move a real face along curves; one clip for each row of the curves.

    Args:
        photo: [0, 1]. landmarks: the detector's 478 points (or the first 468), pixels, in 3-D.
        curves: strengths add to the photographed expression, degrees and shift to its pose;
            where those of frame 0 are zero it shows the photograph, unchanged but for single
            pixels at the edges of lips and eyelids.
    Returns:
        clips, in which pixels far from the face stay as photographed.
    """
    if landmarks.shape[0] < 468 or landmarks.shape[1] != 3:
        raise InputError(f"a portrait needs 478 points in 3-D, got {tuple(landmarks.shape)}")
    size = (photo.shape[-2], photo.shape[-1])
    points = landmarks[:468].to(photo.device, torch.float32)
    camera = camera_path(curves.camera.to(points), size)
    pixels = _moved(points, curves)
    pixels = torch.cat([filmed(pixels[..., :2], camera, size), pixels[..., 2:]], -1)
    canvas = _canvas(photo, points, pixels)
    behind = StillPhoto(photo, camera)
    drawing = draw_frames(pixels, canvas, behind, samples=supersample, crisp=True)
    flow, visible, part = exact_flow(pixels, canvas, behind, drawing)
    face = ((part >= 0) & (part < FACE_PARTS)).to(pixels.dtype)[:, None]
    shown = pixels[:, :, list(VERTEX_OF_68), :2]
    return FaceBatch(drawing.frames, shown, flow, visible, face)


def _canvas(photo: Tensor, points: Tensor, pixels: Tensor) -> Canvas:
    texture, look, light = _photo_texture(photo, points)
    triangles, part = _layout(photo.device)
    return Canvas(
        triangles,
        part,
        torch.where(part % PARTS.index("around") == 0, -1, part),  # skin, around it, backdrop
        look,
        texture.expand(len(pixels), -1, -1, -1),
        light.expand(*pixels.shape[:2], -1, -1),
        torch.zeros_like(pixels[..., :1]),
    )


def _layout(device: torch.device) -> tuple[Tensor, Tensor]:
    """Triangles and their part numbers, vertices in the order of `_moved`."""
    eye = len(mesh.eye_loop(True))
    mouth = len(mesh.mouth_loop())
    pieces = [
        (torch.tensor(mesh.skin_triangles()), 468, "skin"),
        *[(_fan(eye), eye + 1, "eyes")] * 2,
        *[(disc(5, 16)[0], 80, "whites")] * 2,
        (_fan(mouth), mouth + 1, "mouth_photo"),
        (grid(3, mouth, closed=True)[0], 3 * mouth, "mouth"),
        *[(grid(2, TEETH)[0], 2 * TEETH, "teeth")] * 2,
        (grid(len(RINGS), 36, closed=True)[0], len(RINGS) * 36, "around"),
    ]
    triangles, part, start = [], [], 0
    for index, count, name in pieces:
        triangles.append(index + start)
        part.append(torch.full((len(index),), PARTS.index(name)))
        start += count
    return torch.cat(triangles).to(device), torch.cat(part).to(device)


def _fan(count: int) -> Tensor:
    """Triangles from a loop's vertices to its centre, which comes last."""
    here = torch.arange(count)
    return torch.stack([here, here.roll(-1), torch.full_like(here, count)], 1)


def _moved(points: Tensor, curves: FaceCurves) -> Tensor:
    """All vertices in the picture, pixels and depth in cm, [B, T, V, 3]."""
    pose = fit_head(points)
    neutral = to_head(points, pose)[None]  # 1 468 3
    strengths = curves.strengths.to(points)
    batch, frames = strengths.shape[:2]
    expressed = mesh.express(neutral.expand(batch, frames, -1, -1), strengths)
    inner = _inner_parts(neutral, expressed, curves)
    degrees = curves.degrees.to(points)
    shift = functional.pad(curves.shift.to(points), (0, 1))[:, :, None]

    def placed(local: Tensor) -> Tensor:
        return to_picture(mesh.posed(local, degrees) + shift @ pose.rotation, pose)

    oval = list(mesh.OVAL)
    start = points[oval]  # 36 3
    rigid = placed(neutral[:, None, oval].expand(batch, frames, -1, -1)) - start
    face = placed(torch.cat([expressed, inner], 2))
    extra = face[:, :, oval] - start - rigid
    around = _rings(start, rigid, extra, float(pose.scale))
    moved = torch.cat([face, around], 2)
    depth = moved[..., 2:] / pose.scale + _set_back(neutral)
    return torch.cat([moved[..., :2], depth], -1)


def _set_back(neutral: Tensor) -> Tensor:
    """How far behind its place each vertex is drawn, cm, [V, 1]: lids before eyes, lips before
    teeth, and the photographed mouth only where the lips stand open."""
    is_open = float((neutral[0, 13] - neutral[0, 14]).norm()) > OPEN_CM
    depths = (
        (468, 0.0),
        (34, 0.1),  # eyes
        (160, 0.35),  # whites
        (21, 0.35 if is_open else 6.0),  # photographed mouth
        (60, 0.0),  # drawn mouth
        (4 * TEETH, 1.2 if is_open else 0.0),
        (len(RINGS) * 36, 0.0),
    )
    return torch.cat([neutral.new_full((count,), back) for count, back in depths])[:, None]


def _rings(start: Tensor, rigid: Tensor, extra: Tensor, scale: float | int) -> Tensor:
    centre = start.mean(0)
    rings = []
    for number, (grow, follow, feel) in enumerate(RINGS):
        ring = centre + (start - centre) * grow
        ring[:, 2] = start[:, 2] + (0.2 + 2.5 * number) * scale
        rings.append(ring + follow * rigid + feel * extra)
    return torch.cat(rings, 2)


def _inner_parts(neutral: Tensor, expressed: Tensor, curves: FaceCurves) -> Tensor:
    """Eyes, whites, photographed and drawn mouth, teeth; in head space, [B, T, V, 3]."""
    batch, frames = expressed.shape[:2]

    def still(points: Tensor) -> Tensor:
        return points[:, None].expand(batch, frames, -1, -1)

    gaze = functional.pad(curves.gaze.to(neutral), (0, 1))[:, :, None]
    eyes = [
        still(_with_centre(neutral[:, list(mesh.eye_loop(right))])) + gaze
        for right in (True, False)
    ]
    whites = [still(eyeball(neutral, right)) for right in (True, False)]
    mouth = _with_centre(neutral[:, list(mesh.mouth_loop())])
    upper, lower = teeth_bands(neutral)
    jaw = curves.strengths[..., 0].to(neutral)
    lower = with_jaw(lower.expand(batch, -1, -1), jaw)
    pocket = mouth_pocket(neutral.expand(batch, -1, -1), expressed)
    return torch.cat([*eyes, *whites, still(mouth), pocket, still(upper), lower], 2)


def _with_centre(loop: Tensor) -> Tensor:
    return torch.cat([loop, loop.mean(1, keepdim=True)], 1)


def _photo_texture(photo: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Photograph and drawn tiles side by side, where each vertex looks, and its light."""
    height, width = photo.shape[-2:]
    painter = Painter(1, photo.device, torch.Generator().manual_seed(0))
    white = torch.full((3, TEXTURE, TEXTURE), 0.85, device=photo.device)
    tiles = [white, mouth_tile(painter)[0].clamp(0, 1), teeth_tile(painter)[0].clamp(0, 1)]
    tall = max(height, TEXTURE)
    strip = [functional.pad(tile, (0, 0, 0, tall - TEXTURE)) for tile in tiles]
    padded = functional.pad(photo[None], (0, 0, 0, tall - height), mode="replicate")[0]
    texture = torch.cat([padded, *strip], -1)

    def tile(number: int, uv: Tensor) -> Tensor:
        uv = uv.to(photo.device).clamp(0.5 / TEXTURE, 1 - 0.5 / TEXTURE) * TEXTURE
        return uv + uv.new_tensor((width + number * TEXTURE, 0))

    ring = len(mesh.mouth_loop())
    limit = photo.new_tensor((width - 0.5, height - 0.5))

    def own(place: Tensor) -> Tensor:
        return torch.minimum(place.clamp(min=0.5), limit)

    eyes = [_with_centre(points[None, list(mesh.eye_loop(r))])[0, :, :2] for r in (True, False)]
    mouth = _with_centre(points[None, list(mesh.mouth_loop())])[0, :, :2]
    start = points[list(mesh.OVAL), :2]
    rings = [start.mean(0) + (start - start.mean(0)) * grow for grow, _, _ in RINGS]
    drawn = [
        *[tile(0, disc(5, 16)[1])] * 2,
        own(mouth),
        tile(1, grid(3, ring)[1]),
        *[tile(2, grid(2, TEETH)[1])] * 2,
    ]
    look = torch.cat([own(points[:, :2]), *map(own, eyes), *drawn, *rings])
    look = look / look.new_tensor((texture.shape[-1], tall)) * 2 - 1
    count = [468 + sum(map(len, eyes)), 160, len(mouth), 3 * ring + 4 * TEETH, len(RINGS) * 36]
    bright = own(points[:, :2]).long()
    tone = photo[:, bright[:, 1], bright[:, 0]].mean() / 0.55
    gains = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0], device=photo.device)
    light = torch.where(gains > 0, gains, tone.clamp(0.4, 1.15))
    light = light.repeat_interleave(torch.tensor(count, device=photo.device))
    return texture[None], look, light[None, None, :, None].expand(-1, -1, -1, 3)
