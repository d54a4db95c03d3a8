"""Work beside the kernel's main thread: the latest preview, and sampling that can be stopped."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from mofa_nb.pad.strokes import Number


class Latest:
    """Runs jobs one at a time in a thread; of those that wait, only the newest is run."""

    def __init__(self, on_error: Callable[[Exception], None]):
        self._on_error, self._newest, self._running = on_error, 0, 0
        self._thread = ThreadPoolExecutor(1, "pad preview")
        self._last: Future = self._thread.submit(int)

    def submit(self, job: Callable[[], None], *, anyway: bool = False) -> None:
        """Run `job` soon, instead of any job that still waits, unless that runs `anyway`."""
        self._newest += not anyway
        number = None if anyway else self._newest
        self._last = self._thread.submit(self._run, job, number)

    @property
    def waiting(self) -> bool:
        """There is a newer job than the one being run."""
        return self._newest > self._running

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until nothing is left to do; False when `timeout` seconds passed first."""
        return not wait([self._last], timeout).not_done

    def close(self) -> None:
        """End the thread after the present job."""
        self._newest += 1
        self._thread.shutdown(wait=False)

    def _run(self, job: Callable[[], None], number: int | None) -> None:
        if number in (None, self._newest):
            self._running = number or self._running
            try:
                job()
            except Exception as error:  # whatever fails is shown, and the pad lives on
                self._on_error(error)


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
        self._stop, self.running = threading.Event(), True
        work = (steps, on_step, on_end)
        self._thread = threading.Thread(target=self._run, args=work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End before the next step."""
        self._stop.set()

    def wait(self, timeout: Number | None = None) -> bool:
        """Block until the run has ended; False when `timeout` seconds passed first."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self, steps: Callable, on_step: Callable, on_end: Callable) -> None:
        clip, failure, begin = None, None, time.monotonic()
        try:
            running = steps()
            for number, step in enumerate(running, start=1):
                if self._stop.is_set():
                    running.close()
                    break
                left = (time.monotonic() - begin) / number * (step.total - number)
                on_step(step, left)
                clip = step.clip
        except Exception as error:  # whatever fails is shown, and the pad lives on
            failure = error
        self.running = False
        on_end(None if self._stop.is_set() else clip, failure)
