"""The method, in the order of the paper's figure 2: photograph + motion -> clip.

    motion -> sparse hints -> S2D -> dense flow -> MOFA-Adapter -> residuals -> frozen SVD -> clip

`animate_picture` is that chain; `clip_motion` is its first half, up to the dense flow."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofa_nb.checks import InputError
from mofa_nb.config import SPEEDS
from mofa_nb.faces.draw import nearest
from mofa_nb.faces.drive import FaceMotion
from mofa_nb.flow.warp import depth_order
from mofa_nb.media.images import to_unit
from mofa_nb.models.memory import Memory, arrange, fitted_into_memory, unused_parts
from mofa_nb.motion import Motion, fit_motion
from mofa_nb.pipeline import layers
from mofa_nb.pipeline.layers import ClipMotion, Flow, MotionLayer, PreparedPicture, soft_mask
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.pipeline.settings import ClipSettings
from mofa_nb.sampling import denoise
from mofa_nb.sampling.denoise import Start, Step, Trace
from mofa_nb.sampling.speed import compile_blocks


@dataclass(frozen=True)
class ClipStep:
    index: int  # parts of the work done: denoising steps, or of a long clip windows of them
    total: int
    preview: UInt8[np.ndarray, "T H W 3"] | None = None  # clean frames as predicted, if asked for
    clip: Clip | None = None  # the finished clip, on the last one only


def animate_picture(
    picture: PreparedPicture, motion: Motion, settings: ClipSettings,
    *, flow: Flow | None = None, preview_every: int = 0, trace: Trace | None = None,
    seconds: dict[str, float] | None = None,
) -> Iterator[ClipStep]:  # fmt: skip
    """Make a clip step by step; the last step carries it. Stop iterating to cancel. `flow`: see
    `clip_motion`; `preview_every`: steps between previews; `seconds` takes what stages last."""
    models, seconds = picture.models, {} if seconds is None else seconds
    first = Memory(models)  # until the clip's size is known
    if settings.memory != "auto":
        arrange(models, settings.memory)
    with timed(seconds, "flow"):
        fitted, notes = fit_motion(motion, picture.fit)
        flow_of = partial(clip_motion, picture, fitted, settings, flow)
        moving = first.run(flow_of)  # sparse hints -> S2D -> dense flow (3.2)
    native = models.settings.num_frames
    windows = layers.clip_windows(moving.num_frames, native, settings, wrap=motion.after == "close")
    memory = fitted_into_memory(
        models, len(windows[0].frames), picture.size, guided=max(settings.guidance) > 1,
        wanted=settings.memory, at_once=settings.as_released, speed=SPEEDS[settings.speed],
        windows=len(windows), unused=unused_parts({layer.kind for layer in moving.layers}),
    )  # fmt: skip
    compile_blocks(models, settings.compile and not settings.as_released)  # whose hooks it misses
    generator = torch.Generator(models.device if settings.as_released else "cpu")

    def begin() -> tuple[Start, Tensor]:  # CLIP's token, latents; noise of the seed
        seeded = generator.manual_seed(settings.seed)
        return denoise.begin(models, to_unit(picture.image)[None], moving.num_frames, seeded)

    def shown(latents: Tensor, preview: bool = False) -> UInt8[np.ndarray, "T H W 3"]:
        parts = denoise.decode(models, latents, memory=memory, preview=preview)
        return torch.cat(list(map(denoise.to_pixels, parts))).numpy()  # no part outlives its turn

    with timed(seconds, "condition"), torch.no_grad():
        start, noise = memory.run(begin)
        if trace is not None:
            trace("start", start)
        controls = memory.run(partial(  # MOFA-Adapter: first frame's features, warped (3.1)
            layers.adapter_controls, models, moving.layers, start.image, windows, trace
        ))  # fmt: skip
    total = settings.steps * len(windows)
    with timed(seconds, "denoise"):
        parts = denoise.denoise_windows(  # SVD's UNet, frozen, plus the adapters' residuals (3.1)
            models, start, controls, noise, steps=settings.steps, guidance=settings.guidance,
            windows=windows, fade=settings.window_fade, speed=SPEEDS[settings.speed],
            memory=memory, generator=generator, trace=trace, as_released=settings.as_released,
        )  # fmt: skip
        del noise, controls
        for done, part in enumerate(parts, start=1):
            if done < total:
                due = preview_every and isinstance(part, Step) and part.index % preview_every == 0
                yield ClipStep(done, total, shown(part.denoised, preview=True) if due else None)
    latents, room = part.latents, memory.decodable(part.latents)
    if room < min(models.settings.decode_chunk, moving.num_frames):
        notes = (*notes, f"memory allows to decode only {room} frames at once")
    del part, parts  # a long clip's would be alive while it is decoded
    with timed(seconds, "decode"):
        frames = shown(latents)
    used = replace(settings, num_frames=moving.num_frames).to_json(moving.face is not None)
    clip = Clip(
        frames, moving.flow, picture.image, motion, used | {"size": list(picture.fit.size)},
        dict(seconds), models.name, models.hash, picture.fit,
        notes=(
            *models.notes, *first.notes, *memory.notes, *picture.fit.notes, *notes, *moving.notes,
        ),
        sound=moving.face and moving.face.sound, landmarks=moving.face and moving.face.landmarks,
    )  # fmt: skip
    yield ClipStep(total, total, frames if preview_every else None, clip)


def clip_motion(
    picture: PreparedPicture, motion: Motion, settings: ClipSettings, flow: Flow | None = None
) -> ClipMotion:
    """Dense flow, masks and landmarks: a layer for each kind of motion there is (paper: 3.2), of a
    motion in pixels of the prepared picture. `flow`: instead of what S2D makes of tracks and pins.
    InputError: a mask without a face, an adapter that the model lacks, a bad flow."""
    if motion.mask is not None and motion.face is None:
        raise InputError("there is a face mask but no face to follow: add one, or no mask")
    if flow is not None:
        flow = torch.as_tensor(flow, dtype=torch.float32, device="cpu")
    drawn = motion.is_drawn or (flow is not None and bool(flow.any()))
    for kind, needed in (("trajectory", drawn), ("landmark", motion.face is not None)):
        if needed:
            picture.models.adapter(kind)
    faces = followed_faces(picture, motion, settings)
    num_frames = max([len(face.landmarks) for face in faces] or [settings.num_frames])
    faces = [face.lasting(num_frames) for face in faces]
    still = torch.zeros(1, 2, *picture.size).expand(num_frames - 1, -1, -1, -1)
    if flow is not None and flow.shape != still.shape:
        raise InputError(f"the flow must be {list(still.shape)}, but {list(flow.shape)} came")
    over = drawn or len(faces) > 1
    near = nearest([face.landmarks for face in faces], picture.size)
    stack = [trajectory_layer(picture, motion, settings, num_frames, flow)] if drawn else []
    for face, region in zip(faces, near, strict=True):
        mask = picture.mask(motion, face) if over or motion.mask is not None else None
        mask = None if mask is None else soft_mask(mask * np.uint8(region), settings.mask_softness)
        stack.append(landmark_layer(picture, settings, face, mask))
    sounding = [face for face in faces if face.sound is not None]
    return ClipMotion(still, layers.stacked(stack), [*sounding, *faces, None][0])


def trajectory_layer(
    picture: PreparedPicture, motion: Motion, settings: ClipSettings, num_frames: int,
    flow: Flow | None = None,
) -> MotionLayer:  # fmt: skip
    """What tracks and pins do; or a flow in place of what S2D makes of them."""
    notes = ()
    if flow is None:
        notes = picture.trajectory_notes(motion, num_frames)
        flow = picture.trajectory_flow(motion, num_frames, as_released=settings.as_released)
    how = settings.of_kind("trajectory")
    order = depth_order(motion, flow, picture.models.settings.num_frames)
    return MotionLayer("trajectory", flow, *how, order=order, notes=notes)


def landmark_layer(
    picture: PreparedPicture, settings: ClipSettings, face: FaceMotion,
    mask: Float[Tensor, "1 1 H W"] | None,
) -> MotionLayer:  # fmt: skip
    """What a face does, inside its mask where it has one."""
    flow, how = picture.landmark_flow(face.landmarks), settings.of_kind("landmark")
    return MotionLayer("landmark", flow, *how, mask, face.landmarks, notes=face.notes)


def followed_faces(
    picture: PreparedPicture, motion: Motion, settings: ClipSettings
) -> list[FaceMotion]:
    """What each face of the motion follows, alone."""
    alone = [replace(motion, face=face, others=()) for face in motion.faces]
    how = settings.num_frames, settings.fps, settings.seed
    return [picture.face_motion(one, *how) for one in alone]


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - begin
