"""Dense motion of a clip, frame 0 -> frame t, estimated from its pictures.

OpenCV's DIS needs no weights and is the default. Learned estimators are imported only when asked
for: RAFT of torchvision, and those of ptlflow (`pip install .[flow]`). Any function of the same
signature can take their place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError

Frames = UInt8[np.ndarray | Tensor, "T H W 3"] | Float[Tensor, "T 3 H W"] | Sequence[np.ndarray]
Estimator = Callable[[Tensor, Tensor], Tensor]

SMALLEST_SIDE, MOST_ENLARGED = 16, 4


def clip_flow(frames: Frames, method: str | Estimator = "dis") -> Float[Tensor, "steps 2 H W"]:
    """Flow from the first frame to every other one (the release: UniMatch, section 4 of the paper).

    Args:
        frames: uint8 [T, H, W, 3] or float [T, 3, H, W] in [0, 1], two or more.
        method: a name out of `ESTIMATORS`, or a function (sources, targets), both [n, 3, H, W] in
            [0, 1] and in the order of one clip, to flow [n, 2, H, W]. "dis_fine" is slower and
            better on small things, "dis_smooth" steadier on noisy frames.
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
    way = torch.linalg.vector_norm(forward, dim=1, keepdim=True)
    return return_gap(forward, backward) <= slack + share * way


def return_gap(
    forward: Float[Tensor, "steps 2 H W"], backward: Float[Tensor, "steps 2 H W"]
) -> Float[Tensor, "steps 1 H W"]:
    """How many pixels beside its start a pixel returns; infinite if lost from sight or NaN."""
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
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return torch.where(inside & ~gap.isnan(), gap, torch.inf)[:, None]


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


def _working_size(height: int, width: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    factor = min(max(short_side / min(height, width), 1.0), MOST_ENLARGED)
    rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
    return rows * multiple, columns * multiple


@dataclass(frozen=True)
class DIS:
    """OpenCV's Dense Inverse Search (medium preset), each frame starting from the one before.

    Attributes:
        short_side: smaller frames are enlarged to this (at most four times): small pictures
            need it for precision.
        finest: the finest scale searched, 0 for every pixel.
        patch, stride: side and spacing of the matched squares, pixels.
        smoothness: of the refined flow; OpenCV's 20 follows the noise of generated frames.
        chained: start from the frame before continued by the motion since, which follows fast
            small things; else from the frame before as it is.
    """

    short_side: int = 384
    finest: int = 1
    patch: int = 8
    stride: int = 4
    smoothness: float = 60.0
    chained: bool = False

    def __call__(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Flow [n, 2, H, W] of n successive pairs of frames [n, 3, H, W] in [0, 1]."""
        import cv2

        height, width = sources.shape[-2:]
        rows, columns = _working_size(height, width, self.short_side)
        search = self._search()
        before, start, flows = None, None, []
        for source, target in zip(sources, targets, strict=True):
            pair = _grey(source, rows, columns), _grey(target, rows, columns)
            if before is not None and self.chained:
                start = _continued(search, start, before, pair)
            start = search.calc(*pair, None if start is None else start.copy())
            small = cv2.resize(start, (width, height), interpolation=cv2.INTER_AREA)
            flows.append(small * np.float32([width / columns, height / rows]))
            before = pair
        stacked = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)
        return stacked.contiguous().to(sources.device)

    def _search(self):
        import cv2

        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(self.finest)
        search.setPatchSize(self.patch)
        search.setPatchStride(self.stride)
        search.setVariationalRefinementAlpha(self.smoothness)
        return search


def _grey(frame: Tensor, rows: int, columns: int) -> np.ndarray:
    import cv2

    rgb = (frame.detach().cpu() * 255).round().clamp(0, 255).byte()
    small = cv2.cvtColor(rgb.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)


def _continued(
    search, flow: np.ndarray, before: tuple[np.ndarray, ...], pair: tuple[np.ndarray, ...]
) -> np.ndarray:
    """The flow of the pair before, joined with how its two frames moved since, [H, W, 2]."""
    if not np.array_equal(before[0], pair[0]):
        back = search.calc(pair[0], before[0], None)
        flow = back + _fetched(flow, back)
    if not np.array_equal(before[1], pair[1]):
        flow = flow + _fetched(search.calc(before[1], pair[1], None), flow)
    return flow


def _fetched(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`field` read where `flow` leads."""
    import cv2

    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    where = x + flow[..., 0], y + flow[..., 1]
    return cv2.remap(field, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _raft(sources: Tensor, targets: Tensor) -> Tensor:
    """torchvision's RAFT (large, its default weights, downloaded on first use)."""
    model = _raft_model(str(sources.device))
    height, width = sources.shape[-2:]
    rows, columns = _working_size(height, width, short_side=384, multiple=8)

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


@lru_cache(maxsize=1)
def _raft_model(device: str) -> torch.nn.Module:
    try:
        from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise InputError(
            "flow method 'raft' needs a torchvision that fits the installed torch: run "
            "`pip install torchvision` (Colab has it), or use method='dis'"
        ) from error
    try:
        model = raft_large(weights=Raft_Large_Weights.DEFAULT, progress=False).eval()
        return model.to(device)
    except OSError as error:
        raise InputError(
            f"the RAFT weights could not be downloaded ({error}): connect to the internet once, "
            "or use method='dis'"
        ) from error


@dataclass(frozen=True)
class Learned:
    """A network of ptlflow with its published weights, downloaded on first use.

    Attributes:
        name, weights: of the model and of its weights, in ptlflow.
        size: (height, width) that frames are resized to, their long side along the width, as the
            release does for UniMatch; None leaves them, and the network pads them itself.
    """

    name: str
    weights: str = "things"
    size: tuple[int, int] | None = None

    @torch.no_grad()
    def __call__(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Flow [n, 2, H, W] of n pairs of frames [n, 3, H, W] in [0, 1]."""
        network, full = _ptlflow_model(self.name, self.weights, str(sources.device)), sources.shape
        flows = []
        for pair in zip(sources, targets, strict=True):
            frames = torch.stack(pair)
            if self.size is not None:
                frames = estimator_input(frames, self.size)
            blue_first = frames.flip(1)[None]  # ptlflow's order of channels
            flow = network({"images": blue_first})["flows"][:, 0].float()
            flows.append(flow if self.size is None else estimator_output(flow, full[-2:]))
        return torch.cat(flows)


def estimator_input(
    frames: Float[Tensor, "B 3 H W"], size: tuple[int, int] = (384, 512)
) -> Float[Tensor, "B 3 h w"]:
    """Resize frames to a flow estimator's fixed landscape size; portrait input is transposed."""
    frames = frames.transpose(2, 3) if frames.shape[2] > frames.shape[3] else frames
    return functional.interpolate(frames, size=size, mode="bilinear", align_corners=True)


def estimator_output(
    flow: Float[Tensor, "B 2 h w"], size: tuple[int, int], as_released: bool = False
) -> Float[Tensor, "B 2 H W"]:
    """Bring an estimator's flow back to frames of (H, W), in pixels of those.

    For portrait frames x and y change places with the axes; the release forgets that
    (`as_released=True`), which its square training sizes never show.
    """
    height, width = size
    portrait = height > width
    inner = (width, height) if portrait else (height, width)
    scale = flow.new_tensor([inner[1] / flow.shape[3], inner[0] / flow.shape[2]])
    flow = functional.interpolate(flow, size=inner, mode="bilinear", align_corners=True)
    flow = flow * scale.view(1, 2, 1, 1)
    if portrait:
        flow = flow.transpose(2, 3)
        flow = flow if as_released else flow.flip(1)
    return flow


@lru_cache(maxsize=1)
def _ptlflow_model(name: str, weights: str, device: str) -> torch.nn.Module:
    try:
        import ptlflow
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision for another torch
        raise InputError(
            f"flow method {name!r} needs ptlflow: run `pip install .[flow]`, or choose dis"
        ) from error
    try:
        return ptlflow.get_model(name, ckpt_path=weights).to(device).eval()
    except Exception as error:  # downloads fail in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the weights of {name} could not be loaded ({reason}): connect to the internet once, "
            "or choose dis"
        ) from error


ESTIMATORS: dict[str, Estimator] = {
    "dis": DIS(),
    "dis_fine": DIS(short_side=256, finest=0, chained=True),
    "dis_smooth": DIS(short_side=256, patch=12, smoothness=120.0),
    "raft": _raft,
    "unimatch": Learned("unimatch_sc2_ref6", size=(384, 512)),
    "gmflow": Learned("gmflow"),
    "sea_raft": Learned("sea_raft_m"),
}
