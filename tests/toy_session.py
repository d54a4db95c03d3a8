"""A small real engine for the pad's tests: flow by Gaussian interpolation, clips by splatting.

It keeps the protocol of `mofa_nb.animate.Session` without any network, in milliseconds.
"""

import time
from types import SimpleNamespace

import numpy as np
import torch

from mofa_nb.checks import InputError
from mofa_nb.faces.draw import face_region
from mofa_nb.faces.drive import FPS, drive_face
from mofa_nb.flow.splat import splat_plan
from mofa_nb.motion.fit import fit_image, fit_motion
from mofa_nb.pipeline.outputs import Clip


class ToySession:
    """See `mofa_nb.animate.Session`.

    Args:
        pause: seconds that each sampling step takes.
        fail_at: the step that fails, or None.
        faces: it can drive faces, found and moved by the real parts.
    """

    name = "toy"
    num_frames = 14

    def __init__(self, pause: float = 0.0, fail_at: int | None = None, faces: bool = True):
        self.pause, self.fail_at = pause, fail_at
        self.models = SimpleNamespace(adapter=lambda kind: faces or _refuse(kind))
        self.defaults = dict(
            steps=8,
            trajectory_scale=0.6,
            landmark_scale=1.0,
            fps=8,
            seed=42,
            short_side=128,
            multiple=32,
        )
        self.calls: list[str] = []

    def set_image(self, image, short_side=None):
        self.calls.append("set_image")
        self.found = {}
        self.photo = image
        self.image, self.fit = fit_image(image, 32, short_side=short_side or 128)
        return self.image

    def dense_flow(self, motion, num_frames=None):
        self.calls.append("dense_flow")
        fitted, _ = fit_motion(motion, self.fit)
        paths = fitted.paths(num_frames or self.num_frames, self.num_frames).float()
        flow = self._spread(paths)
        if fitted.brush is not None:
            flow = flow * torch.from_numpy(fitted.brush / 255.0).float()
        return flow

    def face_motion(self, motion, num_frames=None, seed=None):
        face, frames = motion.face, num_frames
        if (face, frames, seed) in self.found:
            return self.found[face, frames, seed]
        length = None if face.source else frames or self.num_frames
        found = drive_face(self.photo, face, seed=seed or 0, num_frames=length)
        height, width = self.photo.shape[:2]
        scale = self.fit.scaled[0] / width, self.fit.scaled[1] / height
        found = found.placed(scale, self.fit.offset, self.fit.size)
        found = found.lasting(frames or max(self.num_frames, len(found.landmarks)))
        self.found[face, frames, seed] = found
        return found

    def face_mask(self, motion, num_frames=None, seed=None):
        return face_region(
            self.face_motion(motion, num_frames, seed).landmarks.numpy(), self.fit.size
        )

    def face_flow(self, motion, num_frames=None, seed=None):
        self.calls.append("face_flow")
        return self._spread(self.face_motion(motion, num_frames, seed).landmarks.transpose(0, 1))

    def blended_flow(self, motion, num_frames=None, seed=None):
        fitted, _ = fit_motion(motion, self.fit)
        mask = self.face_mask(motion, num_frames, seed) if fitted.mask is None else fitted.mask
        share = torch.from_numpy(mask / 255.0).float()
        tracks = self.dense_flow(motion, num_frames)
        return share * self.face_flow(motion, num_frames, seed) + (1 - share) * tracks

    def _spread(self, paths):
        """Flow [T-1, 2, H, W] that follows paths [N, T, 2] and fades away from them."""
        height, width = self.image.shape[:2]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        away = (x - paths[:, 0, 0, None, None]) ** 2 + (y - paths[:, 0, 1, None, None]) ** 2
        spread = 2 * (0.12 * min(height, width)) ** 2
        weight = torch.exp(-away / spread)  # N H W
        share = weight / (weight.sum(0) + 0.05)
        steps = (paths[:, 1:] - paths[:, :1]).permute(1, 2, 0)  # T-1 2 N
        return torch.einsum("tcn,nhw->tchw", steps, share)

    def warp_preview(self, flow, motion=None):
        still = torch.from_numpy(self.image).permute(2, 0, 1)[None].float()
        plan = splat_plan(flow[None])
        holes = 1 - plan.coverage()[0].clamp(0, 1)
        frames = torch.cat([still, plan.apply(still)[0] + 0.35 * holes * still])
        return frames.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    def animate_steps(
        self,
        motion,
        *,
        steps=8,
        seed=42,
        trajectory_scale=0.6,
        landmark_scale=1.0,
        num_frames=14,
        preview_every=1,
    ):
        flow = self.dense_flow if motion.face is None else self.blended_flow
        flow = flow(motion, num_frames) * trajectory_scale
        settings = dict(
            steps=steps, seed=seed, trajectory_scale=trajectory_scale, num_frames=num_frames, fps=8
        )
        sound = None
        if motion.face is not None:
            settings |= {"landmark_scale": landmark_scale, "fps": FPS}
            sound = self.face_motion(motion, num_frames).sound
        frames = self.warp_preview(flow).astype(np.float32)
        noise = np.random.default_rng(seed).normal(0, 64, frames.shape)
        begin = time.monotonic()
        for index in range(1, steps + 1):
            time.sleep(self.pause)
            if index == self.fail_at:
                raise RuntimeError("the sampler ran out of luck")
            self.calls.append("step")
            now = np.clip(frames + noise * (1 - index / steps), 0, 255).astype(np.uint8)
            clip = None
            if index == steps:
                seconds = {"sampling": time.monotonic() - begin}
                parts = flow, self.image, motion, settings, seconds, "toy", "0" * 8, self.fit
                clip = Clip(now, *parts, sound=sound)
            shown = index % preview_every == 0
            yield SimpleNamespace(
                index=index, total=steps, preview=now if shown else None, clip=clip
            )


def _refuse(kind):
    raise InputError(f"the toy model has no {kind} adapter")
