"""Faces in a picture: BlazeFace boxes, a rotated crop each, 478 points in 3-D."""

import dataclasses
import functools
import threading
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from mofa_nb.checks import InputError
from mofa_nb.faces.model_file import read_bundle
from mofa_nb.faces.points import to_68
from mofa_nb.faces.pose import euler_degrees, fit_head

DETECTOR_SIZE, MESH_SIZE = 128, 256
DETECTION_THRESHOLD, PRESENCE_THRESHOLD, OVERLAP = 0.5, 0.5, 0.3
CROP_SCALE = 1.5  # side of the rotated crop over the face box
BORDER_SHARE = 0.06  # of the face's width that landmarks may lie outside the picture
CROSSING_SHARE = 0.1  # of a box's side beyond the border from which its face counts as cut
LARGEST_YAW = 50.0  # degrees; beyond it half of the landmarks are guesses
_ONE_AT_A_TIME = threading.Lock()  # an interpreter serves one thread


@dataclass(frozen=True)
class Face:
    """One detected face.

    points: [478, 3]; x, y in image pixels (pixel i covers [i, i + 1)), z in the same unit, smaller
        is nearer. The last ten are the irises.
    score: the network's confidence that its crop holds a face, in [0, 1].
    size: (width, height) of the picture.
    notes: one sentence for each thing worth knowing, such as that other faces were passed over.
    """

    points: np.ndarray
    score: float
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Smallest (x0, y0, x1, y1) around the points, pixels."""
        low, high = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def area(self) -> float:
        """Area of the box, square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


def detect_faces(image: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
    """All faces in a picture, largest first (empty when there is none).

    Only when the whole picture shows none, faces smaller than about a sixth of it are searched for
    in half-size tiles. So a much smaller face beside a large one is passed over.
    """
    boxes = _boxes(image)
    if not boxes:
        boxes = _tiled_boxes(image)
    kept: list[Face] = []
    faces = [face for box in boxes if (face := _refined(image, box)) is not None]
    for face in sorted(faces, key=lambda face: -face.area):
        if all(_overlap(face.box, other.box) < OVERLAP for other in kept):
            kept.append(face)
    return kept


def find_face(
    image: UInt8[np.ndarray, "H W 3"], choose: int = 0, *, shown_in: str = "picture"
) -> Face:
    """The face to animate, or to be driven by.

    Args:
        choose: 0 for the largest face, 1 for the next smaller one, and so on.
        shown_in: what the image belongs to, for messages and notes.
    Raises:
        InputError: no face, no such face, one cut by the picture's border, or seen from the side.
    """
    faces = detect_faces(image)
    if not faces:
        raise InputError(_why_no_face(image, shown_in))
    if not 0 <= choose < len(faces):
        raise InputError(_no_such_face(choose, len(faces), shown_in))
    face = faces[choose]
    check_portrait(face, shown_in)
    if len(faces) > 1:
        which = f"face {choose}, counted from 0, the largest," if choose else "the largest"
        note = f"the {shown_in} shows {len(faces)} faces; {which} was taken"
        return dataclasses.replace(face, notes=(*face.notes, note))
    return face


def _no_such_face(choose: int, count: int, shown_in: str) -> str:
    faces = "1 face" if count == 1 else f"{count} faces"
    choice = {1: "0", 2: "0 or 1"}.get(count, f"0 to {count - 1}")
    return (
        f"face {choose} was asked for, but the {shown_in} shows {faces}, counted from 0, the"
        f" largest: choose {choice}"
    )


def _cut(shown_in: str) -> str:
    return f"the face is cut by the {shown_in}'s border: use a {shown_in} that shows the whole face"


def _why_no_face(image: np.ndarray, shown_in: str) -> str:
    """Look again beyond the border: a face found across it is cut by it.

    Of a face cut in half the detector finds nothing, so that one is told as no face at all.
    """
    height, width = image.shape[:2]
    y, x = height // 3, width // 3
    for mode in ("edge", "constant"):
        padded = np.pad(image, [(y, y), (x, x), (0, 0)], mode=mode)
        if any(_crosses_border(box, image.shape) for box in _boxes(padded, offset=(-x, -y))):
            return _cut(shown_in)
    return (
        f"no face was found in the {shown_in}: use one that shows a whole face, seen from the"
        f" front and at least a tenth of the {shown_in} wide"
    )


def _crosses_border(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> bool:
    x, y, side = box[0], box[1], box[2] / CROP_SCALE
    beyond = max(side / 2 - min(x, y), x + side / 2 - shape[1], y + side / 2 - shape[0])
    return beyond > CROSSING_SHARE * side


def is_cut(face: Face) -> bool:
    """Whether the picture's border cuts a face."""
    points = to_68(face.points)
    margin = BORDER_SHARE * (face.box[2] - face.box[0])
    return bool(((points < -margin) | (points > np.array(face.size) + margin)).any())


def check_portrait(face: Face, shown_in: str = "picture") -> None:
    """Raise InputError when a face is cut by the picture's border or seen from the side."""
    if is_cut(face):
        raise InputError(_cut(shown_in))
    pose = fit_head(torch.from_numpy(face.points))
    yaw = float(euler_degrees(pose.rotation)[0])
    if abs(yaw) > LARGEST_YAW:
        raise InputError(
            f"the face in the {shown_in} is seen from the side (turned by {abs(yaw):.0f} degrees):"
            f" use a {shown_in} with a face turned by less than {LARGEST_YAW:.0f}"
        )


def follow_face(image: UInt8[np.ndarray, "H W 3"], previous: np.ndarray) -> Face | None:
    """The face that was at `previous` [478, 3] one frame ago, or None when it is not there."""
    return _mesh_in(image, _crop_of_points(previous))


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
    centres = []
    for cells, repeats in ((16, 2), (8, 6)):
        grid = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(grid, grid)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), repeats, 0))
    return np.concatenate(centres)


def _boxes(image: np.ndarray, offset: tuple[int, int] = (0, 0)) -> list[tuple]:
    """Rotated crops (centre x, centre y, side, angle) of the faces in a picture."""
    import cv2

    height, width = image.shape[:2]
    side = max(height, width)
    left, top = (side - width) / 2, (side - height) / 2
    scale = DETECTOR_SIZE / side
    # half-pixel centres: OpenCV's warp takes integer positions for pixel centres
    matrix = np.float64([[scale, 0, left * scale], [0, scale, top * scale]])
    matrix[:, 2] += (scale - 1) / 2
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((DETECTOR_SIZE, DETECTOR_SIZE, 3), np.float32)
    y0, x0 = round(top * scale), round(left * scale)
    small = small[: DETECTOR_SIZE - y0, : DETECTOR_SIZE - x0]
    canvas[y0 : y0 + small.shape[0], x0 : x0 + small.shape[1]] = small
    out = _run("face_detector.tflite", canvas / 127.5 - 1)
    logits = np.clip(out["classificators"][:, 0], -80, 80)
    scores = 1 / (1 + np.exp(-logits))
    keep = scores > DETECTION_THRESHOLD
    values = out["regressors"][keep].reshape(-1, 8, 2) / DETECTOR_SIZE
    values[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[keep][:, None]
    values[:, [0, 2, 3, 4, 5, 6, 7]] -= np.array([x0, y0]) / DETECTOR_SIZE
    values *= side
    values[:, [0, 2, 3, 4, 5, 6, 7]] += np.array(offset)
    return [_crop_of_detection(group) for group in _merge(values, scores[keep])]


def _tiled_boxes(image: np.ndarray) -> list[tuple]:
    """Search nine overlapping tiles of half the picture's shorter side and a bit."""
    height, width = image.shape[:2]
    side = max(64, int(min(height, width) * 0.6))
    found = []
    for y in np.linspace(0, max(height - side, 0), 3).astype(int):
        for x in np.linspace(0, max(width - side, 0), 3).astype(int):
            tile = np.ascontiguousarray(image[y : y + side, x : x + side])
            found += _boxes(tile, offset=(int(x), int(y)))
    return found


def _merge(values: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Weighted non-maximum suppression: overlapping detections become their weighted mean."""
    order = list(np.argsort(-scores))
    merged = []
    while order:
        best = values[order[0]]
        corners = [_corners(values[i]) for i in order]
        near = [i for i, c in zip(order, corners, strict=True) if _overlap(c, corners[0]) > OVERLAP]
        near = near or [order[0]]
        weight = scores[near][:, None, None]
        merged.append((values[near] * weight).sum(0) / weight.sum() if len(near) > 1 else best)
        order = [i for i in order if i not in near]
    return merged


def _corners(value: np.ndarray) -> tuple[float, float, float, float]:
    (cx, cy), (w, h) = value[0].tolist(), value[1].tolist()
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two (x0, y0, x1, y1) boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _crop_of_detection(value: np.ndarray) -> tuple[float, float, float, float]:
    right_eye, left_eye = value[2], value[3]
    angle = float(np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0]))
    return float(value[0, 0]), float(value[0, 1]), float(value[1].max()) * CROP_SCALE, angle


def _crop_of_points(points: np.ndarray) -> tuple[float, float, float, float]:
    dx, dy = points[263, :2] - points[33, :2]
    angle = float(np.arctan2(dy, dx))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = points[:, :2] @ turn.T
    low, high = turned.min(0), turned.max(0)
    centre = turn.T @ ((low + high) / 2)
    return float(centre[0]), float(centre[1]), float((high - low).max()) * CROP_SCALE, angle


def _refined(image: np.ndarray, crop: tuple[float, float, float, float]) -> Face | None:
    """Points in a detector's crop, then once more in the crop that they themselves ask for."""
    face = _mesh_in(image, crop)
    return face and (_mesh_in(image, _crop_of_points(face.points)) or face)


def _mesh_in(image: np.ndarray, crop: tuple[float, float, float, float]) -> Face | None:
    """Run the mesh network on a rotated square crop and bring its points back to the picture."""
    import cv2

    x, y, side, angle = crop
    if not np.isfinite(crop).all() or side < 8:
        return None
    scale = side / MESH_SIZE
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    half = (MESH_SIZE - 1) / 2
    to_image = np.array([[cos, -sin, x - 0.5], [sin, cos, y - 0.5]])
    to_image[:, 2] -= to_image[:, :2] @ (half, half)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(image, to_image, (MESH_SIZE, MESH_SIZE), flags=flags)
    out = _run("face_landmarks_detector.tflite", patch / np.float32(255))
    presence = float(out["Identity_1"].ravel()[0])
    score = float(1 / (1 + np.exp(-np.clip(presence, -50, 50))))
    if score < PRESENCE_THRESHOLD:
        return None
    raw = out["Identity"].reshape(-1, 3).astype(np.float64)
    points = np.empty_like(raw)
    points[:, :2] = (raw[:, :2] - half - 0.5) @ to_image[:, :2].T + (x, y)
    points[:, 2] = raw[:, 2] * scale
    return Face(points, score, (image.shape[1], image.shape[0]))
