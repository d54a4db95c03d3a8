"""What a motion makes of a picture, layer by layer (flow, mask, landmarks), and each layer's
adapter at work."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces import draw
from mofa_nb.faces.drive import FaceMotion, drive_face
from mofa_nb.faces.voice import Progress
from mofa_nb.flow.dense import clip_dense_flow, grid_features
from mofa_nb.flow.s2d import ImageFeatures
from mofa_nb.flow.sparse import BrushedHints, Flow, grid_paths, motion_hints
from mofa_nb.media.images import to_unit
from mofa_nb.models.checkpoints import find_voice
from mofa_nb.models.load import load_voice
from mofa_nb.models.models import Models
from mofa_nb.motion import Fit, Motion
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling.denoise import Control, Trace, Window, periodic_windows, windowed

MOST_FACES = 8  # whose motions a picture remembers


@dataclass(frozen=True)
class MotionLayer:
    """One kind of motion in a clip, in pixels of the fitted image."""

    kind: str  # of the adapter that takes it, "trajectory" or "landmark"
    flow: Flow  # dense, frame 0 -> frame t
    scale: float = 1.0  # factor on the adapter's residuals (paper: control scale)
    span: tuple[float, float] = (0.0, 1.0)  # of the steps in which it works, as fractions
    mask: Float[Tensor, "1 1 H W"] | None = None  # where it counts, in [0, 1]; None: everywhere
    landmarks: Float[Tensor, "T 68 2"] | None = None  # where the adapter is shown them
    order: Float[Tensor, "1 H W"] | None = None  # what is in front where things meet: `flow.warp`
    notes: tuple[str, ...] = ()  # what the user should know, one sentence each


@dataclass(frozen=True)
class ClipMotion:
    """Everything that moves a clip's picture."""

    still: Flow  # a flow of zeros, as long and as large as the clip's
    layers: tuple[MotionLayer, ...] = ()  # later ones lie over earlier ones and leave them the rest
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
    def flow(self) -> Flow:
        """One flow for looking at: each layer's where its mask lets it count."""
        flows = [m.flow if m.mask is None else m.mask[0] * m.flow for m in self.layers]
        return sum(flows[1:], flows[0]) if flows else self.still


@dataclass(frozen=True)
class PreparedPicture:
    """One picture, ready for any motion on it; motions are given in its pixels (`fit_motion`)."""

    models: Models
    photo: UInt8[np.ndarray, "H W 3"]  # as it was read; faces are looked for in it
    image: UInt8[np.ndarray, "h w 3"]  # scaled and cropped as `fit` says
    fit: Fit
    features: ImageFeatures  # S2D's of the image, computed once
    faces: dict = field(default_factory=dict)  # the last faces' motions, by what they depend on

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[:2]

    @cached_property
    def landmark_features(self) -> ImageFeatures:
        """The same of the network that makes a face's flow."""
        s2d = self.models.landmark_s2d
        return self.features if s2d is self.models.s2d else grid_features(s2d, to_unit(self.image))

    @property
    def chunk(self) -> int:
        """Frames of dense flow computed at once: few on a card, whose memory is dear."""
        native = self.models.settings.num_frames - 1
        return native if self.models.device.type == "cpu" else min(native, 8)

    def hints(
        self, motion: Motion, num_frames: int, frames: Sequence[int] | None = None,
        *, as_released: bool = False,
    ) -> BrushedHints:  # fmt: skip
        """The sparse hints of tracks and pins on the S2D grid, of some frames (0 first) or all."""
        native, grid = self.models.settings.num_frames, (self.models.s2d.config.grid,) * 2
        how = {"native": native, "frames": frames, "as_released": as_released}
        return motion_hints(motion, grid, num_frames, **how)

    def trajectory_flow(
        self, motion: Motion, num_frames: int, *, as_released: bool = False
    ) -> Flow:
        """Dense flow of tracks and pins: sparse hints, then S2D (paper section 3.2)."""
        hints = partial(self.hints, motion, num_frames, as_released=as_released)
        s2d, how = self.models.s2d, {"chunk": self.chunk, "as_released": as_released}
        return clip_dense_flow(s2d, self.features, hints, num_frames, self.size, **how)

    def landmark_flow(self, landmarks: Float[Tensor, "T 68 2"]) -> Flow:
        """Dense flow of a face: its landmarks' displacements as sparse hints, then S2D."""
        s2d, features = self.models.landmark_s2d, self.landmark_features
        grid = (s2d.config.grid,) * 2
        hints = lambda frames: draw.landmark_hints(landmarks[frames], self.size, grid)  # noqa: E731
        flow = clip_dense_flow(s2d, features, hints, len(landmarks), self.size, chunk=self.chunk)
        return draw.flow_to_landmarks(flow, landmarks) if s2d.config.meets_hints else flow

    def face_motion(
        self, motion: Motion, frames: int | None, fps: float, seed: int,
        heard: Progress | None = None,
    ) -> FaceMotion:  # fmt: skip
        """What the motion's face follows, in pixels of the image; remembered while its source
        stays. `frames`: by default the source's, at least the model's own; `seed` of a speaking
        head's blinks and sway. InputError: no face, or a source that cannot be used."""
        face, fit, models = motion.face, self.fit, self.models
        native = models.settings.num_frames
        if face is None:
            raise InputError("the motion has no face that follows anything: give it one")
        file = None if face.source is None else Path(face.source)
        written = file.stat().st_mtime_ns if file and file.exists() else 0
        key = face, fps, seed if face.speaks else None, written
        if key not in self.faces and len(self.faces) >= MOST_FACES:
            self.faces.clear()
        lengths = self.faces.setdefault(key, {})
        length = frames if file else frames or native
        length = None if face.speaks else length  # a voice is heard to its end in any case
        if length not in lengths:
            voice = find_voice(models.folder, face.voice)  # networks, if the face asks for them
            networks = load_voice(models.folder, models.device) if voice else None
            how = {"fps": fps, "num_frames": length, "seed": seed}
            driven = drive_face(self.photo, face, **how, networks=networks, heard=heard)
            scale = tuple(new / old for new, old in zip(fit.scaled, fit.source, strict=True))
            lengths[length] = driven.placed(scale, fit.offset, fit.size)
        driven = lengths[length]
        return driven.lasting(frames or max(native, len(driven.landmarks)))

    def mask(self, motion: Motion, face: FaceMotion) -> UInt8[np.ndarray, "H W"]:
        """Where the face's motion counts, 255 inside: as painted, or proposed around the head."""
        if motion.mask is not None:
            return motion.mask
        return draw.face_region(face.landmarks.numpy(), face.size)

    def trajectory_notes(self, motion: Motion, num_frames: int) -> tuple[str, ...]:
        """Tracks that ask for more than S2D can say, or that leave the picture."""
        native, config = self.models.settings.num_frames, self.models.s2d.config
        paths = grid_paths(motion, (config.grid,) * 2, num_frames, native=native)
        notes = []
        if bool((paths - paths[:, :1]).abs().max() > self.models.s2d.bin_centres(paths)[-1]):
            most = f"range of {config.flow_range:g} pixels on its {config.grid} pixel grid"
            cut = "and is cut off there: draw a shorter path"
            notes.append(f"a displacement exceeds S2D's {most} {cut}")
        outside = ((paths < 0) | (paths >= config.grid)).any(-1)
        for track in outside.any(1).nonzero()[:, 0].tolist():
            frame = int(outside[track].int().argmax())
            notes.append(f"track {track + 1} leaves the picture in frame {frame}")
        return tuple(notes)


def soft_mask(mask: np.ndarray, softness: float) -> Float[Tensor, "1 1 H W"]:
    """A painted mask [H, W] as a weight in [0, 1] that fades over `softness` pixels at its edge."""
    from scipy.ndimage import gaussian_filter

    spread = softness / 4  # 95 % within the softness
    weight = gaussian_filter(mask.astype(np.float64) / 255, spread, mode="nearest")
    return torch.from_numpy(weight)[None, None].float()


def stacked(layers: Sequence[MotionLayer]) -> tuple[MotionLayer, ...]:
    """Layers whose masks leave those below them what they do not take, so that all add up to 1."""
    stack, rest = [], None
    for layer in reversed(layers):
        mask = layer.mask if rest is None else rest if layer.mask is None else rest * layer.mask
        stack.append(replace(layer, mask=mask))
        if layer.mask is not None:
            rest = 1 - layer.mask if rest is None else rest * (1 - layer.mask)
    return tuple(reversed(stack))


def clip_windows(
    num_frames: int, native: int, settings: ClipSettings | None = None, *, wrap: bool = False
) -> list[Window]:
    """The windows in which a clip is denoised, one if it is no longer than a window (`native`, the
    model's own length); to `wrap`, the clip ends where it began."""
    settings = settings or ClipSettings()
    window = settings.window or native
    if num_frames <= window:
        return periodic_windows(num_frames, num_frames)
    stride, repeat = settings.window_stride, settings.repeat_last_window or settings.as_released
    return periodic_windows(num_frames, window, stride, as_released=repeat, wrap=wrap)


def adapter_controls(
    models: Models, layers: Sequence[MotionLayer], image: Float[Tensor, "1 3 H W"],
    windows: Sequence[Window], trace: Trace | None = None,
) -> list[Control]:  # fmt: skip
    """The adapters at work, none of a layer that counts nowhere; with several windows they warp
    window by window, of one `trace` is called with "trajectory_conditioning" and the like."""
    layers = [layer for layer in layers if layer.mask is None or bool(layer.mask.any())]
    controls = [adapter_control(models, layer, image) for layer in layers]
    if len(windows) > 1:
        return controls
    controls = [windowed(control, windows[0]) for control in controls]
    for layer, control in zip(layers, controls, strict=True) if trace is not None else ():
        trace(f"{layer.kind}_conditioning", control.conditioning)
    return controls


def adapter_control(models: Models, layer: MotionLayer, image: Float[Tensor, "1 3 H W"]) -> Control:
    """A layer's adapter with its features of the first frame, in [-1, 1] (paper section 3.1)."""
    adapter, size = models.adapter(layer.kind), tuple(image.shape[-2:])
    marks = None
    if layer.landmarks is not None:
        points = layer.landmarks.double().cpu().numpy()
        lines = torch.from_numpy(draw.drawn_landmarks(points, size)).to(image.device)  # once
        marks = lambda frames: draw.coloured_landmarks(lines[frames], size)[None]  # noqa: E731
    dtype, order = next(adapter.parameters()).dtype, layer.order
    order = None if order is None else order[None]
    reference = adapter.reference(image.to(dtype), layer.flow[None], marks, order=order)
    mask = None if layer.mask is None else layer.mask.to(image.device)
    return Control(adapter, reference, layer.scale, mask, layer.span)
