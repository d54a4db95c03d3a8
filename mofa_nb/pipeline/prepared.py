"""A picture on a model's grid, and what a motion makes of it: hints, flows, face and mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.draw import landmark_hints
from mofa_nb.faces.drive import drive_face
from mofa_nb.faces.face_motion import FaceMotion
from mofa_nb.faces.masks import face_region
from mofa_nb.flow.dense import clip_flow, grid_features
from mofa_nb.flow.s2d import S2D, ImageFeatures
from mofa_nb.flow.sparse import BrushedHints, grid_paths, motion_hints
from mofa_nb.media.images import to_unit
from mofa_nb.models.models import Models
from mofa_nb.motion.fit import Fit, fit_motion
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.controls import Steering, soft_mask


@dataclass(frozen=True)
class FittedPicture:
    """One picture, ready for any motion on it.

    Attributes:
        photo: as it was read; faces are looked for in it.
        image: scaled and cropped as `fit` says.
        features: S2D's of the image, computed once.
    """

    models: Models
    photo: UInt8[np.ndarray, "H W 3"]
    image: UInt8[np.ndarray, "h w 3"]
    fit: Fit
    features: ImageFeatures
    kept: dict = field(default_factory=dict)  # the last face's motion, by what it depends on

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[:2]

    @cached_property
    def face_features(self) -> ImageFeatures:
        """The same of the network that makes a face's flow."""
        s2d = self.models.landmark_s2d
        return self.features if s2d is self.models.s2d else grid_features(s2d, to_unit(self.image))

    def hints(self, motion: Motion, num_frames: int, part: list[int] | None = None) -> BrushedHints:
        """The hints of tracks and pins on the S2D grid.

        Args:
            part: only these frames of the clip, 0 first.
        """
        fitted, native = fit_motion(motion, self.fit)[0], self.models.settings.num_frames
        return motion_hints(fitted, self._grid, num_frames, native=native, frames=part)

    def drag_flow(self, motion: Motion, num_frames: int) -> Float[Tensor, "steps 2 H W"]:
        """Dense flow of tracks and pins."""
        hints = lambda part: self.hints(motion, num_frames, part)  # noqa: E731
        return self._flow(self.models.s2d, self.features, hints, num_frames)

    def landmark_flow(self, landmarks: Float[Tensor, "T 68 2"]) -> Float[Tensor, "steps 2 H W"]:
        """Dense flow of a face, from its landmarks' displacements."""
        s2d = self.models.landmark_s2d
        grid = (s2d.config.grid,) * 2
        hints = lambda part: landmark_hints(landmarks[part], self.size, grid)  # noqa: E731
        return self._flow(s2d, self.face_features, hints, len(landmarks))

    def face_motion(
        self, motion: Motion, num_frames: int | None, fps: float, seed: int
    ) -> FaceMotion:
        """What the motion's face follows; see `Session.face_motion`."""
        face, fit, native = motion.face, self.fit, self.models.settings.num_frames
        if face is None:
            raise InputError("the motion has no face that follows anything: give it one")
        file = None if face.source is None else Path(face.source)
        written = file.stat().st_mtime_ns if file and file.exists() else 0
        key = face, fps, seed if face.speaks else None, written
        if key not in self.kept:
            self.kept.clear()
        lengths = self.kept.setdefault(key, {})
        length = num_frames if file else num_frames or native
        length = None if face.speaks else length  # a voice is heard to its end in any case
        if length not in lengths:
            driven = drive_face(
                self.photo, file or face.expression, fps=fps, num_frames=length,
                strengths=face.strengths, choose=face.choose, seed=seed,
            )  # fmt: skip
            scale = tuple(new / old for new, old in zip(fit.scaled, fit.source, strict=True))
            lengths[length] = driven.placed(scale, fit.offset, fit.size)
        driven = lengths[length]
        return driven.lasting(num_frames or max(native, len(driven.landmarks)))

    def mask(self, motion: Motion, face: FaceMotion) -> UInt8[np.ndarray, "H W"]:
        """Where the face's motion counts, 255 inside: as painted, or proposed around the head."""
        if motion.mask is not None:
            return fit_motion(motion, self.fit)[0].mask
        return face_region(face.landmarks.numpy(), face.size)

    def steering(
        self,
        motion: Motion,
        chosen: Mapping[str, Any],
        flow: Float[Tensor, "steps 2 H W"] | None = None,
    ) -> Steering:
        """All that moves the picture.

        Args:
            chosen: see `clip_settings`.
            flow: instead of what S2D makes of tracks and pins.
        Raises:
            InputError: a mask without a face, an adapter that the model lacks, a bad flow.
        """
        if motion.mask is not None and motion.face is None:
            raise InputError("there is a face mask but no face to follow: add one, or no mask")
        if flow is not None:
            flow = torch.as_tensor(flow, dtype=torch.float32, device="cpu")
        drawn = motion.is_drawn or (flow is not None and bool(flow.any()))
        for kind, needed in (("trajectory", drawn), ("landmark", motion.face is not None)):
            if needed:
                self.models.adapter(kind)
        face, face_flow, mask = None, None, None
        frames, notes = chosen["num_frames"], []
        if motion.face is not None:
            face = self.face_motion(motion, frames, chosen["fps"], chosen["seed"])
            frames, face_flow = len(face.landmarks), self.landmark_flow(face.landmarks)
            notes += face.notes
            if drawn or motion.mask is not None:
                mask = soft_mask(self.mask(motion, face), chosen["mask_softness"])
        still = torch.zeros(1, 2, *self.size).expand(frames - 1, -1, -1, -1)
        if flow is not None and flow.shape != still.shape:
            raise InputError(f"the flow must be {list(still.shape)}, but {list(flow.shape)} came")
        if drawn and flow is None:
            flow = self.drag_flow(motion, frames)
            notes += self._drag_notes(motion, frames)
        if not drawn and face is None:
            notes.append("the motion is empty, so the clip runs free")
        return Steering(still, flow if drawn else None, face, face_flow, mask, tuple(notes))

    def _drag_notes(self, motion: Motion, num_frames: int) -> list[str]:
        """Tracks that ask for more than S2D can say, or that leave the picture."""
        native, config = self.models.settings.num_frames, self.models.s2d.config
        fitted = fit_motion(motion, self.fit)[0]
        paths = grid_paths(fitted, self._grid, num_frames, native=native)
        notes = []
        bins = self.models.s2d.bin_centres(paths)
        if bool((paths - paths[:, :1]).abs().max() > bins[-1]):
            notes.append(
                f"a displacement exceeds S2D's range of {config.flow_range:g} pixels on its "
                f"{config.grid} pixel grid and is cut off there: draw a shorter path"
            )
        outside = ((paths < 0) | (paths >= config.grid)).any(-1)
        for track in outside.any(1).nonzero()[:, 0].tolist():
            frame = int(outside[track].int().argmax())
            notes.append(f"track {track + 1} leaves the picture in frame {frame}")
        return notes

    def _flow(
        self, s2d: S2D, features: ImageFeatures, hints: Callable, num_frames: int
    ) -> Float[Tensor, "steps 2 H W"]:
        chunk = self.models.settings.num_frames - 1  # as many flows as a clip of native length has
        return clip_flow(s2d, features, hints, num_frames, self.size, chunk=chunk)

    @property
    def _grid(self) -> tuple[int, int]:
        return (self.models.s2d.config.grid,) * 2
