"""The switch of a tuner between chat template and plain text, and its move to the first setting."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...policies import BehindLayer, Policy, StaticFFN
from ..prediction import Predictor
from .inputs import asked_as
from .states import State


class PromptMode:
    """Switches a `ThresholdTuner` between chat template and plain text, and moves it to its first setting."""

    def __init__(self, tuner: Any) -> None:
        self.tuner = tuner
        self._began: State | None = None  # the first setting, once chosen

    def switch(self, chat: bool) -> None:
        """Ask with or without the chat template, and measure anew; a first setting is chosen anew."""
        tuner = self.tuner
        if chat != tuner.bench.asked.chat:
            with suppress(ValueError):  # the controls define no policy
                tuner._measuring.choosing |= self._began == State.of(tuner.policy, not chat)
            self.ask(chat)
            tuner._turn(delay=0)

    def ask(self, chat: bool) -> None:
        """Ask the prompts with or without the chat template from now on."""
        tuner = self.tuner
        with tuner._screen.lock:
            if chat == tuner.bench.asked.chat:
                return
            tuner._measuring.cancel()
            tuner.bench.asked = asked_as(tuner.bench.asked, chat)
            tuner._screen.ask(tuner.bench.asked)
            tuner.view.chat.value = chat
            if (known := tuner._measuring.heard(chat)) is not None:
                self.follow(known)

    def follow(self, predictor: Predictor) -> None:
        """Show another trace of the prompts, and predict from it."""
        tuner = self.tuner
        tuner.controls.predict_by(predictor)
        tuner._predictor, tuner.trace = predictor, predictor.trace
        if isinstance(tuner.explorer.policy, BehindLayer):  # a replay on another trace needs that trace's stream
            tuner.explorer.policy = StaticFFN()
        if tuner.explorer.trace is not predictor.trace:
            tuner.explorer.show(predictor.trace)
        with suppress(ValueError):  # the controls define no policy
            policy = tuner.policy
            tuner.controls.show_predicted(predictor.ratios(policy), unread=predictor.lacks(policy))
            if isinstance(policy, BehindLayer):
                tuner._picture(policy, linked=False)

    def begin_at(self, policy: Policy, why: str) -> None:
        """Move to the first setting, and show the reason for it."""
        tuner = self.tuner
        tuner.view.explain(why)
        self._began = state = State.of(policy, tuner.bench.asked.chat)
        if state != tuner._screen.wanted:
            tuner.controls.put(policy)
            tuner.controls.show_predicted(tuner._predictor.ratios(policy))
            tuner._picture(policy, linked=False)
            tuner._screen.aim(state)
