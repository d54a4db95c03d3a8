"""Work beside the kernel's main thread: the latest preview, and sampling that can be stopped."""

import threading
import time
from collections.abc import Callable, Iterable

from mofa_nb.pad.strokes import Number


class Latest:
    """Runs jobs one at a time in a thread; of those that wait, only the newest is run."""

    def __init__(self, on_error: Callable[[Exception], None]):
        self._on_error = on_error
        self._changed = threading.Condition()
        self._job: Callable | None = None
        self._busy = self._closed = False
        threading.Thread(target=self._run, daemon=True, name="pad preview").start()

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` soon, instead of any job that still waits."""
        with self._changed:
            self._job = job
            self._changed.notify_all()

    @property
    def waiting(self) -> bool:
        """There is a newer job than the one being run."""
        return self._job is not None

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until nothing is left to do; False when `timeout` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._busy or self._job), timeout)

    def close(self) -> None:
        """End the thread after the present job."""
        with self._changed:
            self._closed, self._job = True, None
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job or self._closed)
                if self._closed:
                    return
                job, self._job, self._busy = self._job, None, True
            try:
                job()
            except Exception as error:  # whatever fails is shown, and the pad lives on
                self._on_error(error)
            with self._changed:
                self._busy = False
                self._changed.notify_all()


class Sampling:
    """One run of a generator of steps in a thread.

    Args:
        steps: makes the generator; called in the thread.
        on_step: called with each step and the seconds that are probably left.
        on_end: called once with the clip, or None when stopped, and the error or None.
    """

    def __init__(
        self,
        steps: Callable[[], Iterable],
        on_step: Callable[[object, float], None],
        on_end: Callable[[object | None, Exception | None], None],
    ):
        self._steps, self._on_step, self._on_end = steps, on_step, on_end
        self._stop = threading.Event()
        self.running = True
        self._thread = threading.Thread(target=self._run, daemon=True, name="pad sampling")
        self._thread.start()

    def stop(self) -> None:
        """End before the next step."""
        self._stop.set()

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until the run has ended; False when `timeout` seconds passed first."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        clip, failure, begin = None, None, time.monotonic()
        try:
            steps = self._steps()
            for number, step in enumerate(steps, start=1):
                if self._stop.is_set():
                    steps.close()
                    break
                left = (time.monotonic() - begin) / number * (step.total - number)
                self._on_step(step, left)
                clip = step.clip
        except Exception as error:  # whatever fails is shown, and the pad lives on
            failure = error
        self.running = False
        self._on_end(None if self._stop.is_set() else clip, failure)
