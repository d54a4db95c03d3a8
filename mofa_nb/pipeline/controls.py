"""What moves a clip, layer by layer, and each layer's adapter at work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.faces.draw import coloured_landmarks, drawn_landmarks, unopened
from mofa_nb.faces.drive import FaceMotion
from mofa_nb.models.models import Models
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.anchor import anchoring
from mofa_nb.sampling.denoise import Control, Trace, windowed
from mofa_nb.sampling.detail import DetailLayer
from mofa_nb.sampling.windows import Window, periodic_windows


@dataclass(frozen=True)
class Layer:
    """One kind of motion in a clip, in pixels of the fitted image."""

    kind: str  # of the adapter that takes it, "trajectory" or "landmark"
    flow: Float[Tensor, "steps 2 H W"]  # dense, frame 0 -> frame t
    mask: Float[Tensor, "1 1 H W"] | None = None  # where it counts, in [0, 1]; None: everywhere
    landmarks: Float[Tensor, "T 68 2"] | None = None  # where the adapter is shown them
    order: Float[Tensor, "1 H W"] | None = None  # what is in front where things meet: `flow.order`
    notes: tuple[str, ...] = ()  # what the user should know, one sentence each

    @property
    def tears(self) -> bool:
        """The photograph tears where the flow jumps; a face's skin stretches instead."""
        return self.landmarks is None


@dataclass(frozen=True)
class ClipMotion:
    """Everything that moves a clip's picture."""

    still: Float[Tensor, "steps 2 H W"]  # a flow of zeros, as long and as large as the clip's
    layers: tuple[Layer, ...] = ()  # later ones lie over earlier ones and leave these the rest
    face: FaceMotion | None = None  # what the picture's face follows; None without one

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.layers:
            return ("the motion is empty, so the clip runs free",)
        return tuple(note for layer in reversed(self.layers) for note in layer.notes)

    @property
    def num_frames(self) -> int:
        return len(self.still) + 1

    @property
    def flow(self) -> Float[Tensor, "steps 2 H W"]:
        """One flow for looking at: each layer's where its mask lets it count."""
        whole = [m.flow if m.mask is None else m.mask[0] * m.flow for m in self.layers]
        return sum(whole[1:], whole[0]) if whole else self.still


def stacked(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers whose masks leave those below them what they do not take, so that all add up to 1."""
    made, rest = [], None
    for layer in reversed(layers):
        mask = layer.mask if rest is None else rest if layer.mask is None else rest * layer.mask
        made.append(replace(layer, mask=mask))
        if layer.mask is not None:
            rest = 1 - layer.mask if rest is None else rest * (1 - layer.mask)
    return tuple(reversed(made))


def clip_windows(
    num_frames: int, native: int, settings: ClipSettings | None = None, *, wrap: bool = False
) -> list[Window]:
    """The windows in which a clip is denoised; one for a clip that fits into a window.

    `native` is the model's own number of frames; to `wrap`, the clip ends where it began.
    """
    settings = settings or ClipSettings()
    window = settings.window or native
    if num_frames <= window:
        return periodic_windows(num_frames, num_frames)
    stride, repeat = settings.window_stride, settings.repeat_last_window
    return periodic_windows(num_frames, window, stride, as_released=repeat, wrap=wrap)


def adapter_control(
    models: Models, layer: Layer, image: Float[Tensor, "1 3 H W"], settings: ClipSettings
) -> Control:
    """A layer's adapter with its features of the first frame, in [-1, 1] (paper section 3.1)."""
    adapter, size = models.adapter(layer.kind), tuple(image.shape[-2:])
    scale, span, share = settings.of_kind(layer.kind)
    drawn, photo = None, None
    if layer.landmarks is not None:
        lines = drawn_landmarks(layer.landmarks.double().cpu().numpy(), size)  # once for all steps
        lines = torch.from_numpy(lines).to(image.device)
        drawn = lambda frames: coloured_landmarks(lines[frames], size)[None]  # noqa: E731
    dtype, order = next(adapter.parameters()).dtype, layer.order
    order = None if order is None else order[None]
    reference = adapter.reference(image.to(dtype), layer.flow[None], drawn, order=order)
    if share and scale:
        holes = models.settings.anchor_holes if layer.tears else 0.0
        photo = anchoring(models, image, layer.flow[None], share, holes, layer.tears, layer.order)
    mask = None if layer.mask is None else layer.mask.to(image.device)
    return Control(adapter, reference, scale, mask, span, photo)


def adapter_controls(
    models: Models,
    layers: Sequence[Layer],
    image: Float[Tensor, "1 3 H W"],
    settings: ClipSettings,
    windows: Sequence[Window],
    trace: Trace | None = None,
) -> list[Control]:
    """The adapters at work; a layer that counts nowhere has none.

    With several windows, each keeps a reference and warps window by window; of a single one
    `trace` is called with "conditioning" (tracks) and "face_conditioning".
    """
    seen = [layer for layer in layers if layer.mask is None or bool(layer.mask.any())]
    controls = [adapter_control(models, layer, image, settings) for layer in seen]
    if len(windows) > 1:
        return controls
    controls = [windowed(control, windows[0]) for control in controls]
    for control in controls if trace is not None else ():
        face = control.conditioning.landmarks is not None
        trace("face_conditioning" if face else "conditioning", control.conditioning)
    return controls


def detail_layers(
    models: Models, layers: Sequence[Layer], image: Float[Tensor, "1 3 H W"], settings: ClipSettings
) -> list[DetailLayer]:
    """Where the photograph's detail goes: along each layer, as far as that is anchored."""
    found = []
    for layer in layers:
        scale, span, anchor = settings.of_kind(layer.kind)
        anchored = min(anchor / (getattr(models.settings, f"{layer.kind}_anchor") or 1), 1.0)
        weight = models.settings.detail * anchored * min(scale, 1.0) * (span[0] == 0)
        if weight:
            if layer.mask is not None:
                weight = weight * layer.mask.to(image)
            if not layer.tears:
                weight = partial(_where_unopened, weight, layer.landmarks, image)
            found.append(DetailLayer(layer.flow, weight, layer.tears, layer.order))
    return found


def _where_unopened(weight: float | Tensor, marks: Tensor, image: Tensor, a: int, b: int) -> Tensor:
    """The weight [t, 1, H, W] in frames a to b, without what opens or closes in them."""
    return weight * unopened(marks[a:b], marks[0], image.shape[-2:]).to(image)


def soft_mask(mask: np.ndarray, softness: float) -> Float[Tensor, "1 1 H W"]:
    """A painted mask [H, W] as a weight in [0, 1] that fades over `softness` pixels at its edge."""
    from scipy.ndimage import gaussian_filter

    weight = mask.astype(np.float64) / 255
    if softness:
        weight = gaussian_filter(weight, softness / 4, mode="nearest")  # 95 % within the softness
    return torch.from_numpy(weight)[None, None].float()
