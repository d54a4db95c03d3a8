"""A model and a picture, kept ready: dense flow, warp previews and clips for any motion on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.drive import FPS
from mofa_nb.faces.face_motion import FaceMotion
from mofa_nb.flow.dense import grid_features
from mofa_nb.flow.sparse import BrushedHints
from mofa_nb.flow.splat import splat_plan
from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.models.load import load_models
from mofa_nb.models.models import Models
from mofa_nb.motion.fit import Fit, fit_image, fit_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.controls import (
    Steering,
    clip_controls,
    clip_settings,
    clip_windows,
    given_settings,
    photo_detail,
)
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.pipeline.prepared import FittedPicture
from mofa_nb.sampling.denoise import (
    Start,
    Step,
    Trace,
    decode,
    denoise_windows,
    encode_start,
    initial_noise,
    to_pixels,
)
from mofa_nb.sampling.windows import Window

PREVIEW_CHUNK = 16  # frames warped at once
Decoded = Callable[[Iterator[Tensor]], Iterator[Tensor]]  # parts of a clip as they come


@dataclass(frozen=True)
class ClipStep:
    """Progress of one clip.

    Attributes:
        index, total: parts done and to do; a part is a denoising step, or in a clip longer than
            the model's own, one window of it.
        preview: the clean frames as predicted now, when asked for.
        clip: the finished clip, on the last one only.
    """

    index: int
    total: int
    preview: UInt8[np.ndarray, "T H W 3"] | None = None
    clip: Clip | None = None


class Session:
    """Holds a loaded model and one fitted picture.

    Args:
        model: "mini", "release", a model folder, or loaded `Models`. Loaded at first use.
        device: where to load it; a GPU if there is one by default.
    """

    def __init__(self, model: str | Path | Models = "mini", device: str | None = None):
        self._model, self._device = model, device
        self._models = model if isinstance(model, Models) else None
        self._picture: FittedPicture | None = None
        self.seconds: dict[str, float] = {}

    @property
    def models(self) -> Models:
        """The loaded model."""
        if self._models is None:
            with self._timed("load"):
                self._models = load_models(self._model, self._device)
        return self._models

    @property
    def name(self) -> str:
        """The model's name."""
        return self.models.name

    @property
    def num_frames(self) -> int:
        """Native clip length."""
        return self.models.settings.num_frames

    @property
    def defaults(self) -> dict:
        """Settings used when nothing else is said, and the grid of image sizes."""
        settings = self.models.settings
        names = ("steps", "control_scale", "fps", "seed", "short_side", "num_frames")
        values = {name: getattr(settings, name) for name in names}
        return values | {
            "face_scale": settings.landmark_scale,
            "face_short_side": settings.face_short_side or settings.short_side,
            "multiple": self.models.multiple,
        }

    @property
    def picture(self) -> FittedPicture:
        """The fitted picture; InputError before there is one."""
        if self._picture is None:
            raise InputError("no picture yet: call set_image first")
        return self._picture

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The fitted picture's pixels."""
        return self.picture.image

    @property
    def fit(self) -> Fit:
        """How the picture was scaled and cropped."""
        return self.picture.fit

    def set_image(
        self, image: object, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Fit a picture to the model's grid and encode it for S2D; returns the fitted pixels.

        Args:
            image: anything `read_image` takes.
            short_side: the shorter side after scaling; the model's own by default.
            size: (width, height) instead.
        """
        short = short_side or self.models.settings.short_side
        photo = read_image(image)
        pixels, fit = fit_image(photo, self.models.multiple, short_side=short, size=size)
        with self._timed("image"):
            features = grid_features(self.models.s2d, to_unit(pixels))
        self._picture = FittedPicture(self.models, photo, pixels, fit, features)
        return pixels

    def hints(self, motion: Motion, num_frames: int | None = None) -> BrushedHints:
        """The hints of a motion's tracks and pins on the S2D grid."""
        return self.picture.hints(motion, num_frames or self.num_frames)

    def dense_flow(
        self, motion: Motion, num_frames: int | None = None
    ) -> Float[Tensor, "steps 2 H W"]:
        """Dense flow of tracks and pins, pixels of the fitted image (fast: features are kept)."""
        return self.picture.drag_flow(motion, num_frames or self.num_frames)

    def face_motion(
        self,
        motion: Motion,
        num_frames: int | None = None,
        *,
        fps: float | None = None,
        seed: int | None = None,
    ) -> FaceMotion:
        """What the motion's face follows, in pixels of the fitted image.

        It is kept as long as the same source is asked for, so other edits cost nothing.

        Args:
            num_frames: by default as long as the source, and at least the model's own length.
            fps: at which a source is read off; by default the model's, and at least 12.5.
            seed: of a speaking head's blinks and sway.
        Raises:
            InputError: no face in the motion or the picture, or a source that cannot be used.
        """
        own = self.models.settings
        seed = own.seed if seed is None else seed
        return self.picture.face_motion(motion, num_frames, fps or max(own.fps, FPS), seed)

    def face_flow(
        self, motion: Motion, num_frames: int | None = None, *, seed: int | None = None
    ) -> Float[Tensor, "steps 2 H W"]:
        """Dense flow of the face, by S2D from its landmarks (paper: landmark branch)."""
        face = self.face_motion(motion, num_frames, seed=seed)
        return self.picture.landmark_flow(face.landmarks)

    def face_mask(
        self, motion: Motion, num_frames: int | None = None, *, seed: int | None = None
    ) -> UInt8[np.ndarray, "H W"]:
        """Where the face's motion counts, 255 inside: as painted, or proposed around the head."""
        return self.picture.mask(motion, self.face_motion(motion, num_frames, seed=seed))

    def blended_flow(
        self,
        motion: Motion,
        num_frames: int | None = None,
        *,
        mask_softness: float = 0.0,
        seed: int | None = None,
    ) -> Float[Tensor, "steps 2 H W"]:
        """The face's flow inside its mask and the tracks' outside, for looking at."""
        chosen = clip_settings(
            self.models.settings, motion.face is not None,
            num_frames=num_frames, mask_softness=mask_softness, seed=seed,
        )  # fmt: skip
        return self.picture.steering(motion, chosen).flow

    def warp_preview(self, flow: Float[Tensor, "steps 2 H W"]) -> UInt8[np.ndarray, "T H W 3"]:
        """The picture splatted along the flow, holes filled with the still picture, dimmed."""
        still, frames = to_unit(self.image)[None], [self.image[None]]
        for part in flow.cpu().split(PREVIEW_CHUNK):
            plan = splat_plan(part[None])
            covered = plan.coverage()[0].clamp(0, 1)
            moved = plan.apply(still)[0] + (1 - covered) * 0.35 * still
            frames.append(to_uint8(moved))
        return np.concatenate(frames)

    def animate_steps(
        self,
        motion: Motion,
        *,
        flow: Float[Tensor, "steps 2 H W"] | None = None,
        preview_every: int = 0,
        trace: Trace | None = None,
        **settings,
    ) -> Iterator[ClipStep]:
        """Make a clip step by step; the last `ClipStep` carries it. Stop iterating to cancel.

        Args:
            flow: dense flow that replaces what S2D would make of tracks and pins.
            preview_every: steps between previews, 0 for none.
            trace: see `denoise_windows`.
            settings: see `clip_settings`.
        Raises:
            InputError: a setting out of range, a face that cannot be used, or a model without
                the adapter that the motion needs.
        """
        chosen = given_settings(self.models.settings, motion.face is not None, settings)
        self.seconds = {k: v for k, v in self.seconds.items() if k in ("load", "image")}
        with self._timed("flow"):
            steering = self.picture.steering(motion, chosen, flow)
        chosen["num_frames"] = len(steering.still) + 1
        windows = clip_windows(chosen["num_frames"], self.num_frames, chosen)
        with self._timed("condition"), torch.no_grad():
            start, noise = self._start(chosen, trace)
            controls = clip_controls(self.models, steering, start.image, chosen, windows, trace)
            photo = partial(photo_detail, self.models, steering, start.image, chosen)
        clock, done, total = time.monotonic(), 0, chosen["steps"] * len(windows)
        for part in denoise_windows(
            self.models, start, controls, noise,
            steps=chosen["steps"], guidance=chosen["guidance"], windows=windows,
            fade=chosen.get("window_fade", False), trace=trace,
        ):  # fmt: skip
            done += 1
            if done < total:
                yield ClipStep(done, total, self._preview(part, preview_every, photo))
        self.seconds["denoise"] = time.monotonic() - clock
        latents = part.latents
        del part, noise, controls  # a long clip's would be alive while it is decoded
        with self._timed("decode"):
            frames = self._frames(latents, photo)
        clip = self._clip(frames, motion, steering, chosen)
        yield ClipStep(total, total, frames if preview_every else None, clip)

    def _start(self, chosen: dict, trace: Trace | None) -> tuple[Start, Tensor]:
        """The encoded picture, and latent noise."""
        generator = torch.Generator().manual_seed(chosen["seed"])
        size, frames = self.picture.size, chosen["num_frames"]
        image_noise, noise = initial_noise(self.models, size, frames, generator)
        unit = to_unit(self.image)[None].to(self.models.device)
        start = encode_start(self.models, unit, image_noise)
        if trace is not None:
            trace("start", start)
        return start, noise

    def _clip(self, frames: np.ndarray, motion: Motion, steering: Steering, chosen: dict) -> Clip:
        face, fit = steering.face, self.fit
        return Clip(
            frames, steering.flow, self.image, motion, chosen | {"size": list(fit.size)},
            dict(self.seconds), self.name, self.models.hash, fit,
            notes=(*fit.notes, *fit_motion(motion, fit)[1], *steering.notes),
            sound=face and face.sound, landmarks=face and face.landmarks,
        )  # fmt: skip

    def _preview(
        self, part: Step | Window, every: int, photo: Decoded
    ) -> UInt8[np.ndarray, "T H W 3"] | None:
        due = isinstance(part, Step) and every and part.index % every == 0
        return self._frames(part.denoised, photo) if due else None

    def _frames(self, latents: Tensor, photo: Decoded) -> UInt8[np.ndarray, "T H W 3"]:
        parts = map(to_pixels, photo(decode(self.models, latents)))
        return torch.cat(list(parts)).numpy()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - begin
