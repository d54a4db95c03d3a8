"""The model's side of the pad: previews and sampling, both in threads beside the kernel's own."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mofa_nb.flow_colours import flow_to_rgb, longest_vector
from mofa_nb.motion import Motion
from mofa_nb.pad.picture import PadPicture
from mofa_nb.pad.work import Latest, Sampling


@dataclass(frozen=True)
class Preview:
    """What a motion would do, before any sampling.

    Attributes:
        picture: what was drawn on.
        box: what the model sees of it, as fractions (left, top, right, bottom).
        frames: the model's image warped along the dense flow; only that image for an empty motion.
        colours: of the flow, with the clip's longest vector in full colour; None for no motion.
        alpha: in [0, 1], how far each pixel moves compared with the farthest.
        scale: length of the longest vector, pixels of the model's image.
    """

    picture: PadPicture
    box: tuple[float, float, float, float]
    frames: UInt8[np.ndarray, "T H W 3"]
    colours: UInt8[np.ndarray, "T-1 H W 3"] | None = None
    alpha: Float[np.ndarray, "T-1 H W"] | None = None
    scale: float = 0.0


class Engine:
    """Runs a session's work; every callback is called in one of its threads.

    Args:
        session: see `mofa_nb.animate.Session`.
        on_preview: called with a `Preview` of the newest request.
        on_error: called with whatever went wrong in a preview.
    """

    def __init__(
        self,
        session,
        on_preview: Callable[[Preview], None],
        on_error: Callable[[Exception], None],
    ):
        self.session = session
        self._on_preview = on_preview
        self._latest = Latest(on_error)
        self._sampling: Sampling | None = None
        self._taking, self._taken = threading.Lock(), None
        self._still: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def busy(self) -> bool:
        """A clip is being made."""
        return self._sampling is not None and self._sampling.running

    def request(self, picture: PadPicture, side: int, motion: Motion, num_frames: int) -> None:
        """Ask for a preview; one that still waits is dropped."""
        self._latest.submit(lambda: self._preview(picture, side, motion, num_frames))

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
            self._take(picture, side)
            yield from self.session.animate_steps(motion, preview_every=every, **settings)

        self._sampling = Sampling(steps, on_step, on_end)

    def stop(self) -> None:
        """End sampling after the present step."""
        if self._sampling is not None:
            self._sampling.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is running; False after `timeout` seconds."""
        done = self._latest.wait(timeout)
        return done and (self._sampling is None or self._sampling.wait(timeout))

    def close(self) -> None:
        """End all threads soon."""
        self.stop()
        self._latest.close()

    def _take(self, picture: PadPicture, side: int) -> None:
        """Make sure that the session has the picture at this size."""
        with self._taking:
            if self._taken is None or self._taken[0] is not picture or self._taken[1] != side:
                self._still = np.asarray(self.session.set_image(picture.photo, short_side=side))
                self._taken = picture, side

    def _preview(self, picture: PadPicture, side: int, motion: Motion, num_frames: int) -> None:
        session = self.session
        self._take(picture, side)
        fit = session.fit
        left, top = fit.offset[0] / fit.scaled[0], fit.offset[1] / fit.scaled[1]
        box = (left, top, left + fit.size[0] / fit.scaled[0], top + fit.size[1] / fit.scaled[1])
        if motion.is_empty:
            self._on_preview(Preview(picture, box, self._still[None]))
            return
        flow = session.dense_flow(motion, num_frames=num_frames)
        frames = np.asarray(session.warp_preview(flow))
        flow = np.asarray(flow, np.float32)
        scale = longest_vector(flow)
        alpha = np.sqrt(np.hypot(flow[:, 0], flow[:, 1]) / scale)
        colours = flow_to_rgb(flow, scale)
        self._on_preview(Preview(picture, box, frames, colours, alpha, scale))
