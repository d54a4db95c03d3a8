"""The model's side of the pad: previews and sampling, in threads beside the kernel's own."""

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mofa_nb.checks import File, InputError
from mofa_nb.flow.film import MOST_FRAMES, film_motion
from mofa_nb.media.video import read_video
from mofa_nb.motion.motion import Motion
from mofa_nb.pad.picture import PadPicture
from mofa_nb.pad.strokes import Bounds, Number
from mofa_nb.show.colours import longest_vector

# Which dense flow is shown: its name on the pad, and the session's method that makes it.
FLOWS = {"Both": "blended_flow", "Tracks": "dense_flow", "Face": "face_flow"}


class Wanted(NamedTuple):
    """What a preview is asked for: of which motion, on the picture at which shorter side."""

    picture: PadPicture
    side: int
    motion: Motion
    num_frames: int
    flow: str = "Both"
    seed: int | None = None  # of a voice's blinks and sway


class SeenFace(NamedTuple):
    """What the model found for a motion's face, in pixels of the pad's picture."""

    picture: PadPicture
    landmarks: Float[np.ndarray, "T 68 2"] | None = None  # None: there is no usable face
    mask: UInt8[np.ndarray, "H W"] | None = None  # {0, 255}, as proposed
    length: int | None = None  # frames that the driving file lasts
    notes: tuple[str, ...] = ()


class Preview(NamedTuple):
    """What a motion would do, before any sampling."""

    picture: PadPicture
    box: Bounds  # what the model sees of it, as fractions
    frames: UInt8[np.ndarray, "T H W 3"] | None = None  # warped along the flow; None: not ready
    flow: Float[np.ndarray, "steps 2 H W"] | None = None  # pixels; None for an empty motion
    scale: float = 0.0  # length of its longest vector, pixels


class Engine:
    """Runs a session's work and tells the pad of it, each time in one of its threads.

    `on_preview` hears of the newest request's flow and again of its frames, before that `on_face`
    if the motion has one; `on_step` of each sampling step and the seconds probably left; `on_end`
    of the clip and the error, both None when stopped; `on_error` of what else went wrong, and of
    the preview it was for or None."""

    def __init__(self, session, pad):
        self.session, self.pad, self.busy = session, pad, False  # busy: a clip is being made
        self._looking, self._newest = ThreadPoolExecutor(1, "pad preview"), None
        self._last: Future = self._looking.submit(int)
        self._making, self._stop = threading.Thread(), threading.Event()
        self._turn = threading.Lock()  # a session serves one thread at a time
        self._taken, self._still = (None, 0), None
        atexit.register(self._leave)

    def request(self, wanted: Wanted) -> None:
        """Ask for a preview; one that still waits is dropped."""
        self._newest = wanted
        self._submit(lambda: self._look(wanted), wanted)

    def follow(self, film: File, options: dict, on_film: Callable) -> None:
        """Take a film's tracks; `on_film` is called with its frames, the motion, and notes."""

        def job() -> None:
            frames = read_video(film, max_frames=MOST_FRAMES)
            on_film(frames, *film_motion(frames, **options))

        self._submit(job)

    def animate(self, picture: PadPicture, side: int, motion: Motion, settings: dict) -> None:
        """Make a clip in a thread of its own."""
        self._stop.clear()
        work = picture, side, motion, settings
        self._making, self.busy = threading.Thread(target=self._make, args=work, daemon=True), True
        self._making.start()

    def stop(self) -> None:
        self._stop.set()

    def wait(self, timeout: Number | None = None) -> bool:
        done = not wait([self._last], timeout).not_done
        if done and self._making.ident is not None:
            self._making.join(timeout)
        return done and not self._making.is_alive()

    def close(self) -> None:
        self.stop()
        self._newest = None
        self._looking.shutdown(wait=False)
        atexit.unregister(self._leave)

    def _leave(self) -> None:
        """Python must not end in the middle of a thread's work."""
        self.close()
        self.wait(30)

    def _submit(self, job: Callable[[], None], wanted: Wanted | None = None) -> None:
        def run() -> None:
            try:
                job()
            except Exception as error:  # whatever fails is shown, and the pad lives on
                self.pad.on_error(error, wanted)

        self._last = self._looking.submit(run)

    def _make(self, picture: PadPicture, side: int, motion: Motion, settings: dict) -> None:
        clip, failure, begin = None, None, time.monotonic()
        try:
            every = max(1, settings["steps"] // 8)
            with self._turn:  # until the first step: from then on it only denoises
                self._take(picture, side)
                running = self.session.animate_steps(motion, preview_every=every, **settings)
                steps = chain([next(running)], running)
            for number, step in enumerate(steps, start=1):
                if self._stop.is_set():
                    running.close()
                    break
                self.pad.on_step(step, (time.monotonic() - begin) / number * (step.total - number))
                clip = step.clip
        except Exception as error:  # whatever fails is shown, and the pad lives on
            failure = error
        clip, self.busy = None if self._stop.is_set() else clip, False
        self.pad.on_end(clip, failure)

    def _take(self, picture: PadPicture, side: int) -> None:
        """Make sure that the session has the picture at this size."""
        if self._taken[0] is not picture or self._taken[1] != side:
            self._still = np.asarray(self.session.set_image(picture.photo, short_side=side))
            self._taken = picture, side

    def _look(self, wanted: Wanted) -> None:
        with self._turn:
            if wanted is not self._newest:
                return
            session, picture, motion = self.session, wanted.picture, wanted.motion
            self._take(picture, wanted.side)
            if motion.face is not None:
                try:
                    self.pad.on_face(self._seen_face(wanted))
                except InputError as error:  # the tracks are still shown
                    self.pad.on_face(SeenFace(picture))
                    self.pad.on_error(error, wanted)
                    motion = motion.with_face(None)
            if wanted is not self._newest:
                return
            fit = session.fit
            (left, top), (width, height), (wide, high) = fit.offset, fit.size, fit.scaled
            box = left / wide, top / high, (left + width) / wide, (top + height) / high
            if motion.is_empty:
                self.pad.on_preview(Preview(picture, box, self._still[None]))
                return
            name = FLOWS[wanted.flow if motion.face is not None else "Tracks"]
            seed = {} if name == "dense_flow" else {"seed": wanted.seed}
            flow = getattr(session, name)(motion, num_frames=wanted.num_frames, **seed)
            plain = np.asarray(flow, np.float32)
            preview = Preview(picture, box, None, plain, longest_vector(plain))
            self.pad.on_preview(preview)
            if wanted is self._newest:
                frames = np.asarray(session.warp_preview(flow, motion))
                self.pad.on_preview(preview._replace(frames=frames))

    def _seen_face(self, wanted: Wanted) -> SeenFace:
        session, fit = self.session, self.session.fit
        motion, frames, seed = wanted.motion.with_mask(None), wanted.num_frames, wanted.seed
        (left, top), (width, height) = fit.offset, fit.size
        face_motion = session.face_motion(motion, frames, seed=seed)
        scale = np.array(motion.size) / fit.scaled
        landmarks = (np.asarray(face_motion.landmarks, np.float64) + fit.offset) * scale
        area = np.zeros(fit.scaled[::-1], np.uint8)
        seen = session.face_mask(motion, frames, seed=seed)
        area[top : top + height, left : left + width] = seen
        smooth = cv2.GaussianBlur(cv2.resize(area, motion.size), (0, 0), max(float(scale[0]), 0.5))
        mask = np.where(smooth < 128, np.uint8(0), np.uint8(255))
        whole = session.face_motion(motion, seed=seed) if motion.face.source else None
        length = None if whole is None else len(whole.landmarks)
        return SeenFace(wanted.picture, landmarks, mask, length, face_motion.notes)
