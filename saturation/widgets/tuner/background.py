"""States measured in the background, the newest first, and written to the screen as they come."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ...policies import Policy
from ..prediction import Predictor
from ..worker import Job, Latest
from .first_setting import PROMPTS, SECONDS, Tried, choose, reason, settings
from .inputs import first_policy
from .state_run import Bench, quality, result_of
from .states import DENSE, Passage, Score, State
from .wanted_state import Screen

_FULL = (torch.OutOfMemoryError, MemoryError)


class Measuring:
    """Measures what it is asked for last.

    Parameters
    ----------
    bench, screen
        Of the tuner.
    predictor
        Of the trace that was recorded as the prompts are asked.
    follow
        Told of another predictor once the prompts are asked in another way and that was recorded.
    begin_at
        Told of the first setting and why it is that one.
    done
        Called when a state has been measured and is shown.

    Attributes
    ----------
    choosing
        Whether the first setting is still to be chosen; a hand that moves a control has chosen.
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
        self._predictors = {bench.asked.chat: predictor}  # by whether a chat template is applied
        self.choosing = False
        self._worker = Latest(self._failed)
        self._at: tuple[State, Job] | None = None  # what the worker does; only its thread looks
        self._failure: tuple[State, Exception] | None = None  # why what was asked for last is not there

    def ask(self, state: State, *, delay: float) -> None:
        """Measure a state after so many seconds without another one, and show it."""
        with self._screen.lock:
            self._failure = None
            self._worker.submit(lambda job: self._measure(state, job), delay=delay)

    def hear(self, state: State) -> None:
        """Record the prompts as a state asks them, which is shown as it was measured before."""
        with self._screen.lock:
            self._worker.submit(lambda job: self._hear(state, job), delay=0)

    def _hear(self, state: State, job: Job) -> None:
        self._at = state, job
        if self._recorded(state, job):
            with self._screen.lock:
                if not job.stopped:
                    self._screen.show(self._screen.results[state], "as measured before")

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
        if not self._recorded(state, job):
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
        """Make sure that there is a trace of the prompts as they are asked now; False where that was stopped."""
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

    def heard(self, chat: bool) -> Predictor | None:
        """The predictor for prompts asked in this way, if that was recorded."""
        return self._predictors.get(chat)

    def _first(self, state: State, job: Job) -> State:
        """Choose the first setting by what it does to the dense model's texts, and move the controls there."""
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
        except (RuntimeError, MemoryError) as error:  # the text itself may still fit
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
        dense = written.passages if state.rule == DENSE else screen.results[state.dense].passages
        result = result_of(state, written, dense, self._predictors[state.chat].ratios(state.policy))
        with screen.lock:
            if job.stopped:
                return
            if state == screen.wanted:
                screen.show(result, scored=False)
        try:
            loss = self._bench.loss(written.passages, lambda: job.stopped)
        except (RuntimeError, MemoryError) as error:  # what was written is kept without it
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
        """Said, and what was shown before stays."""
        _emptied(error)
        assert self._at is not None
        state, job = self._at
        with self._screen.lock:
            if not job.stopped:
                self._failure = state, error
                self._screen.give_up(_said(error))


def _emptied(error: BaseException | None) -> None:
    """Let go of what the calls that failed had in hand: it fills the memory."""
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
