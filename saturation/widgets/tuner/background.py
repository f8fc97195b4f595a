"""States measured in the background, the newest first, and written to the screen as they come."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import Any

import torch

from ..prediction import Predictor
from ..worker import Job, Latest
from .display import Screen
from .state_run import Bench, quality, result_of
from .states import DENSE, Passage, Score, State

_FULL = (torch.OutOfMemoryError, MemoryError)


class Measuring:
    """Measures what it is asked for last.

    Parameters
    ----------
    bench, predictor, screen
        Of the tuner.
    """

    def __init__(self, bench: Bench, predictor: Predictor, screen: Screen) -> None:
        self._bench, self._predictor, self._screen = bench, predictor, screen
        self._worker = Latest(self._failed)
        self._at: tuple[State, Job] | None = None  # what the worker does; only its thread looks
        self._failure: tuple[State, Exception] | None = None  # why what was asked for last is not there

    def ask(self, state: State, *, delay: float) -> None:
        """Measure a state after so many seconds without another one, and show it."""
        with self._screen.lock:
            self._failure = None
            self._worker.submit(lambda job: self._measure(state, job), delay=delay)

    def cancel(self) -> None:
        """Measure nothing more."""
        with self._screen.lock:
            self._failure = None
            self._worker.cancel()

    def close(self) -> None:
        """Cancel for good."""
        self.cancel()
        self._worker.close()

    def settle(self, timeout: float | None = None) -> bool:
        """As for `Latest`; RuntimeError where what was asked for last could not be measured."""
        if not self._worker.settle(timeout):
            return False
        if (failure := self._failure) is not None:
            state, error = failure
            raise RuntimeError(
                f"expected to measure {state.describe()}, but that failed: {_said(error)}; mend the cause and set the "
                "policy again, or set another one"
            ) from error
        return True

    @property
    def busy(self) -> bool:
        """As for `Latest`."""
        return self._worker.busy

    def _measure(self, state: State, job: Job) -> None:
        """Measure a state, and the dense model before the first one."""
        self._at = state, job
        for wanted in (State(DENSE), state):
            if wanted not in self._screen.results and not job.stopped:
                self._visit(wanted, job)
        with self._screen.lock:
            if not job.stopped:
                self._screen.show(self._screen.results[state])

    def _visit(self, state: State, job: Job) -> None:
        """Write with a state's policy and score it; where nobody stopped that, it has been visited."""
        screen = self._screen

        def show(prompt: int, passage: Passage) -> None:
            with screen.lock:
                if not job.stopped:
                    screen.write(state, prompt, passage)

        with screen.lock:
            if job.stopped:
                return
            screen.begin(f"{state.rule}: waiting for the model")
        options: dict[str, Any] = {"first": screen.view.prompt.value, "show": show, "stopped": lambda: job.stopped}
        written = self._bench.write(state.policy, **options)
        if written is None:
            return
        dense = written.passages if state.rule == DENSE else screen.results[State(DENSE)].passages
        result = result_of(state, written, dense, self._predictor.ratios(state.policy))
        with screen.lock:
            if job.stopped:
                return
            if state == screen.wanted:
                screen.show(result, scored=False)
        scored = replace(result, quality=self._quality(state, job))
        with screen.lock:
            if not job.stopped:
                screen.results[state] = scored

    def _quality(self, state: State, job: Job) -> Score | None:
        task, screen = self._bench.asked.task, self._screen
        if task is None:
            return None

        def show(done: int) -> None:
            with screen.lock:
                if not job.stopped:
                    said = f"{state.rule}: scoring {task.name}, {done} of {len(task)}"
                    screen.view.show_status(said, share=done / len(task), busy=True)

        rows = self._bench.score(state.policy, show=show, stopped=lambda: job.stopped)
        return None if rows is None else quality(rows, task)

    def _failed(self, error: Exception) -> None:
        """Said, and what was shown before stays."""
        _emptied(error)
        if isinstance(error, _FULL):
            torch.cuda.empty_cache()
        assert self._at is not None
        state, job = self._at
        with self._screen.lock:
            if not job.stopped:
                self._failure = state, error
                self._screen.give_up(_said(error))


def _emptied(error: BaseException | None) -> None:
    """Let go of what the calls that failed had in hand: it fills the memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _said(error: Exception) -> str:
    if isinstance(error, _FULL):
        return "out of memory: ask for fewer new tokens or examples; the state before is kept"
    return f"{type(error).__name__}: {error}"
