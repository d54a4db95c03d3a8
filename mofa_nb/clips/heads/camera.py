"""Meshes over a photograph: frames, exact flow, and what stays visible."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import Painter
from mofa_nb.clips.heads.raster import interpolate, rasterise
from mofa_nb.faces.points import VERTEX_OF_68

PIXELS_AT_ONCE = 224 * 128 * 128
SAME_PART_CM, OTHER_PART_CM = 0.6, 0.03  # how much nearer a surface must be to hide another
EDGE_CM = 1.5  # step in depth within a pixel that shows one surface in front of another
FACE_PARTS = 6  # the first parts of every mesh: skin, eyes, mouth, teeth


@dataclass(frozen=True)
class FaceBatch:
    """Rendered clips."""

    frames: Float[Tensor, "B T 3 H W"]  # [0, 1]
    landmarks: Float[Tensor, "B T 68 2"]  # pixels (x, y), pixel i covers [i, i + 1)
    flow: Float[Tensor, "B T-1 2 H W"]  # pixels (dx, dy), frame 0 -> frame t
    visible: Bool[Tensor, "B T-1 1 H W"]  # the frame-0 pixel is still seen in frame t
    face_mask: Float[Tensor, "B 1 H W"]  # 1 on the face (skin, eyes, mouth) of frame 0


@dataclass(frozen=True)
class Canvas:
    """How the vertices of meshes look."""

    triangles: Int[Tensor, "F 3"]
    part: Int[Tensor, " F"]
    surface: Int[Tensor, " F"]  # one number where textures go on into each other: no edge between
    look: Float[Tensor, "V 2"]  # where a vertex reads the texture, in [-1, 1] (x, y)
    texture: Float[Tensor, "B 3 S A"]  # [0, 1]
    light: Float[Tensor, "B T V 3"]  # factor per colour
    gloss: Float[Tensor, "B T V 1"]  # added light


@dataclass(frozen=True)
class Backdrop:
    """A picture over which a camera moves; it is seen where no mesh is."""

    size: tuple[int, int]  # H, W of the frames
    camera: Float[Tensor, "B T 3"]  # see FaceCurves
    photo: Float[Tensor, "B 3 _ _"]
    middle: Float[Tensor, "B 2"]  # of frame 0 in the photo, in [-1, 1] (x, y)
    step: Float[Tensor, "B 2"]  # in the photo per pixel

    def filmed(self, place: Float[Tensor, "B T_or_1 N 2"]) -> Float[Tensor, "B T N 2"]:
        """Where frames show places (pixels) of frame 0; zoom keeps the middle in place."""
        middle = place.new_tensor((self.size[1] / 2, self.size[0] / 2))
        pan, zoom = self._path()[:, :, None].split((2, 1), -1)
        return (place - middle) * zoom + middle + pan

    def picture(self, clip: Tensor, frame: Tensor, samples: int) -> Float[Tensor, "N 3 Hs Ws"]:
        """What is seen in the frames numbered `frame` of the clips `clip`."""
        pan, zoom = self._path()[clip, frame][:, None, None].split((2, 1), -1)
        middle = pan.new_tensor((self.size[1] / 2, self.size[0] / 2))
        place = (_centres(self.size, samples, pan.device) - middle - pan) / zoom
        grid = place * self.step[clip][:, None, None] + self.middle[clip][:, None, None]
        return functional.grid_sample(
            self.photo[clip], grid, align_corners=False, padding_mode="reflection"
        )

    def _path(self) -> Tensor:
        """Pan in pixels and zoom factor relative to frame 0, [B, T, 3]."""
        camera = self.camera - self.camera[:, :1]
        return torch.cat([camera[..., :2] * min(self.size), 1 + camera[..., 2:]], -1)


def _centres(size: tuple[int, int], samples: int, device: torch.device) -> Tensor:
    """Middles of a picture's samples, `samples` per pixel and side, in pixels; [H*s, W*s, 2]."""
    y, x = ((torch.arange(side * samples, device=device) + 0.5) / samples for side in size)
    return torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)


def photo_crop(
    painter: Painter,
    bank: UInt8[Tensor, "P 3 S1 S2"],
    size: tuple[int, int],
    camera: Float[Tensor, "B T 3"],
) -> Backdrop:
    """Random crops of photographs that follow the camera."""
    number = torch.randint(len(bank), (painter.batch,), generator=painter.generator)
    photo = bank[number.to(bank.device)].float() / 255
    limit = photo.new_tensor((bank.shape[-1], bank.shape[-2]))
    fit = min(bank.shape[-1] / size[1], bank.shape[-2] / size[0])
    zoom = painter.uniform(0.55, 0.92, 1)  # photo texels per pixel, as a share of what fits
    slack = (limit - limit.new_tensor((size[1], size[0])) * zoom * fit) / 2
    centre = limit / 2 + slack * painter.uniform(-0.7, 0.7, 2)
    soft = functional.avg_pool2d(photo, 5, 1, 2, count_include_pad=False)
    photo = torch.lerp(photo, soft, painter.chance(0.5, 1, 1, 1))
    return Backdrop(size, camera, photo, centre / limit * 2 - 1, zoom * fit / limit * 2)


def still_photo(photo: Float[Tensor, "3 H W"], camera: Float[Tensor, "B T 3"]) -> Backdrop:
    """The portrait itself, at its own place; the camera may move over it."""
    step = photo.new_tensor((2 / photo.shape[-1], 2 / photo.shape[-2])).expand(len(camera), -1)
    size, photos = tuple(photo.shape[-2:]), photo.expand(len(camera), -1, -1, -1)
    return Backdrop(size, camera, photos, torch.zeros_like(step), step)


def film(
    pixels: Float[Tensor, "B T V 3"],
    canvas: Canvas,
    behind: Backdrop,
    *,
    samples: int,
    crisp: bool = False,
) -> FaceBatch:
    """Draw moving meshes over a backdrop, and say where each pixel of frame 0 goes.

    pixels: x, y and depth of the vertices before a camera that stands still; the first 468 are the
    face's. samples: of the picture, per pixel and side. crisp: average those of a pixel only where
    surfaces meet or hide one another: a texture that did not move keeps its exact values."""
    pixels = torch.cat([behind.filmed(pixels[..., :2]), pixels[..., 2:]], -1)
    drawn, shape = [], pixels.shape[:2]
    step = max(1, PIXELS_AT_ONCE // (behind.size[0] * behind.size[1]))
    for chunk in torch.arange(shape.numel(), device=pixels.device).split(step):
        which = chunk // shape[1], chunk % shape[1]
        image, depth, triangle = _drawn(pixels, canvas, behind, samples, which)
        if samples > 1:
            image = functional.avg_pool2d(image, samples)
        if samples > 1 and crisp:
            edge = _edges(_of_triangles(canvas.surface, triangle), depth, samples)
            image = torch.where(edge, image, _drawn(pixels, canvas, behind, 1, which)[0])
        drawn.append((image, depth, _of_triangles(canvas.part, triangle)))
    chunks = zip(*drawn, strict=True)
    frames, depth, part = (torch.cat(each).unflatten(0, shape) for each in chunks)
    flow, visible, number = _exact_flow(pixels, canvas, behind, depth, part)
    face = ((number >= 0) & (number < FACE_PARTS)).to(pixels.dtype)[:, None]
    landmarks = pixels[:, :, list(VERTEX_OF_68), :2]
    return FaceBatch(frames.clamp(0, 1), landmarks, flow, visible, face)


def _drawn(
    pixels: Tensor, canvas: Canvas, behind: Backdrop, samples: int, which: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture [N, 3, H*s, W*s], depth and triangle per sample (infinite and -1 on the backdrop) of
    the frames `which` (clip, frame): texture times light plus gloss."""
    points = pixels[which] * pixels.new_tensor((samples, samples, 1))
    raster = rasterise(points, canvas.triangles, tuple(side * samples for side in behind.size))
    look = canvas.look.expand(len(points), -1, -1)
    values = torch.cat([look, canvas.light[which], canvas.gloss[which], points[..., 2:]], -1)
    spread = interpolate(raster, values, canvas.triangles)
    colour = functional.grid_sample(
        canvas.texture[which[0]], spread[..., :2], align_corners=False, padding_mode="border"
    )
    light, gloss = spread[..., 2:6].permute(0, 3, 1, 2).split((3, 1), 1)
    seen = behind.picture(*which, samples)
    image = torch.where(raster.covered[:, None], colour * light + gloss, seen)
    return image, spread[..., 6].where(raster.covered, torch.inf), raster.triangle


def _edges(surface: Tensor, depth: Tensor, samples: int) -> Tensor:
    """True for pixels whose samples show different surfaces or depths, [N, 1, H, W]."""

    def spread(values: Tensor, lowest: Tensor) -> Tensor:
        high, low = (functional.max_pool2d(each[:, None], samples) for each in (values, lowest))
        return high + low

    number = surface.float()
    behind = torch.where(depth.isinf(), -depth, depth)  # the backdrop's depth does not count
    return (spread(number, -number) > 0) | (spread(behind, -depth) > EDGE_CM)


def _of_triangles(values: Tensor, triangle: Tensor) -> Tensor:
    """A number per triangle where it is seen, -1 on the backdrop."""
    return torch.where(triangle >= 0, values.to(torch.int8)[triangle.clamp(min=0)], -1)


def _exact_flow(
    pixels: Tensor, canvas: Canvas, behind: Backdrop, depth: Tensor, part: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Flow [B, T-1, 2, H, W], visible [B, T-1, 1, H, W], and the part seen in frame 0 [B, H, W];
    depth and part are told per sample of the frames, [B, T, H*s, W*s]."""
    size = behind.size
    first = rasterise(pixels[:, 0], canvas.triangles, size)
    number = _of_triangles(canvas.part, first.triangle)
    here = _centres(size, 1, pixels.device)  # H W 2
    far = behind.filmed(here.expand(len(pixels), 1, -1, -1, -1).flatten(2, 3)).unflatten(2, size)
    samples = depth.shape[-1] // size[1]
    flows, seen = [], []
    for t in range(1, pixels.shape[1]):
        target = interpolate(first, pixels[:, t], canvas.triangles)  # B H W 3
        place = torch.where(first.covered[..., None], target[..., :2], far[:, t])
        flows.append((place - here).permute(0, 3, 1, 2))
        z = target[..., 2].where(first.covered, torch.inf)
        seen.append(_still_seen(place * samples, z, number, depth[:, t], part[:, t]))
    return torch.stack(flows, 1), torch.stack(seen, 1)[:, :, None], number


def _still_seen(
    place: Tensor, z: Tensor, number: Tensor, depth: Tensor, part: Tensor
) -> Bool[Tensor, "B H W"]:
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
