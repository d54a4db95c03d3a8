"""The whole chain in one call: photograph + motion -> clip (paper figure 2)."""

from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mofa_nb.checks import Size
from mofa_nb.flow.film import film_motion
from mofa_nb.media.images import read_image
from mofa_nb.models.models import Models, default_device
from mofa_nb.motion import Expression, FaceSource, Motion, load_motion
from mofa_nb.pipeline.chain import ClipStep
from mofa_nb.pipeline.outputs import Clip
from mofa_nb.pipeline.session import Session
from mofa_nb.sampling.denoise import Trace

__all__ = [
    "Clip", "ClipStep", "FaceSource", "Motion", "Session", "animate", "default_device",
    "film_motion",
]  # fmt: skip


def animate(
    image: object, motion: Motion | str | Path | None = None,
    *, face: FaceSource | Expression | str | Path | None = None,
    model: str | Path | Models | Session = "mini", size: Size | None = None,
    device: str | None = None, flow: Float[Tensor, "steps 2 H W"] | str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None, trace: Trace | None = None,
    **settings,
) -> Clip:  # fmt: skip
    """Animate one image by a motion, a face, or both.

    Args:
        image: a path, PIL image or array.
        motion: in pixels of an image of its own size, or a motion file's path; None is empty.
        face: what the face follows instead of the motion's (whose strengths and choice stay): a
            driving video, a sound, a landmark file, an expression.
        model: "mini", "release", a folder, loaded models, or a session to keep them ready.
        size: (width, height) of the clip; by default the aspect is kept.
        flow: dense flow in pixels of the fitted image, instead of what S2D makes of the tracks; or
            a file of it (`flow.files.read_flow`), in pixels of the image or of the fitted one.
        progress: called with (stage, done, total). trace: with name and value of inner tensors.
        settings: steps, seed, trajectory_scale, num_frames, seconds, ...: see `ClipSettings`.
    """
    if isinstance(motion, str | Path):
        height, width = (image := read_image(image)).shape[:2]
        motion = load_motion(motion, size=(width, height))
    report = progress or (lambda stage, done, total: None)
    session = model if isinstance(model, Session) else Session(model, device)
    session.load(lambda part, done, total: report(f"load {part}", done, total))  # in MB
    has_face = face is not None or (motion is not None and motion.face is not None)
    side = session.defaults["face_short_side" if has_face else "short_side"]
    session.set_image(image, short_side=side, size=size)
    motion = motion or Motion(session.fit.source)
    if face is not None:
        motion = motion.with_face(face)
    heard = lambda fraction: report("voice", round(100 * fraction), 100)  # noqa: E731
    steps = session.animate_steps(motion, flow=flow, trace=trace, heard=heard, **settings)
    for step in steps:
        report("denoise", step.index, step.total)
    return step.clip
