"""A small engine for the pad's tests: flow by Gaussian interpolation, clips by splatting.

It is a `mofa_nb.animate.Session` in all but its networks, of which it has none: milliseconds.
"""

import time
from types import SimpleNamespace

import numpy as np
import torch

from mofa_nb.checks import InputError
from mofa_nb.config import Settings
from mofa_nb.motion.fit import fit_image
from mofa_nb.pipeline.chain import ClipStep, clip_motion
from mofa_nb.pipeline.layers import PreparedPicture
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.pipeline.session import Session
from mofa_nb.pipeline.settings import ClipSettings

SETTINGS = Settings(name="toy", num_frames=14, short_side=128, steps=8, fps=8)


class ToyPicture(PreparedPicture):
    """Makes flow without S2D."""

    def trajectory_flow(self, motion, num_frames, **how):
        self.models.calls.append("dense_flow")
        flow = self._spread(motion.paths(num_frames, SETTINGS.num_frames).float())
        brush = 255.0 if motion.brush is None else torch.from_numpy(motion.brush).float()
        return flow * brush / 255.0

    def landmark_flow(self, landmarks):
        self.models.calls.append("face_flow")
        return self._spread(landmarks.transpose(0, 1))

    def trajectory_notes(self, motion, num_frames):
        return ()

    def _spread(self, paths):
        """Flow [T-1, 2, H, W] that follows paths [N, T, 2] and fades away from them."""
        height, width = self.size
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        away = (x - paths[:, 0, 0, None, None]) ** 2 + (y - paths[:, 0, 1, None, None]) ** 2
        spread = 2 * (0.12 * min(height, width)) ** 2
        weight = torch.exp(-away / spread)  # N H W
        share = weight / (weight.sum(0) + 0.05)
        steps = (paths[:, 1:] - paths[:, :1]).permute(1, 2, 0)  # T-1 2 N
        return torch.einsum("tcn,nhw->tchw", steps, share)


class ToySession(Session):
    """See `mofa_nb.animate.Session`.

    Args:
        pause: seconds that each sampling step takes.
        fail_at: the step that fails, or None.
        faces: it can drive faces, found and moved by the real parts.
    """

    def __init__(self, pause: float = 0.0, fail_at: int | None = None, faces: bool = True):
        super().__init__("toy")
        self.pause, self.fail_at, self.calls = pause, fail_at, []
        self._models = SimpleNamespace(
            name="toy", settings=SETTINGS, multiple=32, folder=None, calls=self.calls,
            adapter=lambda kind: faces or _refuse(kind),
        )  # fmt: skip

    def set_image(self, image, short_side=None):
        self.calls.append("set_image")
        pixels, fit = fit_image(image, 32, short_side=short_side or SETTINGS.short_side)
        self._picture = ToyPicture(self.models, image, pixels, fit, None)
        return pixels

    def animate_steps(self, motion, *, preview_every=1, **settings):
        has_face = motion.face is not None
        used = ClipSettings.of(SETTINGS, has_face, settings)
        moved = clip_motion(self.picture, self.fitted(motion), used)
        flow = moved.flow * used.trajectory_scale
        frames = self.warp_preview(flow).astype(np.float32)
        noise = np.random.default_rng(used.seed).normal(0, 64, frames.shape)
        settings = used.to_json(has_face) | {"num_frames": moved.num_frames}
        begin = time.monotonic()
        for index in range(1, used.steps + 1):
            time.sleep(self.pause)
            if index == self.fail_at:
                raise RuntimeError("the sampler ran out of luck")
            self.calls.append("step")
            now = np.clip(frames + noise * (1 - index / used.steps), 0, 255).astype(np.uint8)
            clip = None
            if index == used.steps:
                seconds = {"sampling": time.monotonic() - begin}
                parts = flow, self.image, motion, settings, seconds, "toy", "0" * 8, self.fit
                clip = Clip(now, *parts, sound=moved.face and moved.face.sound)
            yield ClipStep(index, used.steps, now if index % preview_every == 0 else None, clip)


def _refuse(kind):
    raise InputError(f"the toy model has no {kind} adapter")
