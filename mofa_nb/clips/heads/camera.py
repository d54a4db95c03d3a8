"""Meshes over a photograph: frames, exact flow, and what stays visible."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.heads.painter import Painter
from mofa_nb.clips.heads.raster import Raster, interpolate, rasterise

PIXELS_AT_ONCE = 224 * 128 * 128
SAME_PART_CM, OTHER_PART_CM = 0.6, 0.03  # how much nearer a surface must be to hide another
EDGE_CM = 1.5  # step in depth within a pixel that shows one surface in front of another


@dataclass(frozen=True)
class Canvas:
    """How vertices look.

    triangles: vertex numbers. part: number of each triangle's part. surface: of triangles whose
    textures go on into each other, so that no edge shows between them.
    look: where a vertex reads the texture, in [-1, 1] (x, y). texture: per clip, [0, 1].
    light: factor per colour. gloss: added light.
    """

    triangles: Int[Tensor, "F 3"]
    part: Int[Tensor, " F"]
    surface: Int[Tensor, " F"]
    look: Float[Tensor, "V 2"]
    texture: Float[Tensor, "B 3 S A"]
    light: Float[Tensor, "B T V 3"]
    gloss: Float[Tensor, "B T V 1"]


@runtime_checkable
class Backdrop(Protocol):
    """What is seen where no mesh is; `size` is the picture's (H, W)."""

    size: tuple[int, int]

    def moved(self, place: Tensor) -> Tensor:
        """Where the background at pixels `place` [B, H, W, 2] of frame 0 goes: [B, T, H, W, 2]."""

    def picture(self, clip: Tensor, frame: Tensor, samples: int) -> Tensor:
        """What is seen in the frames numbered `frame` of the clips `clip`, [N, 3, H*s, W*s]."""


def camera_path(camera: Float[Tensor, "B T 3"], size: tuple[int, int]) -> Tensor:
    """Pan in pixels and zoom factor relative to frame 0, from FaceCurves.camera; [B, T, 3]."""
    camera = camera - camera[:, :1]
    return torch.cat([camera[..., :2] * min(size), 1 + camera[..., 2:]], -1)


def filmed(
    place: Float[Tensor, "B T_or_1 N 2"], camera: Float[Tensor, "B T 3"], size: tuple[int, int]
) -> Float[Tensor, "B T N 2"]:
    """Where the camera shows places of the still picture; zoom keeps the middle in place."""
    middle = place.new_tensor((size[1] / 2, size[0] / 2))
    pan, zoom = camera[:, :, None, :2], camera[:, :, None, 2:]
    return (place - middle) * zoom + middle + pan


class _Filmed:
    """A picture over which the camera moves."""

    size: tuple[int, int]
    camera: Tensor

    def moved(self, place: Tensor) -> Tensor:
        """See Backdrop."""
        return filmed(place.flatten(1, 2)[:, None], self.camera, self.size).unflatten(2, self.size)


class PhotoCrop(_Filmed):
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

    def picture(self, clip: Tensor, frame: Tensor, samples: int) -> Tensor:
        """See Backdrop."""
        place = _seen_places(self.camera[clip, frame], self.size, samples)
        texel = self.centre[clip] + place * self.step[clip]
        limit = texel.new_tensor((self.photo.shape[-1], self.photo.shape[-2]))
        grid = texel / limit * 2 - 1
        return functional.grid_sample(
            self.photo[clip], grid, align_corners=False, padding_mode="reflection"
        )


class StillPhoto(_Filmed):
    """The portrait itself, at its own place; the camera may move over it."""

    def __init__(self, photo: Float[Tensor, "3 H W"], camera: Float[Tensor, "B T 3"]):
        self.photo, self.camera = photo, camera
        self.size = photo.shape[-2:]

    def picture(self, clip: Tensor, frame: Tensor, samples: int) -> Tensor:
        """See Backdrop."""
        place = _seen_places(self.camera[clip, frame], self.size, samples)
        half = place.new_tensor((self.size[1] / 2, self.size[0] / 2))
        photo = self.photo.expand(len(clip), -1, -1, -1)
        return functional.grid_sample(
            photo, place / half, align_corners=False, padding_mode="reflection"
        )


def _seen_places(camera: Tensor, size: tuple[int, int], samples: int) -> Tensor:
    """For each sample of a picture, where frame 0 shows the same background, counted from the
    middle; [N, H*s, W*s, 2]."""
    height, width = size
    x = (torch.arange(width * samples, device=camera.device) + 0.5) / samples - width / 2
    y = (torch.arange(height * samples, device=camera.device) + 0.5) / samples - height / 2
    place = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)
    return (place - camera[:, None, None, :2]) / camera[:, None, None, 2:]


@dataclass(frozen=True)
class Drawing:
    """frames: [0, 1]. depth, part: per sample; part is -1 and depth infinite on the background."""

    frames: Float[Tensor, "B T 3 H W"]
    depth: Float[Tensor, "B T Hs Ws"]
    part: Int[Tensor, "B T Hs Ws"]


def draw_frames(
    pixels: Float[Tensor, "B T V 3"],
    canvas: Canvas,
    behind: Backdrop,
    *,
    samples: int,
    crisp: bool = False,
) -> Drawing:
    """Draw meshes given in pixels (x, y, depth) over a backdrop.

    Args:
        samples: picture samples per pixel and side.
        crisp: average the samples of a pixel only where different surfaces meet or one hides
            another, so that a texture that did not move keeps its exact values.
    """
    batch, frames = pixels.shape[:2]
    images, depths, parts = [], [], []
    step = max(1, PIXELS_AT_ONCE // (behind.size[0] * behind.size[1]))
    for chunk in torch.arange(batch * frames, device=pixels.device).split(step):
        clip, frame = chunk // frames, chunk % frames
        image, depth, triangle = _draw_some(pixels, canvas, behind, samples, (clip, frame))
        if samples > 1:
            image = functional.avg_pool2d(image, samples)
        if samples > 1 and crisp:
            plain = _draw_some(pixels, canvas, behind, 1, (clip, frame))[0]
            edge = _edges(_of_triangles(canvas.surface, triangle), depth, samples)
            image = torch.where(edge, image, plain)
        images.append(image)
        depths.append(depth)
        parts.append(_of_triangles(canvas.part, triangle))
    shape = (batch, frames)
    return Drawing(
        torch.cat(images).unflatten(0, shape).clamp(0, 1),
        torch.cat(depths).unflatten(0, shape),
        torch.cat(parts).unflatten(0, shape),
    )


def _draw_some(
    pixels: Tensor,
    canvas: Canvas,
    behind: Backdrop,
    samples: int,
    chosen: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, depth and triangle per sample of the frames `chosen` (clip, frame)."""
    clip, frame = chosen
    height, width = behind.size
    points = pixels[clip, frame] * pixels.new_tensor((samples, samples, 1))
    raster = rasterise(points, canvas.triangles, (height * samples, width * samples))
    colour = _shaded(raster, canvas, clip, frame)
    image = torch.where(raster.covered[:, None], colour, behind.picture(clip, frame, samples))
    z = interpolate(raster, points[..., 2:], canvas.triangles)[..., 0]
    depth = torch.where(raster.covered, z, torch.full_like(z, torch.inf))
    return image, depth, raster.triangle


def _edges(surface: Tensor, depth: Tensor, samples: int) -> Tensor:
    """True for pixels whose samples show different surfaces or depths, [N, 1, H, W]."""

    def spread(values: Tensor, lowest: Tensor) -> Tensor:
        high = functional.max_pool2d(values[:, None], samples)
        return high + functional.max_pool2d(lowest[:, None], samples)

    number = surface.float()
    behind = torch.where(depth.isinf(), -depth, depth)  # the backdrop's depth does not count
    return (spread(number, -number) > 0) | (spread(behind, -depth) > EDGE_CM)


def _of_triangles(values: Tensor, triangle: Tensor) -> Tensor:
    """A number per triangle where it is seen, -1 on the background."""
    return torch.where(triangle >= 0, values.to(torch.int8)[triangle.clamp(min=0)], -1)


def _shaded(raster: Raster, canvas: Canvas, clip: Tensor, frame: Tensor) -> Tensor:
    """Texture times light plus gloss, [N, 3, H, W]."""
    look = canvas.look.expand(len(clip), -1, -1)
    values = torch.cat([look, canvas.light[clip, frame], canvas.gloss[clip, frame]], -1)
    spread = interpolate(raster, values, canvas.triangles)
    colour = functional.grid_sample(
        canvas.texture[clip], spread[..., :2], align_corners=False, padding_mode="border"
    )
    light = spread[..., 2:5].permute(0, 3, 1, 2)
    return colour * light + spread[..., 5:].permute(0, 3, 1, 2)


def exact_flow(
    pixels: Float[Tensor, "B T V 3"],
    canvas: Canvas,
    behind: Backdrop,
    drawing: Drawing,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel of frame 0 goes.

    Returns:
        flow [B, T-1, 2, H, W] in pixels; visible, bool [B, T-1, 1, H, W]: still seen in frame t;
        part [B, H, W]: number of the part seen in frame 0, -1 for the background.
    """
    size = behind.size
    first = rasterise(pixels[:, 0], canvas.triangles, size)
    number = torch.where(first.covered, canvas.part[first.triangle.clamp(min=0)], -1)
    x = torch.arange(size[1], device=pixels.device) + 0.5
    y = torch.arange(size[0], device=pixels.device) + 0.5
    here = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)  # H W 2
    far = behind.moved(here.expand(len(pixels), -1, -1, -1))
    flows, seen = [], []
    for t in range(1, pixels.shape[1]):
        target = interpolate(first, pixels[:, t], canvas.triangles)  # B H W 3
        place = torch.where(first.covered[..., None], target[..., :2], far[:, t])
        flows.append((place - here).permute(0, 3, 1, 2))
        z = torch.where(first.covered, target[..., 2], torch.full_like(target[..., 2], torch.inf))
        fine = drawing.depth.new_tensor(drawing.depth.shape[:-3:-1])
        place = place * (fine / fine.new_tensor(size[::-1]))
        seen.append(_still_seen(place, z, number, drawing.depth[:, t], drawing.part[:, t]))
    return torch.stack(flows, 1), torch.stack(seen, 1)[:, :, None], number


def _still_seen(
    place: Tensor, z: Tensor, number: Tensor, depth: Tensor, part: Tensor
) -> Bool[Tensor, "B H W"]:
    """True where one of the four samples around `place` shows the surface at depth `z`."""
    fine = depth.shape[-2:]
    x, y = place.unbind(-1)
    inside = (x >= 0) & (x < fine[1]) & (y >= 0) & (y < fine[0])
    seen = torch.zeros_like(inside)
    for below, right in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
        row = (y + below).floor().long().clamp(0, fine[0] - 1)
        column = (x + right).floor().long().clamp(0, fine[1] - 1)
        index = (row * fine[1] + column).flatten(1)
        there = torch.gather(depth.flatten(1), 1, index).view_as(z)
        what = torch.gather(part.flatten(1), 1, index).view_as(z).long()
        nearer = torch.where(what == number, SAME_PART_CM, OTHER_PART_CM)
        seen |= torch.where(number < 0, what < 0, z <= there + nearer)
    return inside & seen
