"""What a face follows: landmarks frame by frame, with the sound that goes with them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.faces.detect import Face, is_cut


@dataclass(frozen=True)
class FaceMotion:
    """Landmarks that a portrait is to follow.

    landmarks: pixels of the portrait; frame 0 is the portrait itself (a landmark file is taken as
    it is). fps: frames per second. size: the portrait's (width, height). face: its own, None for
    landmark files. sound: file whose sound belongs to the clip. notes: one sentence each."""

    landmarks: Float[Tensor, "T 68 2"]
    fps: float
    size: tuple[int, int]
    face: Face | None = None
    sound: Path | None = None
    notes: tuple[str, ...] = ()

    def placed(
        self, scale: tuple[float, float], offset: tuple[int, int], size: tuple[int, int]
    ) -> "FaceMotion":
        """The same on the portrait scaled by `scale` and then cropped to `size` from `offset`.

        InputError: the crop cuts the face."""
        factor, corner = np.array(scale), np.array(offset)
        landmarks = self.landmarks * torch.tensor(scale) - torch.tensor(offset)
        face = self.face
        if face is not None:
            flat = face.points[:, :2] * factor - corner
            points = np.concatenate([flat, face.points[:, 2:] * factor.mean()], axis=1)
            face = replace(face, points=points, size=size)
            if is_cut(face):
                wrong = f"cropped to {size[0]}x{size[1]} pixels the face is cut"
                raise InputError(f"{wrong}: choose a size (--size) of the picture's own shape")
        return replace(self, landmarks=landmarks, size=size, face=face)

    def lasting(self, num_frames: int) -> "FaceMotion":
        """Cut to so many frames, or resting at the end until then (a note says so)."""
        missing = num_frames - len(self.landmarks)
        if missing <= 0:
            return replace(self, landmarks=self.landmarks[:num_frames])
        rest = self.landmarks[-1:].expand(missing, -1, -1)
        ends = f"what drives the face ends after {-missing + num_frames} of {num_frames} frames"
        notes = (*self.notes, f"{ends}; it rests from there on")
        return replace(self, landmarks=torch.cat([self.landmarks, rest]), notes=notes)
