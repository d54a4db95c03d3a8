"""A photographed face moved by its mesh: clips with exact landmarks and flow from one picture.

What a warp cannot make is drawn: the inside of the mouth, teeth, eyelids closing over the eyes.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import shaped
from mofa_nb.clips.draws import TEXTURE, Painter
from mofa_nb.clips.heads import head
from mofa_nb.clips.heads.film import FaceBatch, film, joined
from mofa_nb.clips.heads.head import MOUTH_LOOP, OVAL, FaceCurves, grid, still
from mofa_nb.clips.heads.render import mouth_tiles
from mofa_nb.faces import mesh
from mofa_nb.faces.mesh import fit_head, to_head, to_picture

# rings around the face: size over the outline, how far they follow the head and its expression
RINGS = ((1.0, 1.0, 1.0), (1.18, 0.95, 0.5), (1.45, 0.7, 0.12), (1.85, 0.3, 0.0), (2.4, 0.0, 0.0))
SKIN, EYES, MOUTH_PHOTO, WHITES, MOUTH, BITE, AROUND = range(7)  # numbers of the parts
OPEN_CM = 0.35  # lips further apart show the photograph's own teeth


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
    moved = functional.pad(curves.shift, (0, 1))[:, :, None] @ pose.rotation

    def placed(local: Tensor, set_back: float = 0.0) -> Tensor:
        """Head space to pixels (x, y) and depth, so many cm behind its place."""
        place = to_picture(mesh.posed(local, curves.degrees) + moved, pose)
        return torch.cat([place[..., :2], place[..., 2:] / pose.scale + set_back], -1)

    inner = _face(photo, points, neutral, curves)
    pieces = [(*piece, placed(local, set_back)) for *piece, local, set_back in inner]
    start = torch.cat([points[OVAL, :2], points[OVAL, 2:] / pose.scale], 1)  # 36 3
    rigid = placed(still(neutral[:, OVAL], *shape)) - start
    rings = _rings(start, rigid, pieces[0][-1][:, :, OVAL] - start - rigid)
    whole, texture = joined([*pieces, (AROUND, *rings)]), _texture(photo)
    size = points.new_tensor(texture.shape[:0:-1])
    x, y = _inside(points, photo).long().unbind(-1)
    tone = (photo[:, y, x].mean() / 0.55).clamp(0.4, 1.15)  # light on what is drawn
    lit = torch.where((whole.part >= WHITES) & (whole.part < AROUND), tone, 1.0)[:, None]
    clips = (texture, lit.expand(frames, -1, -1), photo)
    whole = whole._replace(look=whole.look / size * 2 - 1)
    return film(whole, *(each.expand(batch, -1, -1, -1) for each in clips), samples=1)


def _face(photo: Tensor, points: Tensor, neutral: Tensor, curves: FaceCurves) -> list[tuple]:
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
    pocket, bite = grid(3, len(MOUTH_LOOP), closed=True), grid(*head.TEETH)
    eyes = [opening(list(mesh.eye_loop(right))) for right in (True, False)]
    *mouth, lips = opening(MOUTH_LOOP)
    skin = torch.tensor(mesh.skin_triangles()), _inside(points, photo)
    return [
        (SKIN, *skin, expressed, 0.0),
        *((EYES, *eye, head.shifted(lids, curves.gaze), 0.1) for *eye, lids in eyes),
        *(
            (*drawn(WHITES, head.disc(*head.EYE)), still(ball, *shape), 0.35)
            for ball in head.eyeballs(neutral)
        ),
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
    triangles = grid(len(RINGS), len(OVAL), closed=True)[0]
    return triangles, torch.cat(looks), torch.cat(places, 2)


def _texture(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 _ _"]:
    """The photograph, and beside it the drawn tiles: white of the eye, mouth, teeth."""
    height, tall = photo.shape[-2], max(photo.shape[-2], TEXTURE)
    painter = Painter(1, photo.device, torch.Generator().manual_seed(0))
    white = torch.full((3, TEXTURE, TEXTURE), 0.85, device=photo.device)
    tiles = torch.cat([white, *(tile[0].clamp(0, 1) for tile in mouth_tiles(painter))], -1)
    padded = functional.pad(photo[None], (0, 0, 0, tall - height), mode="replicate")[0]
    return torch.cat([padded, functional.pad(tiles, (0, 0, 0, tall - TEXTURE))], -1)


def _inside(place: Tensor, photo: Tensor) -> Tensor:
    """(x, y) of points, held half a pixel away from the photograph's border."""
    limit = place.new_tensor((photo.shape[-1] - 0.5, photo.shape[-2] - 0.5))
    return torch.minimum(place[:, :2].clamp(min=0.5), limit)


def _with_centre(loop: Tensor) -> Tensor:
    return torch.cat([loop, loop.mean(-2, keepdim=True)], -2)
