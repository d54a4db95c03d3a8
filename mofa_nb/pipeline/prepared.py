"""A picture on a model's grid, and what a motion makes of it: hints, flows, face and mask."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.draw import face_region, landmark_hints
from mofa_nb.faces.drive import FaceMotion, drive_face
from mofa_nb.faces.voice import Progress
from mofa_nb.flow.dense import clip_flow, grid_features
from mofa_nb.flow.order import depth_order
from mofa_nb.flow.s2d import S2D, ImageFeatures
from mofa_nb.flow.sparse import BrushedHints, grid_paths, motion_hints
from mofa_nb.media.images import to_unit
from mofa_nb.models.checkpoints import find_voice
from mofa_nb.models.load import load_voice
from mofa_nb.models.models import Models
from mofa_nb.motion.fit import Fit
from mofa_nb.motion.motion import Motion
from mofa_nb.pipeline.controls import Layer, soft_mask

KEPT = 8  # faces' motions
Flow = Float[Tensor, "steps 2 H W"]
Mine = Bool[np.ndarray, "H W"] | bool


@dataclass(frozen=True)
class PreparedPicture:
    """One picture, ready for any motion on it; motions are given in its pixels (`fit_motion`)."""

    models: Models
    photo: UInt8[np.ndarray, "H W 3"]  # as it was read; faces are looked for in it
    image: UInt8[np.ndarray, "h w 3"]  # scaled and cropped as `fit` says
    fit: Fit
    features: ImageFeatures  # S2D's of the image, computed once
    faces: dict = field(default_factory=dict)  # the last face's motion, by what it depends on

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
        """The hints of tracks and pins on the S2D grid, of some frames (0 first) or all."""
        native = self.models.settings.num_frames
        return motion_hints(motion, self._grid, num_frames, native=native, frames=part)

    def trajectory_flow(self, motion: Motion, num_frames: int) -> Flow:
        hints = lambda part: self.hints(motion, num_frames, part)  # noqa: E731
        return self._flow(self.models.s2d, self.features, hints, num_frames)

    def landmark_flow(self, landmarks: Float[Tensor, "T 68 2"]) -> Flow:
        """Dense flow of a face, from its landmarks' displacements."""
        s2d = self.models.landmark_s2d
        grid = (s2d.config.grid,) * 2
        hints = lambda part: landmark_hints(landmarks[part], self.size, grid)  # noqa: E731
        return self._flow(s2d, self.face_features, hints, len(landmarks))

    def face_motion(
        self,
        motion: Motion,
        frames: int | None,
        fps: float,
        seed: int,
        heard: Progress | None = None,
    ) -> FaceMotion:
        """What the motion's face follows, in pixels of the image; kept while its source stays.

        Args:
            frames: None: as many as the source has, and at least the model's own length.
            fps: at which a source is read off.
            seed: of a speaking head's blinks and sway.
        Raises:
            InputError: no face in the motion or the picture, or a source that cannot be used.
        """
        face, fit, models = motion.face, self.fit, self.models
        native = models.settings.num_frames
        if face is None:
            raise InputError("the motion has no face that follows anything: give it one")
        file = None if face.source is None else Path(face.source)
        written = file.stat().st_mtime_ns if file and file.exists() else 0
        key = face, fps, seed if face.speaks else None, written
        if key not in self.faces and len(self.faces) >= KEPT:
            self.faces.clear()
        lengths = self.faces.setdefault(key, {})
        length = frames if file else frames or native
        length = None if face.speaks else length  # a voice is heard to its end in any case
        if length not in lengths:
            heard_by = find_voice(models.folder, face.voice)  # networks, if the face asks for them
            networks = load_voice(models.folder, models.device) if heard_by else None
            driven = drive_face(
                self.photo, face, fps=fps, num_frames=length, seed=seed, networks=networks,
                heard=heard,
            )  # fmt: skip
            scale = tuple(new / old for new, old in zip(fit.scaled, fit.source, strict=True))
            lengths[length] = driven.placed(scale, fit.offset, fit.size)
        driven = lengths[length]
        return driven.lasting(frames or max(native, len(driven.landmarks)))

    def mask(self, motion: Motion, face: FaceMotion) -> UInt8[np.ndarray, "H W"]:
        """Where the face's motion counts, 255 inside: as painted, or proposed around the head."""
        if motion.mask is not None:
            return motion.mask
        return face_region(face.landmarks.numpy(), face.size)

    def trajectory_layer(self, motion: Motion, num_frames: int, flow: Flow | None = None) -> Layer:
        """What tracks and pins do; or a flow that is given instead."""
        notes = () if flow is not None else self._trajectory_notes(motion, num_frames)
        flow = self.trajectory_flow(motion, num_frames) if flow is None else flow
        return Layer("trajectory", flow, order=self.order(motion, flow), notes=notes)

    def order(self, motion: Motion, flow: Flow) -> Float[Tensor, "1 H W"] | None:
        """What is in front where things meet, as tracks say; None when none does."""
        return depth_order(motion, flow, self.models.settings.num_frames)

    def landmark_layer(
        self, motion: Motion, face: FaceMotion, softness: float, over: bool, mine: Mine
    ) -> Layer:
        """What a face does: inside its mask where it lies over tracks or a face, else everywhere;
        `mine` is what is nearer to it than to other faces."""
        mask = None
        if over or motion.mask is not None:
            mask = soft_mask(self.mask(motion, face) * np.uint8(mine), softness)
        flow = self.landmark_flow(face.landmarks)
        return Layer("landmark", flow, mask, face.landmarks, notes=face.notes)

    def _trajectory_notes(self, motion: Motion, num_frames: int) -> tuple[str, ...]:
        """Tracks that ask for more than S2D can say, or that leave the picture."""
        native, config = self.models.settings.num_frames, self.models.s2d.config
        paths = grid_paths(motion, self._grid, num_frames, native=native)
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

    def _flow(self, s2d: S2D, features: ImageFeatures, hints: Callable, num_frames: int) -> Flow:
        chunk = self.models.settings.num_frames - 1  # as many flows as a clip of native length has
        if self.models.device.type != "cpu":
            chunk = min(chunk, 8)  # 24 take more than a denoising step
        return clip_flow(s2d, features, hints, num_frames, self.size, chunk=chunk)

    @property
    def _grid(self) -> tuple[int, int]:
        return (self.models.s2d.config.grid,) * 2
