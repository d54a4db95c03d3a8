"""The one face model file: a zip with three small networks and the canonical face geometry."""

import functools
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from mofa_nb.checks import InputError
from mofa_nb.paths import weights_folder

BUNDLE = "face_landmarker.task"
BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
GEOMETRY = "geometry_pipeline_metadata_landmarks.binarypb"


@functools.cache
def read_bundle(path: Path | None = None) -> dict[str, bytes]:
    """The files inside the face model, by name.

    Args:
        path: the one in the repository's weights folder when None.
    Raises:
        InputError: the file is missing, or is not the one this package was written for.
    """
    path = path or weights_folder(BUNDLE)
    if not path.is_file():
        raise InputError(
            f"the face model {path} is missing: take face_landmarker.task from the repository's "
            "weights folder"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != BUNDLE_SHA256:
        raise InputError(
            f"the face model {path} is damaged (SHA-256 starts {digest[:12]}, expected "
            f"{BUNDLE_SHA256[:12]}): take it from the repository again"
        )
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@functools.cache
def canonical_geometry() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neutral face mesh: the first 468 landmarks of the detector, in the same order.

    Returns:
        vertices: float32 [468, 3], centimetres; x to the picture's right, y up, z to the viewer.
        uv: float32 [468, 2] in [0, 1]; u to the right, v down (forehead near 0.1).
        triangles: int64 [898, 3], counter-clockwise seen from the front; eyes and mouth are filled.
    """
    mesh = next(value for number, value in _fields(read_bundle()[GEOMETRY]) if number == 1)
    numbers, indices = [], []
    for field, value in _fields(mesh):
        if field == 3:
            numbers.append(value)
        elif field == 4:
            indices.append(value)
    rows = np.frombuffer(b"".join(numbers), "<f4").reshape(-1, 5)
    triangles = np.array(indices, np.int64).reshape(-1, 3)
    return rows[:, :3].copy(), rows[:, 3:].copy(), triangles


@functools.cache
def rigid_weights() -> np.ndarray:
    """How much each vertex says of the head's pose: 33 of them do, float64 [468]."""
    weights = np.zeros(len(canonical_geometry()[0]))
    for number, value in _fields(read_bundle()[GEOMETRY]):
        if number == 2:
            point = dict(_fields(value))
            weights[point[1]] = np.frombuffer(point[2], "<f4")[0]
    return weights


def _fields(message: bytes):
    """Yield (field number, value) of a protocol-buffer message: int for varints, else bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 5:
            value, at = message[at : at + 4], at + 4
        elif wire == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise InputError(f"the face geometry holds wire type {wire}, expected 0, 2 or 5")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
