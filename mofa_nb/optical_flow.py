"""Dense motion of a clip, frame 0 -> frame t, estimated from its pictures.

OpenCV's DIS needs no weights and is the default. RAFT is the one optional learned estimator,
imported only when asked for. Any function of the same signature can take their place.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError

Frames = UInt8[np.ndarray | Tensor, "T H W 3"] | Float[Tensor, "T 3 H W"] | Sequence[np.ndarray]
Estimator = Callable[[Tensor, Tensor], Tensor]

SMALLEST_SIDE = 16
WORKING_SIDE, MOST_ENLARGED = 384, 4  # pixels of the short side; smaller frames are enlarged
SMOOTHNESS = 60.0  # OpenCV's 20 follows the noise of generated frames


def clip_flow(frames: Frames, method: str | Estimator = "dis") -> Float[Tensor, "steps 2 H W"]:
    """Flow from the first frame to every other one (the release: UniMatch, section 4 of the paper).

    Args:
        frames: uint8 [T, H, W, 3] or float [T, 3, H, W] in [0, 1], two or more.
        method: a name out of `ESTIMATORS`, or a function (sources, targets), both [n, 3, H, W]
            in [0, 1] with successive targets of one clip, to flow [n, 2, H, W].
    Returns:
        Float32 pixels (dx, dy) on the device of the frames; zero for a still clip.
    Raises:
        InputError: fewer than two frames, sizes that differ, NaN, or an estimator not installed.
    """
    clip, estimate = as_frames(frames), _estimator(method)
    return estimate(clip[:1].expand_as(clip[1:]), clip[1:])


def clip_flows(
    frames: Frames, method: str | Estimator = "dis"
) -> tuple[Float[Tensor, "steps 2 H W"], Float[Tensor, "steps 2 H W"]]:
    """Flow frame 0 -> frame t, and flow frame t -> frame 0; see `clip_flow`."""
    clip, estimate = as_frames(frames), _estimator(method)
    first, others = clip[:1].expand_as(clip[1:]), clip[1:]
    return estimate(first, others), estimate(others, first)


def visible(
    forward: Float[Tensor, "steps 2 H W"],
    backward: Float[Tensor, "steps 2 H W"],
    *,
    slack: float = 1.5,
    share: float = 0.05,
) -> Bool[Tensor, "steps 1 H W"]:
    """Forward-backward check: which pixels of frame 0 are still seen in frame t.

    Args:
        forward: pixels, frame 0 -> frame t.
        backward: pixels, frame t -> frame 0.
        slack, share: a pixel may return this many pixels, plus this share of its way, beside
            its start.
    Returns:
        True where the pixel's way ends inside the picture and leads back.
    """
    if forward.shape != backward.shape:
        raise InputError(
            f"the two flows must have one shape, got {tuple(forward.shape)} forward and "
            f"{tuple(backward.shape)} backward"
        )
    height, width = forward.shape[-2:]
    x = torch.arange(width, device=forward.device) + forward[:, 0]
    y = torch.arange(height, device=forward.device)[:, None] + forward[:, 1]
    where = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    returned = functional.grid_sample(
        backward, where.nan_to_num(), padding_mode="border", align_corners=True
    )
    gap = torch.linalg.vector_norm(forward + returned, dim=1)
    near = gap <= slack + share * torch.linalg.vector_norm(forward, dim=1)  # False for NaN
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return (near & inside)[:, None]


def as_frames(frames: Frames) -> Float[Tensor, "T 3 H W"]:
    """A clip as float32 in [0, 1], checked.

    Args:
        frames: uint8 [T, H, W, 3] (array, tensor or a list of [H, W, 3]), or a float tensor
            [T, 3, H, W] in [0, 1].
    Raises:
        InputError: as described for `clip_flow`.
    """
    if isinstance(frames, list | tuple):
        frames = _stacked(frames)
    clip = torch.from_numpy(np.ascontiguousarray(frames)) if _is_array(frames) else frames
    if not isinstance(clip, Tensor) or clip.ndim != 4:
        got = tuple(getattr(clip, "shape", ())) or type(clip).__name__
        raise InputError(f"a clip is uint8 [T, H, W, 3] or float [T, 3, H, W], got {got}")
    if clip.dtype == torch.uint8 and clip.shape[-1] == 3:
        clip = clip.permute(0, 3, 1, 2).float() / 255
    elif not clip.is_floating_point() or clip.shape[1] != 3:
        raise InputError(
            "a clip is uint8 [T, H, W, 3] or a float tensor [T, 3, H, W] in [0, 1], "
            f"got {clip.dtype} {tuple(clip.shape)}"
        )
    _check_values(clip)
    return clip.float()


def _is_array(frames: object) -> bool:
    return isinstance(frames, np.ndarray) and frames.dtype != object


def _stacked(frames: Sequence[np.ndarray]) -> np.ndarray:
    arrays = [np.asarray(frame) for frame in frames]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"all frames must have one size: frame {number} has shape {array.shape}, "
                f"frame 0 has {arrays[0].shape}; crop or resize the clip first"
            )
    return np.stack(arrays) if arrays else np.zeros((0, SMALLEST_SIDE, SMALLEST_SIDE, 3), "uint8")


def _check_values(clip: Tensor) -> None:
    count, _, height, width = clip.shape
    if count < 2:
        raise InputError(f"motion needs at least two frames, got {count}: give a longer clip")
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"frames must be at least {SMALLEST_SIDE} px on a side for flow, got {width}x{height}"
        )
    if not torch.isfinite(clip).all():
        bad = int((~torch.isfinite(clip)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"frame {bad} has NaN or infinite pixels: decode or generate it again")
    if clip.min() < -1e-3 or clip.max() > 1 + 1e-3:
        raise InputError(
            f"float frames must lie in [0, 1], got {clip.min():.3g} to {clip.max():.3g}: "
            "rescale them, or pass uint8"
        )


def _estimator(method: str | Estimator) -> Estimator:
    if callable(method):
        return method
    if method not in ESTIMATORS:
        raise InputError(f"flow methods are {', '.join(ESTIMATORS)}; got {method!r}")
    return ESTIMATORS[method]


def _working_size(height: int, width: int, multiple: int = 1) -> tuple[int, int]:
    factor = min(max(WORKING_SIDE / min(height, width), 1.0), MOST_ENLARGED)
    rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
    return rows * multiple, columns * multiple


def _dis(sources: Tensor, targets: Tensor) -> Tensor:
    """OpenCV's Dense Inverse Search, medium preset, each frame starting from the one before."""
    import cv2

    height, width = sources.shape[-2:]
    rows, columns = _working_size(height, width)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setVariationalRefinementAlpha(SMOOTHNESS)

    def grey(frame: Tensor) -> np.ndarray:
        rgb = (frame.detach().cpu() * 255).round().clamp(0, 255).byte()
        small = cv2.cvtColor(rgb.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)

    flow, flows = None, []
    for source, target in zip(sources, targets, strict=True):
        flow = dis.calc(grey(source), grey(target), None if flow is None else flow.copy())
        small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
        flows.append(small * np.float32([width / columns, height / rows]))
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(sources.device)


def _raft(sources: Tensor, targets: Tensor) -> Tensor:
    """torchvision's RAFT (large, its default weights, downloaded on first use)."""
    model = _raft_model().to(sources.device)
    height, width = sources.shape[-2:]
    rows, columns = _working_size(height, width, multiple=8)

    def prepared(frame: Tensor) -> Tensor:  # [-1, 1], the range of its training
        enlarged = functional.interpolate(frame[None], (rows, columns), mode="bilinear")
        return enlarged * 2 - 1

    flows = []
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            flow = model(prepared(source), prepared(target))[-1]
            flows.append(functional.interpolate(flow, (height, width), mode="area")[0])
    scale = sources.new_tensor([width / columns, height / rows])
    return torch.stack(flows) * scale[:, None, None]


def _raft_model() -> torch.nn.Module:
    try:
        from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise InputError(
            "flow method 'raft' needs a torchvision that fits the installed torch: run "
            "`pip install torchvision` (Colab has it), or use method='dis'"
        ) from error
    try:
        return raft_large(weights=Raft_Large_Weights.DEFAULT, progress=False).eval()
    except OSError as error:
        raise InputError(
            f"the RAFT weights could not be downloaded ({error}): connect to the internet once, "
            "or use method='dis'"
        ) from error


ESTIMATORS: dict[str, Estimator] = {"dis": _dis, "raft": _raft}
