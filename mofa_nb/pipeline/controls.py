"""What steers a clip: its settings, the flow of tracks and of a face, and the mask between them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError, number_between, shown, whole_number
from mofa_nb.config import Settings
from mofa_nb.faces.draw import landmark_images
from mofa_nb.faces.face_motion import FaceMotion
from mofa_nb.faces.masks import unopened
from mofa_nb.models.models import Models
from mofa_nb.motion.rates import FEWEST, MOST, clip_rate, frames_in, own_rate
from mofa_nb.sampling.anchor import AnchorOf, anchoring
from mofa_nb.sampling.denoise import Control, Trace, windowed
from mofa_nb.sampling.detail import FINE, Course, with_detail
from mofa_nb.sampling.windows import Window, periodic_windows

_FACE_ONLY = ("face_scale", "face_span", "mask_softness", "face_anchor")


@dataclass(frozen=True)
class Steering:
    """Everything that moves a clip's picture, in pixels of the fitted image.

    Attributes:
        still: a flow of zeros.
        drag: dense flow of tracks and pins; None without them.
        face: what the face follows; None without a face.
        face_flow: its dense flow.
        mask: share of the face's motion in [0, 1], the tracks having the rest; None: everywhere.
        notes: what the user should know, one sentence each.
    """

    still: Float[Tensor, "steps 2 H W"]
    drag: Float[Tensor, "steps 2 H W"] | None = None
    face: FaceMotion | None = None
    face_flow: Float[Tensor, "steps 2 H W"] | None = None
    mask: Float[Tensor, "1 1 H W"] | None = None
    notes: tuple[str, ...] = ()

    @property
    def flow(self) -> Float[Tensor, "steps 2 H W"]:
        """One flow for looking at: the face's inside the mask, the tracks' outside."""
        drag = self.still if self.drag is None else self.drag
        if self.face_flow is None or self.mask is None:
            return drag if self.face_flow is None else self.face_flow
        return torch.lerp(drag, self.face_flow, self.mask[0])


def clip_settings(
    model: Settings,
    has_face: bool,
    *,
    steps: int | None = None,
    seed: int | None = None,
    control_scale: float | None = None,
    face_scale: float | None = None,
    num_frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    guidance: tuple[float, float] | None = None,
    mask_softness: float = 0.0,
    control_span: Sequence[float] = (0.0, 1.0),
    face_span: Sequence[float] = (0.0, 1.0),
    window: int | None = None,
    window_stride: int | None = None,
    repeat_last_window: bool = False,
    window_fade: bool | None = None,
    anchor: float | None = None,
    face_anchor: float | None = None,
) -> dict[str, Any]:
    """How a clip is made, checked, with the model's own values for what is not given.

    Args:
        control_scale, face_scale: factor on what tracks and face do.
        num_frames, seconds: length, one of them; a face's clip lasts as long as what drives it.
        fps: frames per second; a face's clip has at least 12.5.
        mask_softness: width in pixels over which the face mask fades out.
        control_span, face_span: where in the steps each works, from 0 to 1.
        window: frames that the model sees at once of a longer clip; its native number by default
            and at most (paper: 14).
        window_stride: frames between the windows of a long clip; half a window by default.
        repeat_last_window: as in the release; see `periodic_windows`.
        window_fade: windows count less towards their ends; the model's own choice by default.
        anchor, face_anchor: how far the photograph, carried along the flow of tracks or of the
            face, replaces what the model estimates in noisy steps, from 0 (the release) to 1; the
            model's own by default.
    Returns:
        all by name; num_frames is None where a face decides.
    Raises:
        InputError: a value out of range.
    """
    fps = clip_rate(own_rate(model.fps, has_face) if fps is None else fps, has_face)
    fps = int(fps) if fps == int(fps) else fps
    if seconds is not None:
        num_frames = _frames(seconds, fps, num_frames)
    if num_frames is not None or not has_face:
        own = model.num_frames if num_frames is None else num_frames
        num_frames = whole_number(own, FEWEST, MOST, "num_frames")
    scales = {"control_scale": (control_scale, model.control_scale)}
    scales["face_scale"] = face_scale, model.landmark_scale
    chosen = {
        "steps": whole_number(model.steps if steps is None else steps, 1, 1000, "steps"),
        "seed": whole_number(model.seed if seed is None else seed, 0, 2**63 - 1, "seed"),
        "num_frames": num_frames,
        "fps": fps,
        "guidance": _guidance(model.guidance if guidance is None else guidance),
        "mask_softness": number_between(mask_softness, 0, 1000, "mask_softness"),
        "control_span": _span(control_span, "control_span"),
        "face_span": _span(face_span, "face_span"),
    }
    if window is not None:
        chosen["window"] = whole_number(window, FEWEST, model.num_frames, "window")
    if window_stride is not None:
        chosen["window_stride"] = whole_number(window_stride, 1, MOST, "window_stride")
    fade = model.window_fade if window_fade is None else window_fade
    switches = {"repeat_last_window": repeat_last_window, "window_fade": fade}
    chosen |= {name: True for name, on in switches.items() if on}
    anchors = {"anchor": anchor, "face_anchor": face_anchor}
    for name, given in anchors.items():
        share = number_between(getattr(model, name) if given is None else given, 0, 1, name)
        chosen |= {name: share} if share else {}
    for name, (given, own) in scales.items():
        chosen[name] = number_between(own if given is None else given, 0, 100, name)
    unused = () if has_face else _FACE_ONLY
    return {name: value for name, value in chosen.items() if name not in unused}


def given_settings(model: Settings, has_face: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    """`clip_settings` of settings by name; InputError for a name that there is not."""
    names = [*inspect.signature(clip_settings).parameters][2:]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InputError(f"there is no setting {unknown[0]!r}: choose from {', '.join(names)}")
    return clip_settings(model, has_face, **given)


def clip_windows(
    num_frames: int, native: int, chosen: Mapping[str, Any] | None = None
) -> list[Window]:
    """The windows in which a clip is denoised; one for a clip that fits into a window.

    Args:
        chosen: see `clip_settings`.
    """
    chosen = chosen or {}
    window, repeat = chosen.get("window", native), chosen.get("repeat_last_window", False)
    if num_frames <= window:
        return periodic_windows(num_frames, num_frames)
    return periodic_windows(num_frames, window, chosen.get("window_stride"), as_released=repeat)


def clip_controls(
    models: Models,
    steering: Steering,
    image: Float[Tensor, "1 3 H W"],
    chosen: Mapping[str, Any],
    windows: Sequence[Window],
    trace: Trace | None = None,
) -> list[Control]:
    """The adapters at work, the face's in its mask and the tracks' outside it.

    Args:
        image: in [-1, 1].
        chosen: see `clip_settings`.
        windows: with several, each adapter keeps a reference and warps window by window.
        trace: called with "conditioning" (tracks) and "face_conditioning" of a single window.
    """
    made = []

    def anchor(name: str, scale: float, flow: Tensor, **holes) -> AnchorOf | None:
        share = chosen.get(name, 0)
        return anchoring(models, image, flow[None], share, **holes) if share and scale else None

    if steering.drag is not None:
        adapter = models.adapter("trajectory")
        known = adapter.reference(image.to(_dtype(adapter)), steering.drag[None])
        rest = None if steering.mask is None else 1 - steering.mask
        scale, span = chosen["control_scale"], chosen["control_span"]
        photo = anchor("anchor", scale, steering.drag, in_holes=models.settings.anchor_holes)
        made.append(Control(adapter, known, scale, rest, span, photo))
    if steering.face is not None:
        adapter = models.adapter("landmark")
        marks, size = steering.face.landmarks, tuple(image.shape[-2:])
        drawn = lambda frames: landmark_images(marks[frames], size)[None]  # noqa: E731
        known = adapter.reference(image.to(_dtype(adapter)), steering.face_flow[None], drawn)
        scale, span = chosen["face_scale"], chosen["face_span"]
        photo = anchor("face_anchor", scale, steering.face_flow, tears=False)
        made.append(Control(adapter, known, scale, steering.mask, span, photo))
    made = [c if c.mask is None else replace(c, mask=c.mask.to(image.device)) for c in made]
    made = [c for c in made if c.mask is None or bool(c.mask.any())]
    if len(windows) > 1:
        return made
    made = [windowed(control, windows[0]) for control in made]
    for control in made if trace is not None else ():
        face = control.conditioning.landmarks is not None
        trace("face_conditioning" if face else "conditioning", control.conditioning)
    return made


def photo_detail(
    models: Models,
    steering: Steering,
    image: Float[Tensor, "1 3 H W"],
    chosen: Mapping[str, Any],
    parts: Iterator[Float[Tensor, "t 3 H W"]],
) -> Iterator[Float[Tensor, "t 3 H W"]]:
    """Decoded parts of a clip with the photograph's detail, as far as its motions are anchored.

    Args:
        image: in [-1, 1].
        chosen: see `clip_settings`.
        parts: in [-1, 1], in order.
    """
    own, inside, outside = models.settings, 1.0, 1.0
    if steering.mask is not None:
        inside = steering.mask.to(image)
        outside = 1 - inside

    def share(name: str, kind: str) -> float:
        anchored = min(chosen.get(name, 0) / (getattr(own, name) or 1), 1.0)
        early = chosen[f"{kind}_span"][0] == 0
        return own.detail * anchored * min(chosen[f"{kind}_scale"], 1.0) * early

    courses = []
    if steering.drag is not None and (drag := share("anchor", "control")):
        courses.append(Course(steering.drag, drag * outside))
    if steering.face is not None and (held := share("face_anchor", "face")):
        marks, size = steering.face.landmarks, tuple(image.shape[-2:])

        def unchanged(begin: int, end: int) -> Tensor:
            return held * inside * unopened(marks[begin:end], marks[0], size).to(image)

        courses.append(Course(steering.face_flow, unchanged, tears=False))
    return with_detail(parts, image, courses, FINE * models.cell) if courses else parts


def soft_mask(mask: np.ndarray, softness: float) -> Float[Tensor, "1 1 H W"]:
    """A painted mask [H, W] as a share in [0, 1] that fades over `softness` pixels at its edge."""
    from scipy.ndimage import gaussian_filter

    share = mask.astype(np.float64) / 255
    if softness:
        share = gaussian_filter(share, softness / 4, mode="nearest")  # 95 % within the softness
    return torch.from_numpy(share)[None, None].float()


def _dtype(adapter: torch.nn.Module) -> torch.dtype:
    return next(adapter.parameters()).dtype


def _frames(seconds: float, fps: float, num_frames: int | None) -> int:
    if num_frames is not None:
        raise InputError("a clip's length is given in frames or in seconds: leave one of them out")
    return frames_in(seconds, fps)


def _guidance(value: Sequence[float]) -> list[float]:
    """Guidance in the first and the last frame."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise InputError(
            "guidance must be two numbers, for the first and the last frame, "
            f"but {shown(value)} came"
        )
    return [number_between(one, 0, 100, "guidance") for one in value]


def _span(value: Sequence[float], name: str) -> list[float]:
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise InputError(f"{name} must be two numbers, its begin and end from 0 to 1")
    begin, end = (number_between(edge, 0, 1, name) for edge in value)
    if begin >= end:
        raise InputError(f"{name} must begin before it ends, but {begin:g} and {end:g} came")
    return [begin, end]
