"""The canonical face as a movable mesh: index lists, shape modes, expression modes, head pose.

Head space, cm: x to the picture's right, y up, z to the viewer. The person's right is on its left.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

GEOMETRY = Path(__file__).with_name("canonical_face.npz")  # as in the face model, unpacked
# Expressions, in the order of the last axis of every expression array. 0 is neutral, 1 is strong.
EXPRESSIONS = (
    *("jaw_open", "smile", "frown", "pucker", "stretch", "upper_lip"),
    *("brows_up", "brows_down", "blink_right", "blink_left", "eyes_wide"),
)
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# eyelid rows from the outer to the inner corner; rings from the opening outwards
RIGHT_UPPER = ((246, 161, 160, 159, 158, 157, 173), (247, 30, 29, 27, 28, 56, 190))
RIGHT_LOWER = ((7, 163, 144, 145, 153, 154, 155), (25, 110, 24, 23, 22, 26, 112))
LEFT_UPPER = ((466, 388, 387, 386, 385, 384, 398), (467, 260, 259, 257, 258, 286, 414))
LEFT_LOWER = ((249, 390, 373, 374, 380, 381, 382), (255, 339, 254, 253, 252, 256, 341))
RIGHT_FOLD = (113, 225, 224, 223, 222, 221, 189)
LEFT_FOLD = (342, 445, 444, 443, 442, 441, 413)
LID_ROWS = (*(*RIGHT_UPPER, *RIGHT_LOWER, RIGHT_FOLD), *(*LEFT_UPPER, *LEFT_LOWER, LEFT_FOLD))
# lip rows from the right to the left corner; rings from the opening outwards
LIPS_UPPER = (
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
)
LIPS_LOWER = (
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
JAW_HINGE = (0.0, 0.7, -2.4)  # between the ears
JAW_DEGREES = 19.0  # of jaw_open = 1
HEAD_PIVOT = (0.0, -6.0, -4.0)  # top of the neck
STABLE_CM = 0.12  # a vertex that no expression moves further than this tells the pose
SKIN = 468  # number of face vertices; the detector adds ten for the irises

Points = Float[Tensor, "*batch P 3"]


@functools.cache
def canonical_geometry() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neutral face: vertices of the detector's first 468 landmarks, float32 [468, 3], cm; their uv
    [468, 2] in [0, 1], v down; triangles [898, 3], counter-clockwise, eyes and mouth filled."""
    with np.load(GEOMETRY) as arrays:
        return arrays["vertices"], arrays["uv"], arrays["triangles"].astype(np.int64)


@functools.cache
def rigid_weights() -> Float[np.ndarray, " 468"]:
    """How much each vertex says of the head's pose: 33 of them do."""
    with np.load(GEOMETRY) as arrays:
        return arrays["rigid_weights"].astype(np.float64)


def eye_loop(right: bool) -> tuple[int, ...]:
    """Vertices around one eye's opening, upper lid first, starting at the outer corner."""
    upper, lower = (RIGHT_UPPER, RIGHT_LOWER) if right else (LEFT_UPPER, LEFT_LOWER)
    outer, inner = (33, 133) if right else (263, 362)
    return (outer, *upper[0], inner, *reversed(lower[0]))


def mouth_loop() -> tuple[int, ...]:
    """Vertices around the mouth's opening, upper lip first, starting at the right corner."""
    return (*LIPS_UPPER[0], *reversed(LIPS_LOWER[0][1:-1]))


@functools.cache
def skin_triangles() -> Int[np.ndarray, "F 3"]:
    """Triangles of the face without the eye and mouth openings."""
    triangles = canonical_geometry()[2]
    openings = (eye_loop(True), eye_loop(False), mouth_loop())
    filled = [np.isin(triangles, opening).all(1) for opening in openings]
    return triangles[~np.any(filled, 0)]


def _bump(vertices: np.ndarray, centre: tuple, radius: tuple) -> np.ndarray:
    """Gaussian weight around a point, both sides of the face; [468]."""
    gaps = ((vertices - np.array(centre) * (side, 1, 1)) / radius for side in (1.0, -1.0))
    return np.maximum(*(np.exp(-(gap**2).sum(1)) for gap in gaps))


def _push(weight: np.ndarray, direction: tuple, vertices: np.ndarray) -> np.ndarray:
    """Displacement of weight times direction; x points away from the midline on both sides."""
    push = weight[:, None] * np.array(direction, np.float64)
    push[:, :1] *= np.tanh(vertices[:, :1] * 1.5)
    return push


def _along(axis: int, length: np.ndarray) -> np.ndarray:
    """Displacement along one axis; [468, 3]."""
    return length[:, None] * np.eye(3)[axis]


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def jaw_weights() -> np.ndarray:
    """How far each vertex follows the jaw, in [0, 1]; lower lip and chin 1, upper lip 0. [468]"""
    v = canonical_geometry()[0].astype(np.float64)
    softness = 0.3 + 4.2 * _smooth((np.abs(v[:, 0]) - 1.5) / 4.0)
    weight = _smooth((-4.4 + softness - v[:, 1]) / (2 * softness))
    # the outline in front of the ears stays, the corner of the jaw follows a little
    weight *= 1 - 0.75 * _smooth((np.abs(v[:, 0]) - 5.0) / 2.2) * _smooth((v[:, 1] + 8.0) / 4.0)
    for upper, lower in zip(LIPS_UPPER, LIPS_LOWER, strict=True):
        span = np.abs(np.linspace(-1, 1, len(upper))) ** 4
        weight[list(upper)] = 0.42 * span
        weight[list(lower)] = 1 - 0.58 * span
    return weight


@functools.cache
def expression_modes() -> Float[np.ndarray, "11 468 3"]:
    """Displacement of every vertex at strength 1; of blinks zero: lids meet in `express`."""
    v = canonical_geometry()[0].astype(np.float64)
    angle = np.radians(JAW_DEGREES) * jaw_weights()
    y, z = v[:, 1] - JAW_HINGE[1], v[:, 2] - JAW_HINGE[2]
    down = y * np.cos(angle) - z * np.sin(angle) - y
    back = z * np.cos(angle) + y * np.sin(angle) - z
    corner = _bump(v, (2.46, -4.34, 4.3), (1.5, 1.6, 3))
    cheek = _bump(v, (4.0, -1.0, 4.0), (2.2, 2.2, 3))
    mouth = _bump(v, (0.0, -4.4, 5.0), (3.2, 2.0, 3.5))
    upper = _bump(v, (0.0, -3.6, 5.4), (2.4, 1.0, 3))
    for row in LIPS_LOWER:
        upper[list(row)] *= np.abs(np.linspace(-1, 1, len(row))) ** 4
    brow = _bump(v, (3.2, 5.0, 4.6), (3.2, 1.5, 4))
    forehead = _bump(v, (2.5, 6.6, 4.8), (4.5, 1.4, 4))
    inner = _bump(v, (1.2, 4.6, 5.4), (1.7, 1.3, 3))
    wide = np.zeros_like(v)
    for rows, gain in ((RIGHT_UPPER, 1), (LEFT_UPPER, 1), (RIGHT_LOWER, -0.4), (LEFT_LOWER, -0.4)):
        arch = np.sin(np.linspace(0.12, 0.88, 7) * np.pi)
        wide[list(rows[0]), 1] = 0.3 * gain * arch
        wide[list(rows[1]), 1] = 0.18 * gain * arch
    modes = {
        "jaw_open": _along(1, down) + _along(2, back),
        "smile": _push(corner, (0.75, 0.75, -0.35), v) + _push(cheek, (0.1, 0.45, 0.3), v),
        "frown": _push(corner, (0.05, -0.75, -0.1), v),
        "pucker": _along(0, -0.45 * mouth * v[:, 0]) + _along(2, 0.8 * mouth),
        "stretch": _along(0, 0.28 * mouth * v[:, 0]),
        "upper_lip": _along(1, 0.5 * upper),
        "brows_up": _push(brow, (0, 0.95, 0.1), v) + _push(forehead, (0, 0.3, 0), v),
        "brows_down": _push(inner, (-0.3, -0.55, 0.1), v) + _push(brow, (0, -0.35, 0.05), v),
        "eyes_wide": wide,
    }
    still = np.zeros_like(v)
    return np.stack([modes.get(name, still) for name in EXPRESSIONS]).astype(np.float32)


@functools.cache
def identity_modes() -> Float[np.ndarray, "16 468 3"]:
    """Displacement of every vertex for one typical step of each way in which faces differ."""
    v = canonical_geometry()[0].astype(np.float64)
    low = _smooth((-2.0 - v[:, 1]) / 5.0)
    nostrils = _bump(v, (1.2, -1.0, 6.0), (1.3, 1.2, 2))
    tip = _bump(v, (0.0, -0.6, 7.2), (1.6, 1.8, 3))
    eye = _bump(v, (3.15, 2.6, 3.9), (1.9, 1.3, 3))
    centre = np.stack([np.sign(v[:, 0]) * 3.15, np.full(len(v), 2.6), v[:, 2]], 1)
    brow = _bump(v, (3.2, 5.0, 4.6), (3.2, 1.3, 4))
    mouth = _bump(v, (0.0, -4.4, 5.0), (3.4, 1.8, 3.5))
    lips = np.zeros_like(v)
    for rows, gain in ((LIPS_UPPER, 1.0), (LIPS_LOWER, -1.0)):
        for ring, row in enumerate(rows):
            lips[list(row), 1] = gain * 0.09 * ring * np.sin(np.linspace(0, np.pi, len(row)))
    modes = {
        "width": _along(0, 0.06 * v[:, 0]),
        "height": _along(1, 0.06 * v[:, 1]),
        "depth": _along(2, 0.06 * v[:, 2]),
        "jaw_width": _along(0, 0.09 * low * v[:, 0]),
        "chin": _push(_smooth((-5.5 - v[:, 1]) / 3.5), (0, -0.5, 0.3), v),
        "nose_width": _push(nostrils, (0.28, 0, 0), v),
        "nose_length": _push(tip, (0, -0.4, 0), v),
        "nose_out": _push(tip, (0, 0, 0.4), v),
        "eye_size": 0.12 * eye[:, None] * (v - centre),
        "eye_gap": _push(eye, (0.18, 0, 0), v),
        "brow_height": _push(brow, (0, 0.3, 0), v),
        "mouth_width": _along(0, 0.1 * mouth * v[:, 0]),
        "lips": lips,
        "cheeks": _push(_bump(v, (4.6, -1.5, 3.0), (2.6, 2.6, 4)), (0.35, 0, 0.35), v),
        "forehead": _push(_smooth((v[:, 1] - 4.5) / 4.0), (0, 0.5, -0.2), v),
        "mouth_y": _push(mouth, (0, 0.25, 0), v),
    }
    return np.stack([*modes.values()]).astype(np.float32)


def express(neutral: Points, strengths: Float[Tensor, "*batch 11"]) -> Points:
    """Move a neutral face in head space to the expressions' strengths. Displacements add up; lids
    are then carried to each other: a blink of 1 closes any eye."""
    modes = neutral.new_tensor(expression_modes())
    moved = neutral + torch.einsum("...k,kvc->...vc", strengths, modes)
    right, left = (strengths[..., EXPRESSIONS.index(f"blink_{side}")] for side in ("right", "left"))
    moved = _blink(moved, right, (*RIGHT_UPPER, *RIGHT_LOWER, RIGHT_FOLD))
    return _blink(moved, left, (*LEFT_UPPER, *LEFT_LOWER, LEFT_FOLD))


def _blink(points: Tensor, strength: Tensor, rows: tuple) -> Tensor:
    upper, lid, lower, pouch, fold = map(list, rows)
    meet = points[..., lower, :] * 0.88 + points[..., upper, :] * 0.12
    arch = torch.linspace(0.12, 0.88, 7, dtype=points.dtype, device=points.device) * torch.pi
    bulge = points.new_zeros(7, 3)
    bulge[:, 2] = 0.22 * arch.sin()
    shut = strength[..., None, None]
    out = points.clone()
    down, up = meet - points[..., upper, :] + bulge, meet - points[..., lower, :]
    out[..., upper, :] += shut * down
    out[..., lid, :] += shut * down * 0.5
    out[..., fold, :] += shut * down * 0.12
    out[..., lower, :] += shut * (up + bulge)
    out[..., pouch, :] += shut * up * 0.4
    return out


def rotation(degrees: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Head rotation from (yaw, pitch, roll) in degrees: yaw turns to the picture's right, pitch
    looks up, roll tilts clockwise in the picture; applied in the order pitch, yaw, roll."""
    yaw, pitch, roll = torch.deg2rad(degrees).unbind(-1)
    return _about(2, -roll) @ _about(1, yaw) @ _about(0, -pitch)


def _about(axis: int, angle: Tensor) -> Float[Tensor, "*batch 3 3"]:
    """Turned by an angle about one axis, right-handed."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=angle.dtype, device=angle.device).repeat(*angle.shape, 1, 1)
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., second, first], matrix[..., first, second] = angle.sin(), -angle.sin()
    return matrix


def posed(points: Points, degrees: Float[Tensor, "*batch 3"]) -> Points:
    pivot = points.new_tensor(HEAD_PIVOT)
    return (points - pivot) @ rotation(degrees).transpose(-1, -2) + pivot


def vertex_normals(points: Points, triangles: Int[Tensor, "F 3"]) -> Points:
    """Unit normals, the area-weighted mean of the triangles around each vertex."""
    a, b, c = (points[..., triangles[:, k], :] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(points)
    for corner in triangles.unbind(1):
        total.index_add_(points.dim() - 2, corner, normal)
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1e-6)


@dataclass(frozen=True)
class HeadPose:
    """How head space (centimetres, x right, y up, z to the viewer) lies in the picture."""

    rotation: Float[Tensor, "*batch 3 3"]  # head to picture axes
    scale: Float[Tensor, "*batch"]  # pixels per cm
    centre: Float[Tensor, "*batch 3"]  # of its origin, pixels, y up and z to the viewer


@functools.cache
def stable_vertices() -> np.ndarray:
    """Vertices that expressions hardly move: temples, nose bridge, cheekbones; int64 [n]."""
    moves = np.linalg.norm(expression_modes(), axis=-1).max(0)
    moves[[i for row in LID_ROWS for i in row]] = np.inf
    return np.flatnonzero(moves < STABLE_CM)


def fit_head(points: Points, reference: Float[Tensor, "468 3"] | None = None) -> HeadPose:
    """Least-squares similarity that lays a head (`reference`: its neutral shape in head space, else
    the canonical face) onto detected points (y down, z away)."""
    index = torch.as_tensor(stable_vertices(), device=points.device)
    reference = torch.tensor(canonical_geometry()[0]) if reference is None else reference
    source = reference.to(points.device, torch.float64)[index]
    target = points[..., index, :].double() * points.new_tensor((1, -1, -1)).double()
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, s, vh = torch.linalg.svd(b.transpose(-1, -2) @ a)
    mend = torch.ones_like(s)  # no mirror images
    mend[..., 2] = torch.linalg.det(u @ vh)
    rotation = (u * mend[..., None, :]) @ vh
    scale = (s * mend).sum(-1) / (a**2).sum()
    centre = target_mean - scale[..., None] * (rotation @ source_mean)
    return HeadPose(*(value.to(points.dtype) for value in (rotation, scale, centre)))


def to_head(points: Points, pose: HeadPose) -> Points:
    """Detected points in head space: the pose taken out."""
    picture = points * points.new_tensor((1, -1, -1)) - pose.centre[..., None, :]
    return picture @ pose.rotation / pose.scale[..., None, None]


def to_picture(points: Points, pose: HeadPose) -> Points:
    """Head-space points in the picture: pixels, y down, z away from the viewer."""
    turned = points @ pose.rotation.transpose(-1, -2) * pose.scale[..., None, None]
    return (turned + pose.centre[..., None, :]) * points.new_tensor((1, -1, -1))
