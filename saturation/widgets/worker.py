"""Background work of a widget: at most one thread, which runs the newest job, and one lock per model."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)
_LOCKS: WeakKeyDictionary[PreTrainedModel, threading.Lock] = WeakKeyDictionary()
_MAKING = threading.Lock()
_LEAVING = 10.0  # seconds that a job has to stop when Python exits


def model_lock(model: PreTrainedModel) -> threading.Lock:
    """The lock of a model. Every widget holds it while it runs the model, so that two widgets take turns."""
    with _MAKING:
        return _LOCKS.setdefault(model, threading.Lock())


@dataclass(eq=False)
class Job:
    """A function to run in the background, which can be stopped."""

    run: Callable[[Job], None]
    due: float = 0.0  # on the clock of time.monotonic
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        """Whether the job was stopped; then it should end and must show nothing more."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the job to end at its next opportunity."""
        self._stop.set()


class Latest:
    """Runs the newest job in a thread and drops older jobs; the thread exists only while there is work.

    Parameters
    ----------
    on_error
        Called in the thread with the exception that a job raised.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._change = threading.Condition()
        self._next: Job | None = None
        self._running: Job | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, run: Callable[[Job], None], *, delay: float = 0.0) -> None:
        """Run a job after `delay` seconds, unless a newer one is submitted before; stop the current job at once."""
        with self._change:
            self._drop()
            if self._closed:
                return
            self._next = Job(run, time.monotonic() + delay)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="saturation-tuner", daemon=True)
                self._thread.start()
                atexit.register(self._leave)
            self._change.notify_all()

    def cancel(self) -> None:
        """Stop the running job and drop the waiting one."""
        with self._change:
            self._drop()

    def close(self) -> None:
        """Cancel all jobs and accept no more."""
        with self._change:
            self._closed = True
            self._drop()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no job runs or waits; False if `timeout` seconds passed before that."""
        with self._change:
            return self._change.wait_for(lambda: self._thread is None, timeout)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits that was not stopped."""
        with self._change:
            return any(job is not None and not job.stopped for job in (self._running, self._next))

    def _leave(self) -> None:
        """Stop the work before Python exits: torch must not be running when its threads are killed."""
        self.close()
        self.settle(_LEAVING)

    def _drop(self) -> None:
        for job in (self._running, self._next):
            if job is not None:
                job.stop()
        self._next = None
        self._change.notify_all()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                job.run(job)
            except Exception as error:
                _LOG.debug("a job of a widget failed", exc_info=True)
                if not job.stopped:  # a stopped job must show nothing more
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # the thread must survive, or no later job would run
            _LOG.exception("the failure of a widget's job could not be shown")

    def _take(self) -> Job | None:
        """Wait for the next job and return it when it is due; None where there is none, which ends the thread."""
        with self._change:
            self._running = None
            while self._next is not None and (wait := self._next.due - time.monotonic()) > 0:
                self._change.wait(wait)
            self._running, self._next = self._next, None
            if self._running is None:
                self._thread = None
                atexit.unregister(self._leave)
                self._change.notify_all()
            return self._running
