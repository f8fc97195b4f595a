"""The tuner widget: it shows what a threshold skips while a slider moves, and what it costs afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import pandas as pd
from matplotlib.figure import Figure
from transformers import PreTrainedModel

from ...policies import FFNSkip, Policy, StaticFFN
from ...tasks import Task
from ...trace import Trace
from ..explorer.explorer import SaturationExplorer
from ..lifecycle import supersede, weakly, within
from ..log_scale import cosine
from ..prediction import Predictor
from ..static_image import Pictured, at_rest, of_tuner
from .background import Measuring
from .controls import PolicyControls
from .export_buttons import Buttons
from .exports import Keeping
from .inputs import asked_of, chats, checked, first_policy, recorded, templated
from .prompt_mode import PromptMode
from .session import Session
from .state_run import Bench
from .states import DENSE, Result, State
from .view import TunerView
from .wanted_state import Screen

_LINKED = {"threshold": "limit"} | {same: same for same in ("sink", "cold_start", "cold_end", "warmup", "prefill")}
_REST = 0.2  # seconds without a change before a state is measured


class ThresholdTuner(Pictured, ipw.VBox):
    """The controls of a policy with the blocks that it skips, the text that it generates, and its quality and speed.

    While a slider moves, the recorded trace shows which blocks would be skipped. When it rests, the model continues
    the prompts in the background and is scored; the text is shown beside the dense one. Every state visited is a point
    of a plot, and a click on it restores the state. Other code may use the model at the same time and gets the dense
    one.

    Parameters
    ----------
    model, tokenizer
        As returned by `load`.
    prompts
        A task, a text, or several texts; None takes those of the session.
    trace
        A dense trace of this model; None records the prompts with `max_new_tokens`.
    policy
        The first policy of the controls; it may be a fitted `TokenFFN` or `RoutedFFN`. None tries the paper's rule at a
        tenth of the FFNs on the dense model's text, and takes a gentler setting where that rule breaks the text
        (`first_setting.BOUND`).
    max_new_tokens
        New tokens per prompt; by default the task's own number, or 48 for texts.
    shown
        Number of prompts that are continued in every state.
    examples
        Number of the task's examples that quality is scored on.
    chat
        Whether prompts are wrapped in the chat template as a user's turn, which the switch beside them can change; None
        wraps texts and conversations where the tokenizer has a chat template, and no other tasks.
    session
        A file that *Save session* wrote; its states are restored.

    Attributes
    ----------
    controls : PolicyControls
        The controls of the policy; each is an attribute of the tuner too, such as `threshold`.
    explorer : SaturationExplorer
        The canvas of the trace.
    view : TunerView
        The widgets that show results, and the buttons.

    Raises
    ------
    ValueError
        For a trace or a session of another model, for no prompts, and as for `generate`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        prompts: Task | str | Sequence[str] | None = None,
        *,
        trace: Trace | None = None,
        policy: Policy | None = None,
        max_new_tokens: int | None = None,
        shown: int = 6,
        examples: int = 24,
        chat: bool | None = None,
        session: str | Path | None = None,
    ) -> None:
        self.kept = Keeping(model, tokenizer)
        before = None if session is None else self.kept.load(session)
        chat = chats(tokenizer, prompts, trace, before) if chat is None else chat
        asked = asked_of(prompts, max_new_tokens, shown, examples, chat, before)
        self.bench = Bench(model, tokenizer, asked)
        self.trace = checked(trace, model, self.kept.name) if trace is not None else recorded(self.bench)
        self._predictor = Predictor(self.trace)
        at = policy or (before.current.policy if before else first_policy(self._predictor, asked))
        self.controls = PolicyControls(self._predictor, at, self._moved)
        self.explorer = SaturationExplorer(self.trace, policy=StaticFFN(), height=212, controls=False)
        self.view = TunerView(asked.prompts, str(Path("out") / "tuner"), chat if templated(tokenizer) else None)
        self._screen = Screen(self.view, asked, self.trace.layers, self.kept.script)
        self._screen.results.update({one.state: one for one in before.results} if before else {})
        self._mode = PromptMode(self)
        told = (self._mode.follow, self._mode.begin_at, self._draw_later)
        self._measuring = Measuring(self.bench, self._predictor, self._screen, *told)
        self._measuring.choosing = policy is None and before is None
        super().__init__(self.view.arranged(self.controls, self.explorer))
        self.add_class("st-tuner")
        self._link()
        self._turn(delay=0)
        supersede(self)

    def __repr__(self) -> str:
        return f"<ThresholdTuner of {self.kept.name!r}: {len(self.results)} states>"

    def __getattr__(self, name: str) -> Any:
        """The control of this name."""
        controls = self.__dict__.get("controls")
        if name.startswith("_") or controls is None or not isinstance(found := vars(controls).get(name), ipw.Widget):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return found

    # For people and tests --------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy | None:
        """The policy that the controls define; setting it moves them."""
        return self.controls.policy()

    @policy.setter
    def policy(self, policy: Policy | None) -> None:
        with self._screen.lock:  # the worker may be moving them to the first setting
            self.controls.put(policy)
            self._measuring.choosing = False
            self._turn(delay=0)

    @property
    def results(self) -> dict[State, Result]:
        """The result of every state visited, in order; the dense model is first."""
        return self._screen.results

    @property
    def result(self) -> Result | None:
        """The result that is shown; it may be of an earlier state (`stale`)."""
        return self._screen.shown

    @property
    def stale(self) -> bool:
        """Whether the result shown is of another state than that of the controls."""
        return self._screen.stale

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the background has finished.

        Returns
        -------
        bool
            False if `timeout` seconds passed before that. True does not mean that the controls' state was measured: it
            may have been cancelled, or the controls may define no policy; then `stale` is True.

        Raises
        ------
        RuntimeError
            Where the state of the controls could not be measured; the cause is the error that stopped it.
        """
        return self._measuring.settle(timeout)

    def close(self) -> None:
        """Stop the background, remove the widget from the page, and release the model."""
        if "_links" in vars(self):  # missing where the constructor raised
            with self._screen.lock:  # the worker must not write to a closing widget
                self._measuring.close()
            for widget in (*self._links, *list(within(self))[1:]):
                widget.close()
            self.bench.model = self.kept._model = weakly(self.bench.model)  # a notebook's Out may keep this tuner
        super().close()

    def _pictured(self) -> str | None:
        """A PNG in base64 of the states and the text, or before those of the blocks that the rule would skip."""
        return of_tuner(self)

    def _draw_later(self) -> None:
        """Draw the still picture anew after a pause without changes; a saved notebook keeps this picture."""
        shown = self.result
        at_rest(lambda: self.redraw() if self.comm is not None and self.result is shown and not self.stale else None)

    def table(self) -> pd.DataFrame:
        """A table with a row for each state visited: its policy, shares skipped, scores and speed."""
        return self.kept.table(list(self.results.values()))

    def figure(self, what: str = "both") -> Figure:
        """A matplotlib figure of what is shown, for papers and code hosts; runs no model.

        Parameters
        ----------
        what
            "pareto", the plot of all states measured so far; "text", the text after the prompt shown, with the blocks
            that were skipped to write each token; or "both".

        Raises
        ------
        ValueError
            Before any state was measured, and for the text of another state than that of the controls (`stale`).
        """
        if what not in ("pareto", "text", "both"):
            raise ValueError(f"expected 'pareto', 'text' or 'both', got {what!r}; choose one")
        with self._screen.lock:
            shown, stale = self.result, self.stale
            results = [one for one in self.results.values() if shown and one.state.chat == shown.state.chat]
        if shown is None or not results:
            raise ValueError("nothing to draw: no state has been measured yet; wait with settle()")
        if stale and what != "pareto":
            raise ValueError(
                f"expected the text of the controls' state, but what is shown is still of {shown.state.describe()}; "
                "wait with settle(), move the controls, or go back with restore(tuner.result.state)"
            )
        return self.kept.figure(what, results, shown, self.view.prompt.value, self.trace.layers)

    @property
    def script(self) -> str:
        """A Python script that reproduces the state of the controls."""
        return self.kept.script(State.of(self.policy, self.bench.asked.chat), self.bench.asked)

    def save_session(self, path: str | Path) -> None:
        """Write every state visited as one JSON file, which ``session=`` reads."""
        now = self._screen.wanted or State(DENSE, chat=self.bench.asked.chat)
        Session(self.kept.identity(), self.bench.asked, list(self.results.values()), now).save(path)

    def restore(self, state: State) -> None:
        """Go back to a state visited: controls, texts and numbers, without measuring it again."""
        if state not in self.results:
            raise ValueError(f"expected one of the {len(self.results)} states visited, got {state.describe()!r}")
        with self._screen.lock, self.view.cancel.hold_sync():  # a job that is being stopped writes nothing in between
            self._measuring.cancel()
            self.controls.put(state.policy)
            self._measuring.choosing = False
            self._mode.ask(state.chat)
            unread = self._predictor.lacks(state.policy)
            self.controls.show_predicted(self._predictor.ratios(state.policy), unread=unread)
            self._picture(state.policy, linked=False)
            self._screen.aim(state)
            self._screen.show(self.results[state], "as measured before")
            if (known := self._measuring.heard(state.chat)) is None or known.lacks(state.policy):
                self._measuring.hear(state)
        self._draw_later()

    # Reacting to changes ---------------------------------------------------------------------------------------

    def _link(self) -> None:
        """Connect controls and buttons; what the explorer can follow is linked in the browser."""
        self._links = [
            ipw.jslink((getattr(self.controls, name), "value"), (self.explorer, trait))
            for name, trait in _LINKED.items()
        ]
        view = self.view
        view.prompt.observe(lambda change: self._screen.paint(), "value")
        view.prompt.observe(lambda change: self._draw_later(), "value")
        view.cancel.on_click(lambda button: self._cancel())
        view.pareto.observe(self._chosen, "chosen")
        view.chat.observe(lambda change: self._mode.switch(change["new"]), "value")
        self._buttons = Buttons(self)

    def _moved(self, linked: bool) -> None:
        before = self._screen.wanted
        self._turn(delay=_REST, linked=linked)
        if self._screen.wanted != before:  # else it is an echo from the browser
            self._measuring.choosing = False

    def _turn(self, *, delay: float, linked: bool = False) -> None:
        """Show at once what the controls' policy would skip, and measure it after `delay` seconds without a change."""
        try:
            policy = self.controls.policy()
            if policy is not None:
                policy.check(self.trace.layers)
            predicted = self._predictor.ratios(policy)
        except ValueError as error:
            self.controls.show_predicted(None, str(error))
            with self._screen.lock:
                self._measuring.cancel()
                self.view.show_status("")
                return self._screen.aim(None)
        state, screen = State.of(policy, self.bench.asked.chat), self._screen
        self.controls.show_predicted(predicted, unread=self._predictor.lacks(policy))
        if state == screen.wanted and (self._measuring.busy or (screen.shown and not screen.stale)):
            return None
        with screen.lock, self.view.cancel.hold_sync():  # a job that is being stopped writes nothing in between
            self._measuring.ask(state, delay=delay)
            self._picture(policy, linked)
            screen.aim(state)
            self.view.show_status("", busy=True)
        return None

    def _picture(self, policy: Policy | None, linked: bool) -> None:
        """Set the parts of the explorer's rule that no link in the browser sets."""
        if isinstance(policy, FFNSkip) and policy.threshold is None:  # a slider is never at None
            policy = replace(policy, threshold=cosine(self.controls.threshold.min))
        place = self.controls.threshold.value
        if not isinstance(policy, FFNSkip):
            shown = StaticFFN() if policy is None or self._predictor.lacks(policy) else policy
            self.explorer.stand_for(shown, self._predictor.replayed(shown))
            return
        self.explorer.follow(**{trait: getattr(self.controls, name).value for name, trait in _LINKED.items()})
        if isinstance(policy.threshold, tuple):
            self.explorer.policy = policy
        elif not linked or policy.threshold != cosine(place):
            self.explorer.stand_at(policy, place)

    def _chosen(self, change: dict[str, Any]) -> None:
        key = change["new"][0]
        for state in list(self.results):
            if state.key == key and state.chat == self.bench.asked.chat:
                self.restore(state)

    def _cancel(self) -> None:
        """Cancel the measurement, or start it again where none runs."""
        if not self._measuring.busy:
            return self._turn(delay=0)
        with self._screen.lock:
            self._measuring.cancel()
            self._screen.give_up("cancelled")
        return None
