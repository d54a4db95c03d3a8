"""Dense flow in files (.flo, .npy, .npz), brought to the fitted picture."""

import io
import zipfile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import File, InputError, existing_file, refusing, shaped
from mofa_nb.motion.fit import Fit

_MAGIC = b"PIEH"  # a .flo begins with 202021.25 as float32
LARGEST = 1e5  # pixels; Middlebury files mark what is unknown by 1e9 and more


def read_flow(path: File) -> Float[Tensor, "steps 2 H W"]:
    """Flow frame 0 -> t, pixels (dx, dy), from a file that is known by its content.

    A first step that is zero, frame 0 -> 0, is left out; an npz holds one array, or `flow` or
    `forward`. InputError: no such file or array, backward flow, or values that are no motion."""
    data, called = existing_file(path, "flow file").read_bytes(), f"flow file {path}"
    broken = ValueError, EOFError, zipfile.BadZipFile
    with refusing(f"{called} is no .flo, .npy or .npz", "save it again as one", *broken):
        array = _array(data, called)
    what = f"the flow ({array.dtype}) in {called}"
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers: save it as float32")
    flow = torch.from_numpy(shaped(array, "2 H W|H W 2|T 2 H W|T H W 2", what).astype(np.float32))
    flow = flow if flow.ndim == 4 else flow[None]
    flow = flow if flow.shape[1] == 2 else flow.permute(0, 3, 1, 2)
    if not bool((flow.abs() < LARGEST).all()):
        raise InputError(f"{called} has unknown or infinite values: fill them in first")
    return flow[1:] if len(flow) > 1 and not bool(flow[0].any()) else flow


def _array(data: bytes, called: str) -> np.ndarray:
    if data.startswith(_MAGIC):
        width, height = np.frombuffer(data, "<i4", 2, 4)
        return np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)
    arrays = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        return arrays
    names = [name for name in ("flow", "forward") if name in arrays.files] or arrays.files
    if len(names) != 1:
        raise InputError(f"{called} must hold one array, or one named `flow`, not {arrays.files}")
    if names[0].startswith("back"):
        raise InputError(f"{called}: `{names[0]}` leads to frame 0, but flow from it on is needed")
    return arrays[names[0]]


def fitted_flow(
    flow: Float[Tensor, "steps 2 h w"], fit: Fit, num_frames: int | None = None
) -> Float[Tensor, "steps 2 H W"]:
    """Flow in pixels of the image, at any scale, or of the fitted image (InputError otherwise), on
    the latter; a single one is the last frame's of `num_frames`, over which it is spread evenly."""
    size = flow.shape[3], flow.shape[2]
    if size != fit.size:
        (width, height), (left, top) = fit.size, fit.offset
        if abs(np.log(size[0] * fit.source[1] / (size[1] * fit.source[0]))) > 0.02:
            turned = " (are width and height swapped?)" if size[::-1] == fit.source else ""
            came = f"{size[0]}x{size[1]}, but the image {fit.source[0]}x{fit.source[1]}"
            raise InputError(f"the flow is {came}: estimate it on the image{turned}")
        scale = flow.new_tensor([new / old for new, old in zip(fit.scaled, size, strict=True)])
        flow = functional.interpolate(flow, fit.scaled[::-1], mode="bilinear", antialias=True)
        flow = (flow * scale[:, None, None])[..., top : top + height, left : left + width]
    if len(flow) == 1 and num_frames is not None:
        flow = flow * torch.linspace(0, 1, num_frames)[1:, None, None, None]
    return flow.contiguous()
