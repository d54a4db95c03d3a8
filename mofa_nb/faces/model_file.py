"""The one face model file, a zip with three small networks, and its canonical face geometry."""

import functools
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from mofa_nb.checks import InputError
from mofa_nb.paths import weights_folder

BUNDLE = "face_landmarker.task"
BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
GEOMETRY = Path(__file__).with_name("canonical_face.npz")  # as in the face model, unpacked


@functools.cache
def read_bundle(path: Path | None = None) -> dict[str, bytes]:
    """The files inside the face model, by name; InputError if it is missing or another one."""
    path = path or weights_folder(BUNDLE)
    if not path.is_file():
        raise InputError(
            f"the face model {path} is missing: take {BUNDLE} from the repository's weights folder"
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
    with np.load(GEOMETRY) as arrays:
        return arrays["vertices"], arrays["uv"], arrays["triangles"].astype(np.int64)


@functools.cache
def rigid_weights() -> np.ndarray:
    """How much each vertex says of the head's pose: 33 of them do, float64 [468]."""
    with np.load(GEOMETRY) as arrays:
        return arrays["rigid_weights"].astype(np.float64)
