"""What a tuner shows at a time: which state is wanted, whose result stands there, and what is being written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...tasks import Task
from .state_run import has_references
from .states import DENSE, Asked, Passage, Result, State
from .view import TunerView, summary


class Screen:
    """The only writer of a view's panels; any thread may call it.

    Attributes
    ----------
    results
        Of every state visited, in order.
    wanted
        The controls' state; None where they stand for no policy.
    shown
        The result on the panels, perhaps of a state before.
    """

    def __init__(self, view: TunerView, asked: Asked, layers: int, script: Callable[..., str]) -> None:
        self.view, self._asked, self._layers, self._script = view, asked, layers, script
        self.results: dict[State, Result] = {}
        self.wanted: State | None = None
        self.shown: Result | None = None
        self._whole: Result | None = None  # the last one with its score
        self._live: dict[int, Passage] = {}  # prompt -> what has been written of it
        self._since = time.monotonic()  # when the controls' state was asked for
        self.lock = threading.RLock()

    @property
    def stale(self) -> bool:
        """Whether what is shown no longer belongs to the controls."""
        return self.shown is not None and self.shown.state != self.wanted

    def aim(self, state: State | None) -> None:
        """The controls stand for this state now."""
        with self.lock:
            self.wanted, self._live, self._since = state, {}, time.monotonic()
            self.view.say("")
            self._offer_script(anew=False)
            self.paint()

    def begin(self, status: str) -> None:
        """A text is going to be written anew."""
        with self.lock:
            self._live = {}
            self.going(status)
            self.paint()

    def going(self, status: str, share: float = 0.0) -> None:
        """What goes on, how far it is, and for how many seconds it has."""
        with self.lock:
            seconds = time.monotonic() - self._since
            self.view.show_status(f"{status}, {seconds:.0f} s", share=share, busy=True)

    def write(self, state: State, prompt: int, passage: Passage) -> None:
        """One more piece of a text that is being written."""
        with self.lock:
            self._live[prompt] = passage
            done, count = len(self._live), len(self._asked.prompts)
            said = f"{state.rule}: writing, prompt {done} of {count}"
            self.going(said, done / (count + 1))
            self.paint()

    def show(self, result: Result | None, status: str = "", *, scored: bool = True) -> None:
        """Put a result on the panels; one whose score is still missing goes again where that fails."""
        with self.lock:
            self.shown, self._live = result, {}
            if scored:
                self._whole = result
            self.paint()
            if scored:
                self._offer_script(anew=True)  # the model that was just measured may have been changed since
                self.view.show_status(status)
                if result is not None and not self.stale:
                    self.view.tell(summary(result))

    def ask(self, asked: Asked) -> None:
        """The prompts are asked in this way now."""
        with self.lock:
            self._asked = asked
            self.view.name_prompts(asked.prompts)

    def _offer_script(self, *, anew: bool) -> None:
        none = "# the controls stand for no policy"
        self.view.copy.text = none if self.wanted is None else self._script(self.wanted, self._asked, anew=anew)

    def give_up(self, status: str) -> None:
        """Go back to the last whole result, and say why."""
        self.show(self._whole, status)

    def paint(self) -> None:
        """Bring every panel up to date; whoever paints last has seen the latest."""
        with self.lock:
            shown = self.shown
            dense = self.results.get(State(DENSE, chat=self._asked.chat))
            self._paint_texts(self.view.prompt.value, dense)
            self.view.show_numbers(shown, dense, stale=self.stale, unscored=_unscored(self._asked.task))
            alike = [one for one in self.results.values() if one.state.chat == self._asked.chat]
            self.view.show_points(alike, shown if shown in alike else None)
            self.view.offer(self.wanted is not None and (shown is None or self.stale))

    def _paint_texts(self, prompt: int, dense: Result | None) -> None:
        live, shown = self._live.get(prompt), self.shown
        first = dense is None  # then it is the dense text that is being written
        ours = shown.passages[prompt] if shown else None
        state = self.wanted if shown is None or (live and not first) else shown.state
        self.view.show_texts(
            self._asked.prompts[prompt],
            live if dense is None else dense.passages[prompt],
            ours if first or live is None else live,
            layers=self._layers,
            name=state.describe() if state else "skipping",
            stale=self.stale and live is None,
            writing=live is not None and not first,
        )


def _unscored(task: Task | None) -> str:
    """What stands in place of a score that is not there: it comes, or why it does not."""
    if has_references(task):
        return "…"
    return "no references" if task is None else "no reference replies"
