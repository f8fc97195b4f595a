"""Work behind a widget: one thread at most, of which the newest job wins, and one lock around each model."""

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
_LEAVING = 10.0  # seconds that a job has to notice that Python ends


def model_lock(model: PreTrainedModel) -> threading.Lock:
    """The lock that every widget takes while it runs this model, so that two of them take turns."""
    with _MAKING:
        return _LOCKS.setdefault(model, threading.Lock())


@dataclass(eq=False)
class Job:
    """Something to do, until somebody stops it."""

    run: Callable[[Job], None]
    due: float = 0.0  # on the clock of time.monotonic
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        """Whether the job shall end, or has no more business to show anything."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the job to end at its next opportunity."""
        self._stop.set()


class Latest:
    """Runs the newest job in a thread and drops those before; the thread lives only while there is work.

    Parameters
    ----------
    on_error
        Told what a job raised, in the thread.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._change = threading.Condition()
        self._next: Job | None = None
        self._running: Job | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, run: Callable[[Job], None], *, delay: float = 0.0) -> None:
        """Run this after so many seconds without a newer job; what runs now is stopped at once."""
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
        """Stop what runs and forget what waits."""
        with self._change:
            self._drop()

    def close(self) -> None:
        """Cancel, and take no more jobs."""
        with self._change:
            self._closed = True
            self._drop()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits; False if that took longer than so many seconds."""
        with self._change:
            return self._change.wait_for(lambda: self._thread is None, timeout)

    @property
    def busy(self) -> bool:
        """Whether a job that nobody has stopped runs or waits."""
        with self._change:
            return any(job is not None and not job.stopped for job in (self._running, self._next))

    def _leave(self) -> None:
        """Python ends: torch must not be at work when its threads are killed."""
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
                if not job.stopped:  # else it has no more business to show anything
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # the thread goes on, or nobody could ask it for anything again
            _LOG.exception("the failure of a widget's job could not be shown")

    def _take(self) -> Job | None:
        """The next job when it is due; None, and no more thread, where there is none."""
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
