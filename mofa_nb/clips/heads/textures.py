"""Random skins: one texture atlas per clip, painted from masks in the face mesh's uv square."""

import functools

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from mofa_nb.clips.draws import TEXTURE, Painter
from mofa_nb.clips.heads.head import TILES
from mofa_nb.faces import mesh

FINE = 4  # masks are drawn so much larger
SKINS = (
    *((0.97, 0.82, 0.72), (0.91, 0.72, 0.58), (0.78, 0.56, 0.42)),
    *((0.56, 0.38, 0.27), (0.36, 0.24, 0.17)),
)
HAIRS = (
    *((0.06, 0.05, 0.05), (0.22, 0.13, 0.07), (0.42, 0.26, 0.13)),
    *((0.75, 0.6, 0.36), (0.55, 0.25, 0.12), (0.6, 0.59, 0.58)),
)
IRISES = (
    *((0.25, 0.15, 0.08), (0.4, 0.28, 0.14), (0.3, 0.42, 0.3)),
    *((0.35, 0.5, 0.65), (0.35, 0.4, 0.45)),
)


@functools.cache
def uv_masks() -> dict[str, Float32[np.ndarray, "S S"]]:
    """Soft masks in the uv square, by what they are for."""
    texels = mesh.canonical_geometry()[1] * TEXTURE  # the face's vertices on a tile, 468 2

    def drawn(*rows: tuple, blur: float, width: float = 0.0) -> np.ndarray:
        """Polygons of vertices, or lines `width` texels wide through them, softened."""
        canvas = np.zeros((TEXTURE * FINE, TEXTURE * FINE), np.float32)
        for row in rows:
            place = [np.int32(texels[list(row)] * FINE)]
            if width:
                cv2.polylines(canvas, place, False, 1.0, int(width * FINE))
            else:
                cv2.fillPoly(canvas, place, 1.0)
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur * FINE)
        return cv2.resize(canvas, (TEXTURE, TEXTURE), interpolation=cv2.INTER_AREA)

    def dots(*vertices: int, radius: float) -> np.ndarray:
        y, x = np.mgrid[:TEXTURE, :TEXTURE] + 0.5
        centre = texels[list(vertices)][:, :, None, None]
        gap = (x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2
        return np.exp(-gap / radius**2).max(0)

    eyes = [(33, *mesh.RIGHT_UPPER[0], 133), (263, *mesh.LEFT_UPPER[0], 362)]
    lids = [(226, *mesh.RIGHT_FOLD, 133, 33), (446, *mesh.LEFT_FOLD, 362, 263)]
    folds = [(36, 206, 216, 212), (266, 426, 436, 432)]
    jaw = (234, 132, 172, 150, 152, 379, 397, 361, 454, 411, 410, 287, 164, 57, 186, 187)
    top = (21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 9)
    low, high = texels[[9, 10], 1]  # the forehead's ends: the hairline fades in between them
    rising = np.clip((low - np.arange(TEXTURE)[:, None]) / (low - high), 0, 1)
    made = {
        "lips": drawn((*mesh.LIPS_UPPER[3], *reversed(mesh.LIPS_LOWER[3])), blur=1.2),
        "seam": drawn(mesh.LIPS_UPPER[0], mesh.LIPS_LOWER[0], width=0.8, blur=0.8),
        "brows": drawn(mesh.RIGHT_BROW, mesh.LEFT_BROW, blur=1.6),
        "lashes": drawn(*eyes, width=2.0, blur=0.7),
        "lids": drawn(*lids, blur=2.0),
        "nostrils": dots(79, 309, 20, 250, radius=2.6),
        "beard": drawn(jaw, blur=5.0),
        "blush": dots(50, 280, radius=16.0),
        "folds": drawn(*folds, width=1.0, blur=1.5),
        "hairline": drawn(top, blur=5.0) * rising,
    }
    return {name: np.clip(mask, 0, 1).astype(np.float32) for name, mask in made.items()}


def paint_atlas(painter: Painter) -> Float[Tensor, "B 3 S A"]:
    """Texture atlas per clip: TILES side by side, each S x S, values in [0, 1]."""
    skin, hair = painter.colour(SKINS, 0.03), painter.colour(HAIRS, 0.03)
    tiles = {
        "face": _face(painter, skin, hair),
        "eye": _eye(painter),
        "mouth": mouth_tile(painter),
        "teeth": teeth_tile(painter),
        "hair": _hair(painter, hair),
        "skin": skin * (1 + 0.04 * painter.clouds(8)) * (1 + 0.02 * painter.grain()),
        "cloth": _cloth(painter),
    }
    return torch.cat([tiles[name].clamp(0, 1) for name in TILES], -1)


def _face(painter: Painter, skin: Tensor, hair: Tensor) -> Tensor:
    mask = {name: torch.tensor(m, device=painter.device) for name, m in uv_masks().items()}

    def over(image: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
        return image + (colour - image) * alpha.clamp(0, 1)

    def amount(low: float | int, high: float | int) -> Tensor:
        return painter.uniform(low, high, 1, 1, 1)

    def tinted(*factors: float) -> Tensor:
        return skin * skin.new_tensor(factors).view(3, 1, 1)

    image = skin * (1 + 0.05 * painter.clouds(5) + 0.03 * painter.clouds(24))
    image = image * (1 + 0.025 * painter.grain())
    freckle = (painter.clouds(70) - 1.6).clamp(0, 1) * amount(-1.0, 0.6).clamp(min=0)
    image = over(image, skin * 0.6, freckle * (1 - mask["lips"]))
    image = over(image, tinted(1.05, 0.75, 0.72), mask["blush"] * amount(0, 0.6))
    image = over(image, skin * 0.62, mask["folds"] * amount(0, 0.7))
    stubble = mask["beard"] * amount(-1.2, 0.95).clamp(min=0) * (1 - mask["lips"])
    image = over(image, hair * 0.8 + 0.1 * skin, stubble * (0.8 + 0.2 * painter.clouds(60)))
    makeup = skin * amount(0.5, 0.9) * (1 + 0.15 * painter.normal(3, 1, 1))
    image = over(image, makeup, mask["lids"] * amount(0, 0.7))
    lip = tinted(0.92, 0.55, 0.55) * amount(0.8, 1.0) * (1 + 0.08 * painter.normal(3, 1, 1))
    image = over(image, lip, mask["lips"] * amount(0.5, 1.0))
    image = over(image, lip * 0.45, mask["seam"] * amount(0.4, 0.9))
    sharp = amount(4, 9)
    brow = torch.sigmoid((mask["brows"] - amount(0.3, 0.75)) * sharp) * (mask["brows"] > 0.03)
    image = over(image, hair * amount(0.35, 0.8), brow * (0.85 + 0.3 * painter.clouds(80)))
    image = over(image, torch.full_like(skin, 0.08), mask["lashes"] * amount(0.5, 1.0))
    image = over(image, skin * 0.22, mask["nostrils"] * amount(0.6, 1.0))
    line = (mask["hairline"] + 0.1 * painter.clouds(20) - amount(0.6, 1.3)) * 6
    return over(image, hair, line.clamp(0, 1) * (mask["hairline"] > 0))


def _plane(painter: Painter) -> tuple[Tensor, Tensor]:
    """x to the right and y down in [-1, 1] over a tile, [S, S] each."""
    ramp = (torch.arange(TEXTURE, device=painter.device) + 0.5) / TEXTURE * 2 - 1
    return ramp[None, :].expand(TEXTURE, -1), ramp[:, None].expand(-1, TEXTURE)


def _eye(painter: Painter) -> Tensor:
    """Sclera, iris, pupil, highlight, and the upper lid's shadow."""
    x, y = _plane(painter)
    radius = torch.sqrt(x**2 + y**2)
    iris = painter.colour(IRISES)
    size = painter.uniform(0.34, 0.42, 1, 1, 1)
    edge = ((size - radius) * 30).clamp(0, 1)
    pupil = ((size * 0.45 - radius) * 30).clamp(0, 1)
    white = painter.uniform(0.82, 0.98, 1, 1, 1) * x.new_tensor((1, 0.98, 0.96)).view(3, 1, 1)
    image = white - 0.25 * (radius - 0.5).clamp(0, 1)
    ring = (radius / size).clamp(0, 1) ** 4
    image = torch.lerp(image, iris * (1 - 0.6 * ring) * (1 + 0.1 * painter.clouds(30)), edge)
    image = image * (1 - 0.95 * pupil)
    along, down = painter.uniform(-0.2, 0.2, 2, 1, 1).split(1, 1)
    gap = (x - along) ** 2 + (y + 0.16 + 0.2 * down) ** 2
    image = image + 0.9 * torch.exp(-gap / 0.006)
    return image * (1 - 0.55 * (-(y + 0.12) * 2.2).clamp(0, 1))


def mouth_tile(painter: Painter) -> Float[Tensor, "B 3 S S"]:
    """Inside of a mouth: v from lips to throat, u around from the right corner, upper lip first."""
    x, y = _plane(painter)
    flesh = painter.colour(((0.5, 0.16, 0.15), (0.35, 0.09, 0.1)), 0.02)
    depth = ((1 - y) / 2).clamp(0, 1) ** 1.6
    tongue = torch.exp(-(((x - 0.5) / 0.28) ** 2)) * torch.exp(-(((y + 0.35) / 0.4) ** 2))
    return flesh * (0.1 + 0.75 * depth + 0.9 * tongue)


def teeth_tile(painter: Painter) -> Float[Tensor, "B 3 S S"]:
    """A row of teeth, u along it."""
    x, _ = _plane(painter)
    tone = painter.uniform(0.72, 0.95, 1, 1, 1) * x.new_tensor((1.0, 0.97, 0.9)).view(3, 1, 1)
    gaps = (0.5 + 0.5 * torch.cos(x * torch.pi * 5)) ** 24 * 0.3
    return tone * (1 - gaps) * (1 - 0.35 * x.abs() ** 3)


def _hair(painter: Painter, colour: Tensor) -> Tensor:
    strands = painter.normal(1, 6, 60)
    strands = functional.interpolate(strands, size=(TEXTURE, TEXTURE), mode="bicubic")
    gain = painter.uniform(0.12, 0.3, 1, 1, 1)
    return colour * (1 + gain * strands + 0.1 * painter.clouds(6)) * (1 + 0.04 * painter.grain())


def _cloth(painter: Painter) -> Tensor:
    """A plain, striped or checked garment."""
    x, y = _plane(painter)
    colour, other = (painter.uniform(0.05, 0.9, 3, 1, 1) for _ in range(2))
    phase = painter.uniform(4, 22, 1, 1, 1)
    stripes = torch.sigmoid(8 * torch.sin(x * phase * 2))
    checks = stripes * torch.sigmoid(8 * torch.sin(y * phase * 2))
    kind = painter.uniform(0, 1, 1, 1, 1)
    pattern = torch.where(kind < 0.5, 0 * stripes, torch.where(kind < 0.75, stripes, checks))
    image = torch.lerp(colour, other, pattern * 0.8)
    return image * (1 + 0.08 * painter.clouds(10)) * (1 + 0.02 * painter.grain())
