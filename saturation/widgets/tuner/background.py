"""Measurement of states in the background, the newest first, with results shown as they arrive."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ...policies import BehindLayer, Policy
from ..prediction import Predictor
from ..worker import Job, Latest
from .first_setting import PROMPTS, SECONDS, Tried, choose, reason, settings
from .inputs import first_policy
from .state_run import Bench, quality, result_of
from .states import DENSE, Passage, Score, State
from .wanted_state import Screen

_FULL = (torch.OutOfMemoryError, MemoryError)


class Measuring:
    """Measures the state that was requested last.

    Parameters
    ----------
    bench, screen
        Those of the tuner.
    predictor
        Predictor on the trace of the prompts, recorded with or without the chat template as they are asked.
    follow
        Called with the new predictor once the prompts were recorded anew, after the chat template was switched.
    begin_at
        Called with the first setting and the reason for it.
    done
        Called when a state was measured and is shown.

    Attributes
    ----------
    choosing
        Whether the first setting is still to be chosen; False once a user moves a control.
    """

    def __init__(
        self,
        bench: Bench,
        predictor: Predictor,
        screen: Screen,
        follow: Callable[[Predictor], None],
        begin_at: Callable[[Policy, str], None],
        done: Callable[[], None],
    ) -> None:
        self._bench, self._screen = bench, screen
        self._follow, self._begin_at, self._done = follow, begin_at, done
        self._predictors = {bench.asked.chat: predictor}  # key: whether a chat template is applied
        self.choosing = False
        self._worker = Latest(self._failed)
        self._at: tuple[State, Job] | None = None  # the worker's current task, read only by its thread
        self._failure: tuple[State, Exception] | None = None  # why the last requested state could not be measured

    def ask(self, state: State, *, delay: float) -> None:
        """Measure a state and show it, after `delay` seconds without another request."""
        with self._screen.lock:
            self._failure = None
            self._worker.submit(lambda job: self._measure(state, job), delay=delay)

    def hear(self, state: State) -> None:
        """Record the prompts as a state asks them, then show the result that the state already has."""
        with self._screen.lock:
            self._worker.submit(lambda job: self._hear(state, job), delay=0)

    def _hear(self, state: State, job: Job) -> None:
        self._at = state, job
        if self._recorded(state, job) and self._read(state, job):
            with self._screen.lock:
                if not job.stopped:
                    self._screen.show(self._screen.results[state], "as measured before")

    def cancel(self) -> None:
        """Stop the current measurement and drop the waiting one."""
        with self._screen.lock:
            self._failure = None
            self._worker.cancel()

    def close(self) -> None:
        """Cancel, and accept no more requests."""
        self.cancel()
        self._worker.close()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait as `Latest.settle` does; RuntimeError where the last requested state could not be measured."""
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
        """Whether a measurement runs or waits."""
        return self._worker.busy

    def _measure(self, state: State, job: Job) -> None:
        """Measure a state, and before it the dense model where that is missing."""
        self._at = state, job
        if not (self._recorded(state, job) and self._read(state, job)):
            return
        for wanted in (state.dense, state):
            if wanted == state and self.choosing:
                wanted = state = self._first(state, job)
                self._at = state, job
            if wanted not in self._screen.results and not job.stopped:
                self._visit(wanted, job)
        with self._screen.lock:
            if not job.stopped:
                self._screen.show(self._screen.results[state])
                self._done()

    def _recorded(self, state: State, job: Job) -> bool:
        """Record the prompts as they are asked now, unless that was done; False where the job was stopped."""
        if state.chat in self._predictors:
            return not job.stopped
        asked, screen = self._bench.asked, self._screen
        total = len(asked.prompts) * asked.max_new_tokens

        def show(done: int) -> None:
            with screen.lock:
                if not job.stopped:
                    screen.going(f"recording the dense model, {done} of {total} tokens", done / total)

        trace = self._bench.record_in_turn(show, lambda: job.stopped)
        if trace is None:
            return False
        with screen.lock:
            if not job.stopped:
                self._predictors[state.chat] = Predictor(trace)
                self._follow(self._predictors[state.chat])
        return not job.stopped

    def _read(self, state: State, job: Job) -> bool:
        """Read the residual stream that a state's router decides from, unless that was done; False where stopped."""
        predictor, policy = self._predictors[state.chat], state.policy
        if isinstance(policy, BehindLayer) and predictor.lacks(policy):
            with self._screen.lock:
                if not job.stopped:
                    self._screen.going(f"{state.rule}: reading the residual stream")
            stream = self._bench.stream(predictor.trace, policy.reads, lambda: job.stopped)
            with self._screen.lock:
                if stream is not None and not job.stopped:
                    predictor.streams[policy.reads] = stream
                    self._follow(predictor)
        return not job.stopped

    def heard(self, chat: bool) -> Predictor | None:
        """The predictor for prompts with or without the chat template; None where they were not recorded so."""
        return self._predictors.get(chat)

    def _first(self, state: State, job: Job) -> State:
        """Choose the first setting by its harm to the dense texts, move the controls to it and return its state."""
        predictor, screen, began = self._predictors[state.chat], self._screen, time.monotonic()
        ways = settings(predictor, first_policy(predictor, self._bench.asked))
        dense = screen.results[state.dense].passages[:PROMPTS] if state.dense in screen.results else ()
        tried: list[Tried] = []

        def measure(policy: Policy) -> float | None:
            with screen.lock:
                if not job.stopped:
                    said = f"choosing the first setting, {len(tried)} of {len(ways)} tried"
                    screen.going(said, len(tried) / len(ways))
            return None if job.stopped else self._bench.harm(policy, dense, lambda: job.stopped)

        try:
            for one in choose(ways, measure, lambda: time.monotonic() - began > SECONDS):
                tried.append(one)
        except (RuntimeError, MemoryError) as error:  # generating text may still fit into memory
            _emptied(error)
            with screen.lock:
                self.choosing = False
        with screen.lock:
            if job.stopped or not tried or not self.choosing:
                return state
            self.choosing = False
            self._begin_at(tried[-1].policy, reason(tried[-1], tried[0], predictor))
        return State.of(tried[-1].policy, state.chat)

    def _visit(self, state: State, job: Job) -> None:
        """Generate text with a state's policy, score it, and store the result unless the job was stopped."""
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
        dense = written.passages if state.rule == DENSE else screen.results[state.dense].passages
        result = result_of(state, written, dense, self._predictors[state.chat].ratios(state.policy))
        with screen.lock:
            if job.stopped:
                return
            if state == screen.wanted:
                screen.show(result, scored=False)
        try:
            loss = self._bench.loss(written.passages, lambda: job.stopped)
        except (RuntimeError, MemoryError) as error:  # the text is kept without a loss
            _emptied(error)
            loss = None
        scored = replace(result, loss=loss, quality=self._quality(state, job))
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
                    screen.going(said, done / len(task))

        rows = self._bench.score(state.policy, show=show, stopped=lambda: job.stopped)
        return None if rows is None else quality(rows, task)

    def _failed(self, error: Exception) -> None:
        """Show why a job failed, and go back to the last complete result."""
        _emptied(error)
        assert self._at is not None
        state, job = self._at
        with self._screen.lock:
            if not job.stopped:
                self._failure = state, error
                self._screen.give_up(_said(error))


def _emptied(error: BaseException | None) -> None:
    """Free the tensors that the failed calls still hold through an exception's traceback."""
    full = isinstance(error, _FULL)
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    if full:
        torch.cuda.empty_cache()


def _said(error: Exception) -> str:
    if isinstance(error, _FULL):
        return "out of memory: ask for fewer new tokens or examples; the state before is kept"
    return f"{type(error).__name__}: {error}"
