"""The model's side of the pad: previews and sampling, both in threads beside the kernel's own."""

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from mofa_nb.checks import InputError
from mofa_nb.flow.film import MOST_FRAMES, film_motion
from mofa_nb.media.video import read_video
from mofa_nb.motion.fit import Fit
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.picture import PadPicture
from mofa_nb.pad.strokes import Bounds, Number
from mofa_nb.pad.work import Latest, Sampling
from mofa_nb.show.colours import flow_to_rgb, longest_vector

# Which dense flow is shown: its name on the pad, and the session's method that makes it.
FLOWS = {"Both": "blended_flow", "Tracks": "dense_flow", "Face": "face_flow"}


def face_obstacle(session) -> str:
    """Why a session's model cannot drive a face, or ""."""
    try:
        session.models.adapter("landmark")
    except InputError as error:
        return str(error)
    return ""


class Wanted(NamedTuple):
    """What a preview is asked for: of which motion, on the picture at which shorter side."""

    picture: PadPicture
    side: int
    motion: Motion
    num_frames: int
    flow: str = "Both"
    seed: int | None = None  # of a voice's blinks and sway


@dataclass(frozen=True)
class SeenFace:
    """What the model found for a motion's face, in pixels of the pad's picture.

    Attributes:
        picture: what was drawn on.
        landmarks: of every frame; None when there is no usable face.
        mask: {0, 255}, where the face's motion counts unless it is painted otherwise.
        length: frames that the driving file lasts; None for an expression.
        notes: one sentence each.
    """

    picture: PadPicture
    landmarks: Float[np.ndarray, "T 68 2"] | None = None
    mask: UInt8[np.ndarray, "H W"] | None = None
    length: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """What a motion would do, before any sampling.

    Attributes:
        picture: what was drawn on.
        box: what the model sees of it, as fractions (left, top, right, bottom).
        frames: the model's image warped along the flow; only that image for an empty motion;
            None while they are not ready.
        flow: dense flow, pixels of the model's image; None for an empty motion.
        scale: length of its longest vector, pixels.
    """

    picture: PadPicture
    box: Bounds
    frames: UInt8[np.ndarray, "T H W 3"] | None = None
    flow: Float[np.ndarray, "steps 2 H W"] | None = None
    scale: float = 0.0

    def tint(
        self, frame: int, strength: Number
    ) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]] | None:
        """Colours of the flow at a frame and their opacity; None if there is nothing to see."""
        if self.flow is None or frame == 0 or strength == 0:
            return None
        flow = self.flow[min(frame, len(self.flow)) - 1]
        alpha = strength * np.sqrt(np.hypot(*flow) / self.scale)
        return flow_to_rgb(flow, self.scale), alpha


class Engine:
    """Runs a session's work; every callback is called in one of its threads.

    Args:
        session: see `mofa_nb.animate.Session`.
        on_preview: called with a `Preview` of the newest request, and again with its frames.
        on_face: called with a `SeenFace` before that, when the motion has a face.
        on_error: called with whatever went wrong, and the preview it was for, or None.
    """

    def __init__(
        self,
        session,
        on_preview: Callable[[Preview], None],
        on_face: Callable[[SeenFace], None],
        on_error: Callable[[Exception, Wanted | None], None],
    ):
        self.session = session
        self._on_preview, self._on_face, self._on_error = on_preview, on_face, on_error
        self._latest = Latest(lambda error: on_error(error, None))
        self._sampling: Sampling | None = None
        self._turn, self._taken = threading.Lock(), None  # a session serves one thread at a time
        atexit.register(self._leave)  # Python must not end in the middle of a thread's work
        self._still: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def busy(self) -> bool:
        """A clip is being made."""
        return self._sampling is not None and self._sampling.running

    def request(self, wanted: Wanted) -> None:
        """Ask for a preview; one that still waits is dropped."""
        self._latest.submit(lambda: self._preview(wanted))

    def animate(
        self,
        picture: PadPicture,
        side: int,
        motion: Motion,
        settings: dict,
        on_step: Callable,
        on_end: Callable,
    ) -> None:
        """Make a clip; see `Sampling` for the callbacks."""
        every = max(1, settings["steps"] // 8)

        def steps() -> Iterator:
            with self._turn:  # until the first step: from then on it only denoises
                self._take(picture, side)
                running = self.session.animate_steps(motion, preview_every=every, **settings)
                first = next(running)
            yield first
            yield from running

        self._sampling = Sampling(steps, on_step, on_end)

    def follow(self, film: str | os.PathLike, options: dict, on_film: Callable) -> None:
        """Take a film's tracks; `on_film` is called with its frames, the motion, and notes."""

        def job() -> None:
            frames = read_video(film, max_frames=MOST_FRAMES)
            on_film(frames, *film_motion(frames, **options))

        self._latest.submit(job, anyway=True)

    def stop(self) -> None:
        """End sampling after the present step."""
        if self._sampling is not None:
            self._sampling.stop()

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until nothing is running; False after `timeout` seconds."""
        done = self._latest.wait(timeout)
        return done and (self._sampling is None or self._sampling.wait(timeout))

    def close(self) -> None:
        """End all threads soon."""
        self.stop()
        self._latest.close()
        atexit.unregister(self._leave)

    def _leave(self) -> None:
        self.close()
        self.wait(30)

    def _take(self, picture: PadPicture, side: int) -> None:
        """Make sure that the session has the picture at this size."""
        if self._taken is None or self._taken[0] is not picture or self._taken[1] != side:
            self._still = np.asarray(self.session.set_image(picture.photo, short_side=side))
            self._taken = picture, side

    def _preview(self, wanted: Wanted) -> None:
        try:
            with self._turn:
                self._look(wanted)
        except Exception as error:  # told, whatever it is
            self._on_error(error, wanted)

    def _look(self, wanted: Wanted) -> None:
        session, picture, motion = self.session, wanted.picture, wanted.motion
        self._take(picture, wanted.side)
        if motion.face is not None and not self._found_face(wanted):
            motion = motion.with_face(None)
        if self._latest.waiting:
            return
        box = _seen_part(session.fit)
        if motion.is_empty:
            self._on_preview(Preview(picture, box, self._still[None]))
            return
        name = FLOWS[wanted.flow if motion.face is not None else "Tracks"]
        chosen = {} if name == "dense_flow" else {"seed": wanted.seed}
        flow = getattr(session, name)(motion, num_frames=wanted.num_frames, **chosen)
        plain = np.asarray(flow, np.float32)
        preview = Preview(picture, box, None, plain, longest_vector(plain))
        self._on_preview(preview)
        if not self._latest.waiting:
            self._on_preview(
                replace(preview, frames=np.asarray(session.warp_preview(flow, motion)))
            )

    def _found_face(self, wanted: Wanted) -> bool:
        """Report the face; without a usable one its error, so that the tracks are still shown."""
        try:
            seen = self._look_at_face(wanted)
        except InputError as error:
            self._on_face(SeenFace(wanted.picture))
            self._on_error(error, wanted)
            return False
        self._on_face(seen)
        return True

    def _look_at_face(self, wanted: Wanted) -> SeenFace:
        import cv2

        session, fit = self.session, self.session.fit
        motion, frames = wanted.motion.with_mask(None), wanted.num_frames
        (left, top), (width, height) = fit.offset, fit.size
        found = session.face_motion(motion, frames, seed=wanted.seed)
        scale = np.array(motion.size) / fit.scaled
        landmarks = (np.asarray(found.landmarks, np.float64) + fit.offset) * scale
        whole = np.zeros(fit.scaled[::-1], np.uint8)
        whole[top : top + height, left : left + width] = session.face_mask(
            motion, frames, seed=wanted.seed
        )
        smooth = cv2.GaussianBlur(cv2.resize(whole, motion.size), (0, 0), max(float(scale[0]), 0.5))
        mask = np.where(smooth < 128, np.uint8(0), np.uint8(255))
        length = None
        if motion.face.source:
            length = len(session.face_motion(motion, seed=wanted.seed).landmarks)
        return SeenFace(wanted.picture, landmarks, mask, length, found.notes)


def _seen_part(fit: Fit) -> Bounds:
    """What is left of the picture after cropping, as fractions of it."""
    (left, top), (width, height), (wide, high) = fit.offset, fit.size, fit.scaled
    return left / wide, top / high, (left + width) / wide, (top + height) / high
