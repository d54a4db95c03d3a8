"""A model and a picture, kept ready: dense flow, warp previews and clips for any motion on it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mofa_nb.checks import InputError
from mofa_nb.faces.drive import FPS, FaceMotion
from mofa_nb.faces.voice import Progress
from mofa_nb.flow.dense import grid_features
from mofa_nb.flow.files import fitted_flow, read_flow
from mofa_nb.flow.sparse import BrushedHints
from mofa_nb.flow.warp import depth_order, ordered_splat
from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.models.load import Report, load_models
from mofa_nb.models.models import Models
from mofa_nb.motion import Fit, Motion, fit_image, fit_motion
from mofa_nb.pipeline.chain import ClipStep, animate_picture, clip_motion, timed
from mofa_nb.pipeline.layers import Flow, PreparedPicture
from mofa_nb.pipeline.settings import ClipSettings

PREVIEW_CHUNK = 16  # frames warped at once
CHAIN = ("flow", "preview_every", "trace")  # what `animate_picture` takes besides settings
Film = UInt8[np.ndarray, "T H W 3"]
Mask = UInt8[np.ndarray, "H W"]


class Session:
    """Holds one fitted picture and a model: "mini", "release", a folder, or loaded `Models`.

    It is loaded at first use, on a GPU if there is one by default; `parts` are `base` and
    `few_step` of a released model, see `load_models`."""

    def __init__(
        self, model: str | Path | Models = "mini", device: str | None = None, **parts: str | None
    ):
        self._model, self._device, self._parts = model, device, parts
        self._models = model if isinstance(model, Models) else None
        self._picture: PreparedPicture | None = None
        self.seconds: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Session({self._model!r}, {self._device!r}, {self._parts!r})"

    @property
    def models(self) -> Models:
        return self.load()

    def load(self, report: Report | None = None) -> Models:
        """The models, loaded if they are not; `report` as for `load_models`."""
        if self._models is None:
            with timed(self.seconds, "load"):
                self._models = load_models(self._model, self._device, report=report, **self._parts)
        return self._models

    @property
    def name(self) -> str:
        return self.models.name

    @property
    def num_frames(self) -> int:
        return self.models.settings.num_frames

    @property
    def defaults(self) -> dict:
        """Settings used when nothing else is said, and the grid of image sizes."""
        settings = self.models.settings
        names = "steps trajectory_scale landmark_scale fps seed short_side num_frames".split()
        own = {name: getattr(settings, name) for name in names}
        face_side = settings.face_short_side or settings.short_side
        return own | {"face_short_side": face_side, "multiple": self.models.multiple}

    @property
    def picture(self) -> PreparedPicture:
        """The fitted picture; InputError before there is one."""
        if self._picture is None:
            raise InputError("no picture yet: call set_image first")
        return self._picture

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        return self.picture.image

    @property
    def fit(self) -> Fit:
        return self.picture.fit

    def set_image(
        self, image: object, short_side: int | None = None, size: tuple[int, int] | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Fit a picture (`read_image`) to the model's grid and encode it for S2D; returns its
        pixels, of a shorter side (by default the model's own) or (width, height)."""
        photo, short = read_image(image), short_side or self.models.settings.short_side
        pixels, fit = fit_image(photo, self.models.multiple, short_side=short, size=size)
        with timed(self.seconds, "image"):
            features = grid_features(self.models.s2d, to_unit(pixels))
        self._picture = PreparedPicture(self.models, photo, pixels, fit, features)
        return pixels

    def fitted(self, motion: Motion) -> Motion:
        return fit_motion(motion, self.fit)[0]

    def hints(self, motion: Motion, num_frames: int | None = None) -> BrushedHints:
        """The hints of a motion's tracks and pins on the S2D grid."""
        return self.picture.hints(self.fitted(motion), num_frames or self.num_frames)

    def dense_flow(self, motion: Motion, num_frames: int | None = None) -> Flow:
        """Dense flow of tracks and pins, pixels of the fitted image (fast: features are kept)."""
        return self.picture.trajectory_flow(self.fitted(motion), num_frames or self.num_frames)

    def face_motion(self, motion: Motion, num_frames: int | None = None, **how) -> FaceMotion:
        """What the motion's face follows: `PreparedPicture.face_motion` with the model's own
        `fps` (at least 12.5) and `seed`, where none are given."""
        own, how = self.models.settings, {name: v for name, v in how.items() if v is not None}
        how = {"fps": max(own.fps, FPS), "seed": own.seed} | how
        return self.picture.face_motion(motion, num_frames, **how)

    def face_flow(self, motion: Motion, num_frames: int | None = None, **how) -> Flow:
        """Dense flow of the face, by S2D from its landmarks (paper: landmark branch)."""
        return self.picture.landmark_flow(self.face_motion(motion, num_frames, **how).landmarks)

    def face_mask(self, motion: Motion, num_frames: int | None = None, **how) -> Mask:
        """Where the face's motion counts, 255 inside: as painted, or proposed around the head."""
        face = self.face_motion(motion, num_frames, **how)
        return self.picture.mask(self.fitted(motion), face)

    def blended_flow(self, motion: Motion, num_frames: int | None = None, **settings) -> Flow:
        """The face's flow inside its mask and the tracks' outside, for looking at."""
        given = settings | {"num_frames": num_frames}
        used = ClipSettings.of(self.models.settings, motion.face is not None, given)
        return clip_motion(self.picture, self.fitted(motion), used).flow

    def warp_preview(self, flow: Flow, motion: Motion | None = None) -> Film:
        """The picture splatted along the flow, as deep as its motion says; holes show it dimmed."""
        still, frames = to_unit(self.image)[None], [self.image[None]]
        order = motion and depth_order(self.fitted(motion), flow.cpu(), self.num_frames)
        for part in flow.cpu().split(PREVIEW_CHUNK):
            plan = ordered_splat(part[None], None if order is None else order[None])
            covered = plan.coverage()[0].clamp(0, 1)
            frames.append(to_uint8(plan.apply(still)[0] + (1 - covered) * 0.35 * still))
        return np.concatenate(frames)

    def animate_steps(
        self, motion: Motion, *, heard: Progress | None = None, **settings
    ) -> Iterator[ClipStep]:
        """Make a clip step by step: `animate_picture` with its `flow` (or a file of it),
        `preview_every` and `trace`, and `ClipSettings` (None is the model's own); `heard` is called
        with the share of a voice that has been heard. InputError: a setting out of range, a face
        that cannot be used, or a model without the adapter that the motion needs."""
        inputs = {name: settings.pop(name) for name in CHAIN if name in settings}
        if filed := isinstance(inputs.get("flow"), str | Path):
            inputs["flow"] = read_flow(inputs["flow"])
            if len(inputs["flow"]) > 1 and "seconds" not in settings:
                settings = {"num_frames": len(inputs["flow"]) + 1} | settings
        used = ClipSettings.of(self.models.settings, motion.face is not None, settings)
        if filed:
            inputs["flow"] = fitted_flow(inputs["flow"], self.fit, used.num_frames)
        self.seconds = {k: v for k, v in self.seconds.items() if k in ("load", "image")}
        if heard is not None and motion.face is not None and motion.face.speaks:
            self.picture.face_motion(motion, used.num_frames, used.fps, used.seed, heard)
        return animate_picture(self.picture, motion, used, seconds=self.seconds, **inputs)
