"""The display state of a tuner: the state wanted, the result shown, and the text being written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...tasks import Task
from .state_run import has_references
from .states import DENSE, Asked, Passage, Result, State
from .view import TunerView, summary


class Screen:
    """Writes to the panels of a view, as the only object that does; any thread may call it.

    Attributes
    ----------
    results
        Results of every state visited, in order.
    wanted
        The controls' state; None where they define no policy.
    shown
        The result on the panels, perhaps of an earlier state.
    """

    def __init__(self, view: TunerView, asked: Asked, layers: int, script: Callable[..., str]) -> None:
        self.view, self._asked, self._layers, self._script = view, asked, layers, script
        self.results: dict[State, Result] = {}
        self.wanted: State | None = None
        self.shown: Result | None = None
        self._whole: Result | None = None  # the last complete result, with its score
        self._live: dict[int, Passage] = {}  # prompt -> the passage written so far
        self._since = time.monotonic()  # time of the last change of the controls
        self.lock = threading.RLock()

    @property
    def stale(self) -> bool:
        """Whether the result shown is of another state than that of the controls."""
        return self.shown is not None and self.shown.state != self.wanted

    def aim(self, state: State | None) -> None:
        """Set the wanted state, after a change of the controls."""
        with self.lock:
            self.wanted, self._live, self._since = state, {}, time.monotonic()
            self.view.say("")
            self.offer_script(anew=False)
            self.paint()

    def begin(self, status: str) -> None:
        """Clear the text being written before a new one starts."""
        with self.lock:
            self._live = {}
            self.going(status)
            self.paint()

    def going(self, status: str, share: float = 0.0) -> None:
        """Show the current work, the share that is done, and the seconds since the last change."""
        with self.lock:
            seconds = time.monotonic() - self._since
            self.view.show_status(f"{status}, {seconds:.0f} s", share=share, busy=True)

    def write(self, state: State, prompt: int, passage: Passage) -> None:
        """Show a text while it is being written."""
        with self.lock:
            self._live[prompt] = passage
            done, count = len(self._live), len(self._asked.prompts)
            said = f"{state.rule}: writing, prompt {done} of {count}"
            self.going(said, done / (count + 1))
            self.paint()

    def show(self, result: Result | None, status: str = "", *, scored: bool = True) -> None:
        """Show a result on the panels; one without its score is taken back where scoring fails."""
        with self.lock:
            self.shown, self._live = result, {}
            if scored:
                self._whole = result
            self.paint()
            if scored:
                self.offer_script(anew=True)  # the model may have changed since the last script
                self.view.show_status(status)
                if result is not None and not self.stale:
                    self.view.tell(summary(result))

    def ask(self, asked: Asked) -> None:
        """Set how the prompts are asked, and label the menu with them."""
        with self.lock:
            self._asked = asked
            self.view.name_prompts(asked.prompts)

    def offer_script(self, *, anew: bool) -> None:
        """Put the script of the controls' state on the button that copies it; `anew` hashes the model again."""
        none = "# the controls stand for no policy"
        self.view.copy.text = none if self.wanted is None else self._script(self.wanted, self._asked, anew=anew)

    def give_up(self, status: str) -> None:
        """Go back to the last complete result, and show why."""
        self.show(self._whole, status)

    def paint(self) -> None:
        """Update every panel under the lock, so that the last update shows the latest values."""
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
        first = dense is None  # then the dense text is being written
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
    """The text in place of a missing score: an ellipsis while it is computed, or why there is none."""
    if has_references(task):
        return "…"
    return "no references" if task is None else "no reference replies"
