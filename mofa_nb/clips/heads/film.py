"""Moving meshes over a picture: frames, exact flow, and what stays visible."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.heads.raster import interpolate, pixel_centres, rasterise
from mofa_nb.faces.points import VERTEX_OF_68

SAME_PART_CM, OTHER_PART_CM = 0.6, 0.03  # how much nearer a surface must be to hide another
FACE_PARTS = 6  # the first parts of every mesh: skin, eyes, mouth, teeth


@dataclass(frozen=True)
class FaceBatch:
    """Rendered clips."""

    frames: Float[Tensor, "B T 3 H W"]  # [0, 1]
    landmarks: Float[Tensor, "B T 68 2"]  # pixels (x, y), pixel i covers [i, i + 1)
    flow: Float[Tensor, "B T-1 2 H W"]  # pixels (dx, dy), frame 0 -> frame t
    visible: Bool[Tensor, "B T-1 1 H W"]  # the frame-0 pixel is still seen in frame t
    face_mask: Float[Tensor, "B 1 H W"]  # 1 on the face (skin, eyes, mouth) of frame 0


class Mesh(NamedTuple):
    """Surfaces that move; the first 468 vertices are the face's."""

    part: Int[Tensor, " V"]  # number of the surface that a vertex belongs to
    triangles: Int[Tensor, "F 3"]
    look: Float[Tensor, "V 2"]  # where a vertex reads the texture, in [-1, 1] (x, y)
    points: Float[Tensor, "B T V 3"]  # in the picture: pixels (x, y), and depth in cm


def joined(pieces: Sequence[tuple[int, Tensor, Tensor, Tensor]]) -> Mesh:
    """One mesh of several, each with a part's number for all of its vertices."""
    parts, triangles, looks, points = zip(*pieces, strict=True)
    counts, device = [len(look) for look in looks], points[0].device
    starts = itertools.accumulate(counts[:-1], initial=0)
    index = torch.cat([each + start for each, start in zip(triangles, starts, strict=True)])
    part = torch.tensor(parts).repeat_interleave(torch.tensor(counts))
    look = torch.cat([look.to(device) for look in looks])
    return Mesh(part.to(device), index.to(device), look, torch.cat(points, 2))


def film(
    mesh: Mesh,
    texture: Float[Tensor, "B 3 S A"],
    light: Float[Tensor, "B T V 1"],
    behind: Float[Tensor, "B 3 H W"],
    samples: int,
) -> FaceBatch:
    """Draw a mesh, its texture times its light, before still pictures, and say where each pixel of
    frame 0 goes. samples: of the picture, per pixel and side."""
    rows = zip(mesh.points, texture, light, behind, strict=True)
    fields = zip(*(_clip(mesh, *row, samples) for row in rows), strict=True)
    frames, flow, visible, face = map(torch.stack, fields)
    return FaceBatch(frames, mesh.points[:, :, list(VERTEX_OF_68), :2], flow, visible, face)


def _clip(
    mesh: Mesh, points: Tensor, texture: Tensor, light: Tensor, behind: Tensor, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames, flow, visibility and face mask of one clip."""
    size, part = tuple(behind.shape[-2:]), mesh.part[mesh.triangles[:, 0]]
    fine = tuple(side * samples for side in size)
    seen = rasterise(points * points.new_tensor((samples, samples, 1)), mesh.triangles, fine)
    look = mesh.look.expand(len(points), -1, -1)
    values = interpolate(seen, torch.cat([look, light, points[..., 2:]], -1), mesh.triangles)
    textures = texture.expand(len(points), -1, -1, -1)
    colour = functional.grid_sample(
        textures, values[..., :2], align_corners=False, padding_mode="border"
    )
    colour = colour * values[:, None, ..., 2]
    shown = seen.covered[:, None]
    ahead, share = (
        functional.avg_pool2d(each, samples) for each in (colour.where(shown, 0), shown.float())
    )
    frames = (ahead + (1 - share) * behind).clamp(0, 1)
    depth = values[..., 3].where(seen.covered, torch.inf)
    parts = part[seen.triangle.clamp(min=0)].where(seen.covered, -1)

    first, here = rasterise(points[:1], mesh.triangles, size), pixel_centres(size, points.device)
    later = points[1:].transpose(0, 1).flatten(1)  # V (T-1)*3
    target = interpolate(first, later[None], mesh.triangles)[0].unflatten(-1, (-1, 3))
    target, covered = target.movedim(2, 0), first.covered[0]  # T-1 H W 3
    place = target[..., :2].where(covered[..., None], here)
    number = part[first.triangle[0].clamp(min=0)].where(covered, -1)
    z = target[..., 2].where(covered, torch.inf)
    visible = _still_seen(place * samples, z, number, depth[1:], parts[1:])
    face = ((number >= 0) & (number < FACE_PARTS)).float()
    return frames, (place - here).movedim(-1, 1), visible[:, None], face[None]


def _still_seen(
    place: Tensor, z: Tensor, number: Tensor, depth: Tensor, part: Tensor
) -> Bool[Tensor, "T-1 H W"]:
    """True where one of the four samples around `place` shows the surface at depth `z`."""
    height, width = depth.shape[-2:]
    x, y = place.unbind(-1)
    seen = torch.zeros_like(x, dtype=torch.bool)
    for below, right in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
        row = (y + below).floor().long().clamp(0, height - 1)
        column = (x + right).floor().long().clamp(0, width - 1)
        index = (row * width + column).flatten(1)
        there, what = (values.flatten(1).gather(1, index).view_as(z) for values in (depth, part))
        nearer = torch.where(what == number, SAME_PART_CM, OTHER_PART_CM)
        seen |= torch.where(number < 0, what < 0, z <= there + nearer)
    return seen & (x >= 0) & (x < width) & (y >= 0) & (y < height)
