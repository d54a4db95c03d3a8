"""Dense motion of a clip, frame 0 -> frame t, estimated from its pictures: by OpenCV's DIS, which
needs no weights, or by networks of torchvision or ptlflow, imported only when asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mofa_nb.checks import InputError, choice, finite, refusing, shaped, shown
from mofa_nb.flow.sparse import Flow

Frames = UInt8[np.ndarray | Tensor, "T H W 3"] | Float[Tensor, "T 3 H W"] | Sequence[np.ndarray]
Estimator = Callable[[Tensor, Tensor], Tensor]

SMALLEST_SIDE, MOST_ENLARGED = 16, 4


def clip_flow(frames: Frames, method: str | Estimator = "dis") -> Flow:
    """Flow from the first frame to every other one (the release: UniMatch, section 4 of the paper):
    float32 pixels (dx, dy) on the frames' device, zero for a still clip.

    Of two or more frames, uint8 or floats in [0, 1]. `method`: one of `ESTIMATORS` ("dis_fine" is
    slower and better on small things, "dis_smooth" steadier on noisy frames), or a function from
    sources and targets [n, 3, H, W], in the order of one clip, to flow [n, 2, H, W]. InputError:
    fewer frames, sizes that differ, NaN, or an estimator that is not installed."""
    return _estimator(method)(*_pairs(frames))


def clip_flows(frames: Frames, method: str | Estimator = "dis") -> tuple[Flow, Flow]:
    """Flow frame 0 -> frame t, and flow frame t -> frame 0; see `clip_flow`."""
    (first, others), estimate = _pairs(frames), _estimator(method)
    return estimate(first, others), estimate(others, first)


def _pairs(frames: Frames) -> tuple[Tensor, Tensor]:
    clip = as_frames(frames)
    return clip[:1].expand_as(clip[1:]), clip[1:]


def _estimator(method: str | Estimator) -> Estimator:
    return method if callable(method) else ESTIMATORS[choice(method, ESTIMATORS, "flow method")]


def visible(forward: Flow, backward: Flow, *, slack: float = 1.5) -> Bool[Tensor, "steps 1 H W"]:
    """Forward-backward check: which pixels of frame 0 are still seen in frame t, as the way there
    ends inside the picture and the way back within `slack` px, plus a twentieth, of its start."""
    length = torch.linalg.vector_norm(forward, dim=1, keepdim=True)
    return return_gap(forward, backward) <= slack + 0.05 * length


def return_gap(forward: Flow, backward: Flow) -> Float[Tensor, "steps 1 H W"]:
    """How many pixels beside its start a pixel returns; infinite if lost from sight or NaN."""
    height, width = forward.shape[-2:]
    shaped(backward, " ".join(map(str, forward.shape)), "the backward flow")
    x = torch.arange(width, device=forward.device) + forward[:, 0]
    y = torch.arange(height, device=forward.device)[:, None] + forward[:, 1]
    where = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1).nan_to_num()
    returned = functional.grid_sample(backward, where, padding_mode="border", align_corners=True)
    gap = torch.linalg.vector_norm(forward + returned, dim=1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return torch.where(inside & ~gap.isnan(), gap, torch.inf)[:, None]


def as_frames(frames: Frames) -> Float[Tensor, "T 3 H W"]:
    """A clip as float32 in [0, 1], checked as `clip_flow` says."""
    if isinstance(frames, list | tuple):
        shapes = [np.shape(frame) for frame in frames]
        if len(shapes) < 2 or len(set(shapes)) > 1:
            came = shown(shapes, 80)
            raise InputError(f"a clip must be two or more frames of one size, but {came} came")
        frames = np.stack(frames)
    if isinstance(frames, np.ndarray) and frames.dtype == np.uint8:
        frames = torch.from_numpy(np.ascontiguousarray(frames))
    kind = getattr(frames, "dtype", type(frames).__name__)
    if kind == torch.uint8:
        clip = shaped(frames, "T H W 3", "a clip of uint8").permute(0, 3, 1, 2).float() / 255
    elif isinstance(frames, Tensor) and frames.is_floating_point():
        clip = shaped(frames, "T 3 H W", "a clip of floats").float()
    else:
        expected = "uint8 [T, H, W, 3] or a float tensor [T, 3, H, W] in [0, 1]"
        raise InputError(f"a clip must be {expected}, but {kind} came")
    count, _, height, width = clip.shape
    if count < 2:
        raise InputError(f"motion needs at least two frames, but {count} came: give a longer clip")
    if min(height, width) < SMALLEST_SIDE:
        expected = f"frames must be at least {SMALLEST_SIDE} px on a side for flow"
        raise InputError(f"{expected}, but {width}x{height} came: enlarge them")
    low, high = finite(clip, "the clip", "decode or generate it again").aminmax()
    if low < -1e-3 or high > 1 + 1e-3:
        came = f"{low:.3g} to {high:.3g} came"
        raise InputError(f"float frames must lie in [0, 1], but {came}: rescale them")
    return clip


def _working_size(height: int, width: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    factor = min(max(short_side / min(height, width), 1.0), MOST_ENLARGED)
    rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
    return rows * multiple, columns * multiple


@dataclass(frozen=True)
class DIS:
    """OpenCV's Dense Inverse Search (medium preset), each frame starting from the one before."""

    short_side: int = 384  # smaller frames are enlarged to this, which precision needs
    finest: int = 1  # the finest scale searched, 0 for every pixel
    patch: int = 8  # side of the matched squares, pixels
    stride: int = 4  # spacing of them
    smoothness: float = 60.0  # OpenCV's 20 follows the noise of generated frames
    # Start from the frame before continued by the motion since, which follows fast small things;
    # else from the frame before as it is.
    chained: bool = False

    def __call__(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Flow [n, 2, H, W] of n successive pairs of frames [n, 3, H, W] in [0, 1]."""
        height, width = sources.shape[-2:]
        rows, columns = _working_size(height, width, self.short_side)
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(self.finest)
        search.setPatchSize(self.patch)
        search.setPatchStride(self.stride)
        search.setVariationalRefinementAlpha(self.smoothness)
        before, start, flows = None, None, []
        for source, target in zip(sources, targets, strict=True):
            pair = _grey(source, rows, columns), _grey(target, rows, columns)
            if before is not None and self.chained:
                start = _continued(search, start, before, pair)
            start = search.calc(*pair, None if start is None else start.copy())
            small = cv2.resize(start, (width, height), interpolation=cv2.INTER_AREA)
            flows.append(small * np.float32([width / columns, height / rows]))
            before = pair
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(sources.device)


def _grey(frame: Tensor, rows: int, columns: int) -> np.ndarray:
    rgb = (frame.detach().cpu() * 255).round().clamp(0, 255).byte()
    small = cv2.cvtColor(rgb.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)


def _continued(search, flow: np.ndarray, before: tuple, pair: tuple) -> np.ndarray:
    """The flow of the pair before, joined with how its two frames moved since, [H, W, 2]."""
    if not np.array_equal(before[0], pair[0]):
        back = search.calc(pair[0], before[0], None)
        flow = back + _sampled(flow, back)
    if not np.array_equal(before[1], pair[1]):
        flow = flow + _sampled(search.calc(before[1], pair[1], None), flow)
    return flow


def _sampled(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    where = x + flow[..., 0], y + flow[..., 1]
    return cv2.remap(field, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _raft(sources: Tensor, targets: Tensor) -> Tensor:
    """torchvision's RAFT (large, its default weights, downloaded on first use)."""
    model = _network("torchvision", "raft", "DEFAULT", str(sources.device))
    height, width = sources.shape[-2:]
    rows, columns = _working_size(height, width, short_side=384, multiple=8)
    flows = []
    with torch.no_grad():
        for pair in zip(sources, targets, strict=True):
            enlarged = functional.interpolate(torch.stack(pair), (rows, columns), mode="bilinear")
            flow = model(*(enlarged * 2 - 1).split(1))[-1]  # [-1, 1], the range of its training
            flows.append(functional.interpolate(flow, (height, width), mode="area"))
    scale = sources.new_tensor([width / columns, height / rows])
    return torch.cat(flows) * scale[:, None, None]


@dataclass(frozen=True)
class Learned:
    """A network of ptlflow with its published weights, downloaded on first use."""

    name: str
    weights: str = "things"  # by ptlflow's names: what it was trained on last, like "sintel"
    # (height, width) that frames are resized to, their long side along the width, as the release
    # does for UniMatch; None leaves them, and the network pads them itself.
    size: tuple[int, int] | None = None

    @torch.no_grad()
    def __call__(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Flow [n, 2, H, W] of n pairs of frames [n, 3, H, W] in [0, 1]."""
        network, flows = _network("ptlflow", self.name, self.weights, str(sources.device)), []
        for pair in zip(sources, targets, strict=True):
            frames = torch.stack(pair)
            frames = frames if self.size is None else estimator_input(frames, self.size)
            blue_first = frames.flip(1)[None]  # ptlflow's order of channels
            flow = network({"images": blue_first})["flows"][:, 0].float()
            flows.append(flow if self.size is None else estimator_output(flow, sources.shape[-2:]))
        return torch.cat(flows)


@lru_cache(maxsize=1)
def _network(library: str, name: str, weights: str, device: str) -> torch.nn.Module:
    """A network of torchvision or ptlflow, with an InputError where either thing is missing."""
    module, install = "ptlflow", "pip install .[flow]"
    if library == "torchvision":
        module, install = "torchvision.models.optical_flow", "pip install torchvision"
    remedy = f"run `{install}`, or use method='dis'"
    # RuntimeError: a torchvision that was built for another torch.
    with refusing(f"flow method {name!r} needs {library}", remedy, ImportError, RuntimeError):
        networks = import_module(module)
    remedy = "connect to the internet once, or use method='dis'"
    with refusing(f"the weights {weights!r} of {name} could not be loaded", remedy, Exception):
        if library == "torchvision":
            network = networks.raft_large(weights=weights, progress=False)
        else:
            network = networks.get_model(name, ckpt_path=weights)
        return network.to(device).eval()


def estimator_input(
    frames: Float[Tensor, "B 3 H W"], size: tuple[int, int] = (384, 512)
) -> Float[Tensor, "B 3 h w"]:
    """Resize frames to a flow estimator's fixed landscape size; portrait input is transposed."""
    frames = frames.transpose(2, 3) if frames.shape[2] > frames.shape[3] else frames
    return functional.interpolate(frames, size=size, mode="bilinear", align_corners=True)


def estimator_output(
    flow: Float[Tensor, "B 2 h w"], size: tuple[int, int], as_released: bool = False
) -> Float[Tensor, "B 2 H W"]:
    """Bring an estimator's flow back to frames of (H, W), in pixels of those. For portrait frames x
    and y change places with the axes; the release forgets that (`as_released`), which its square
    training sizes never show."""
    portrait = size[0] > size[1]
    inner = size[::-1] if portrait else size
    scale = flow.new_tensor([inner[1] / flow.shape[3], inner[0] / flow.shape[2]])
    flow = functional.interpolate(flow, size=inner, mode="bilinear", align_corners=True)
    flow = flow * scale.view(1, 2, 1, 1)
    if portrait:
        flow = flow.transpose(2, 3) if as_released else flow.transpose(2, 3).flip(1)
    return flow


ESTIMATORS: dict[str, Estimator] = {
    "dis": DIS(),
    "dis_fine": DIS(short_side=256, finest=0, chained=True),
    "dis_smooth": DIS(short_side=256, patch=12, smoothness=120.0),
    "raft": _raft,
    "unimatch": Learned("unimatch_sc2_ref6", size=(384, 512)),
    "gmflow": Learned("gmflow"),
    "sea_raft": Learned("sea_raft_m"),
}
