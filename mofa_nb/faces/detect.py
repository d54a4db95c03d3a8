"""Faces in a picture: BlazeFace boxes, a rotated crop each, 478 points in 3-D."""

import dataclasses
import functools
import hashlib
import threading
import zipfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError, whole_number
from mofa_nb.faces.mesh import fit_head
from mofa_nb.faces.points import to_68
from mofa_nb.media.images import Picture, to_unit
from mofa_nb.paths import weights_folder

BUNDLE = "face_landmarker.task"  # the face model, a zip with three small networks
BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
DETECTOR_SIZE, MESH_SIZE = 128, 256
DETECTION_THRESHOLD, PRESENCE_THRESHOLD, OVERLAP = 0.5, 0.5, 0.3
CROP_SCALE = 1.5  # side of the rotated crop over the face box
BORDER_SHARE = 0.06  # of the face's width that landmarks may lie outside the picture
LARGEST_YAW = 50.0  # degrees; beyond it half of the landmarks are guesses
_ONE_AT_A_TIME = threading.Lock()  # an interpreter serves one thread
_POINTS = [0, 2, 3, 4, 5, 6, 7]  # of a detection: centre, eyes, ...; between them its size

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    # x, y in pixels (pixel i covers [i, i + 1)) and z, smaller is nearer; the last ten are irises
    points: Float[np.ndarray, "478 3"]
    score: float  # confidence, [0, 1]
    size: tuple[int, int]  # (width, height) of the picture
    notes: tuple[str, ...] = ()  # one sentence each, as that other faces were passed over

    @property
    def box(self) -> Four:
        """Smallest (x0, y0, x1, y1) around the points, pixels."""
        flat = self.points[:, :2]
        return *flat.min(0).tolist(), *flat.max(0).tolist()


def detect_faces(image: Picture) -> list[Face]:
    """All faces in a picture, largest first; small ones only where there is no larger one."""
    faces = [face for box in _boxes(image) or _tiled_boxes(image) if (face := _mesh_in(image, box))]
    faces = [follow_face(image, face.points) or face for face in faces]  # in its own crop
    distinct: list[Face] = []
    for face in sorted(faces, key=lambda face: -np.ptp(face.points[:, :2], axis=0).prod()):
        if all(_overlap(face.box, other.box) < OVERLAP for other in distinct):
            distinct.append(face)
    return distinct


def find_face(image: Picture, choose: int = 0, *, shown_in: str = "picture") -> Face:
    """The face to animate, or to be driven by: 0 is the largest, 1 the next smaller one, ...
    InputError: no face, no such face, one cut by the picture's border, or seen from the side."""
    faces = detect_faces(image)
    if not faces:
        remedy = "use one that shows a whole face, not cut by the border, seen from the front"
        remedy += " and at least a tenth of it wide"
        raise InputError(f"no face was found in the {shown_in}: {remedy}")
    if (choose := whole_number(choose, 0, 1000, "choose")) >= len(faces):
        count = f"{len(faces)}, counted from 0, the largest"
        wrong = f"face {choose} was asked for, but the {shown_in} shows {count}"
        raise InputError(f"{wrong}: choose {len(faces) - 1} at most")
    check_portrait(face := faces[choose], shown_in)
    if len(faces) == 1:
        return face
    which = f"face {choose}, counted from 0, the largest," if choose else "the largest"
    note = f"the {shown_in} shows {len(faces)} faces; {which} was taken"
    return dataclasses.replace(face, notes=(note,))


def portrait_crop(
    image: Picture, side: int, *, margin: float = 2.0
) -> tuple[Float[Tensor, "3 side side"], Float[Tensor, "478 3"]]:
    """A square around the largest face, `margin` times as wide as its box (or as the picture), made
    `side` pixels wide, and the points in it. InputError: no usable face."""
    x0, y0, x1, y1 = find_face(image).box
    height, width = image.shape[:2]
    length = int(min(max(x1 - x0, y1 - y0) * margin, height, width))
    left = int(np.clip((x0 + x1 - length) / 2, 0, width - length))
    top = int(np.clip((y0 + y1 - length) / 2, 0, height - length))
    square = np.ascontiguousarray(image[top : top + length, left : left + length])
    square = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    return to_unit(square), torch.from_numpy(find_face(square).points).float()


def is_cut(face: Face) -> bool:
    points = to_68(face.points)
    margin = BORDER_SHARE * (face.box[2] - face.box[0])
    return bool(((points < -margin) | (points > np.array(face.size) + margin)).any())


def check_portrait(face: Face, shown_in: str = "picture") -> None:
    """Raise InputError when a face is cut by the picture's border or seen from the side."""
    if is_cut(face):
        remedy = f"use a {shown_in} that shows the whole face"
        raise InputError(f"the face is cut by the {shown_in}'s border: {remedy}")
    across = abs(float(fit_head(torch.from_numpy(face.points)).rotation[2, 0]))
    yaw = np.degrees(np.arcsin(min(across, 1.0)))
    if yaw > LARGEST_YAW:
        side = f"seen from the side (turned by {yaw:.0f} degrees)"
        remedy = f"use one that is turned by less than {LARGEST_YAW:.0f}"
        raise InputError(f"the face in the {shown_in} is {side}: {remedy}")


def follow_face(image: Picture, previous: np.ndarray) -> Face | None:
    """The face that was at `previous` [478, 3] one frame ago, or None when it is not there."""
    angle = _angle(previous[33], previous[263])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = previous[:, :2] @ turn.T
    low, high = turned.min(0), turned.max(0)
    centre, side = turn.T @ ((low + high) / 2), float((high - low).max()) * CROP_SCALE
    return _mesh_in(image, (*centre.tolist(), side, angle))


@functools.cache
def read_bundle(path: Path | None = None) -> dict[str, bytes]:
    """The files inside the face model, by name; InputError if it is missing or another one."""
    path = path or weights_folder(BUNDLE)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != BUNDLE_SHA256:
        remedy = f"take {BUNDLE} from the repository's weights folder"
        raise InputError(f"the face model {path} is missing or damaged: {remedy}")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@functools.cache
def _network(name: str):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    quiet = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # the default one writes to stderr
    network = Interpreter(
        model_content=read_bundle()[name], num_threads=1, experimental_op_resolver_type=quiet
    )
    network.allocate_tensors()
    return network


def _run(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    with _ONE_AT_A_TIME:
        network = _network(name)
        network.set_tensor(network.get_input_details()[0]["index"], array[None].astype(np.float32))
        network.invoke()
        return {d["name"]: network.get_tensor(d["index"])[0] for d in network.get_output_details()}


@functools.cache
def _anchors() -> np.ndarray:
    """Centres of the 896 anchors in [0, 1]: 16x16 cells twice, then 8x8 cells six times."""
    cells = ((n, np.indices((n, n))[::-1].reshape(2, -1).T) for n in (16, 8))
    return np.concatenate([((at + 0.5) / n).repeat(2 if n == 16 else 6, 0) for n, at in cells])


def _boxes(image: Picture, x: int = 0, y: int = 0) -> list[Four]:
    """Rotated crops (centre x, centre y, side, angle) of the faces in a picture's tile at x, y."""
    height, width = image.shape[:2]
    side = max(height, width)
    scale = DETECTOR_SIZE / side
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((DETECTOR_SIZE, DETECTOR_SIZE, 3), np.float32)
    y0, x0 = round((side - height) / 2 * scale), round((side - width) / 2 * scale)
    small = small[: DETECTOR_SIZE - y0, : DETECTOR_SIZE - x0]
    canvas[y0 : y0 + small.shape[0], x0 : x0 + small.shape[1]] = small
    out = _run("face_detector.tflite", canvas / 127.5 - 1)
    scores = 1 / (1 + np.exp(-np.clip(out["classificators"][:, 0], -80, 80)))
    keep = scores > DETECTION_THRESHOLD
    values = out["regressors"][keep].reshape(-1, 8, 2) / DETECTOR_SIZE
    values[:, _POINTS] += _anchors()[keep][:, None]
    values[:, _POINTS] -= np.array([x0, y0]) / DETECTOR_SIZE
    values *= side
    values[:, _POINTS] += np.array((x, y))
    return [
        (*value[0].tolist(), float(value[1].max()) * CROP_SCALE, _angle(*value[2:4]))
        for value in _merge(values, scores[keep])
    ]


def _tiled_boxes(image: Picture) -> list[Four]:
    """Search nine overlapping tiles of half the picture's shorter side and a bit."""
    side = max(64, int(min(image.shape[:2]) * 0.6))
    rows, columns = (np.linspace(0, max(n - side, 0), 3).astype(int) for n in image.shape[:2])
    corners = product(rows.tolist(), columns.tolist())
    return [box for y, x in corners for box in _boxes(image[y : y + side, x : x + side], x, y)]


def _merge(values: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Weighted non-maximum suppression: overlapping detections become their weighted mean."""
    centres, sizes = values[:, :2].astype(float).swapaxes(0, 1)
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).tolist()
    order, merged = list(np.argsort(-scores)), []
    while order:
        best = order[0]
        near = [i for i in order if i == best or _overlap(corners[i], corners[best]) > OVERLAP]
        weight = scores[near][:, None, None]
        mean = (values[near] * weight).sum(0) / weight.sum()
        merged.append(mean if len(near) > 1 else values[best])
        order = [i for i in order if i not in near]
    return merged


def _overlap(a: Four, b: Four) -> float:
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _angle(right_eye: np.ndarray, left_eye: np.ndarray) -> float:
    return float(np.arctan2(*(left_eye - right_eye)[1::-1]))


def _mesh_in(image: Picture, crop: Four) -> Face | None:
    """Run the mesh network on a rotated square crop and bring its points back to the picture."""
    x, y, side, angle = crop
    if not np.isfinite(crop).all() or side < 8:
        return None
    scale, half = side / MESH_SIZE, (MESH_SIZE - 1) / 2
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    # half-pixel centres: OpenCV's warp takes integer positions for pixel centres
    to_image = np.array([[cos, -sin, x - 0.5], [sin, cos, y - 0.5]])
    to_image[:, 2] -= to_image[:, :2] @ (half, half)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(image, to_image, (MESH_SIZE, MESH_SIZE), flags=flags)
    out = _run("face_landmarks_detector.tflite", patch / np.float32(255))
    score = float(1 / (1 + np.exp(-np.clip(float(out["Identity_1"].ravel()[0]), -50, 50))))
    if score < PRESENCE_THRESHOLD:
        return None
    points = out["Identity"].reshape(-1, 3).astype(np.float64)
    points[:, :2] = (points[:, :2] - half - 0.5) @ to_image[:, :2].T + (x, y)
    points[:, 2] *= scale
    return Face(points, score, (image.shape[1], image.shape[0]))
