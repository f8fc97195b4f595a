"""The buttons of a tuner: each writes a file or shows a script, and reports the outcome."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...atomic import located

_ENDINGS = (".policy.json", ".session.json", ".json", ".pdf", ".svg", ".png")  # endings that a button adds itself
_DRAWN = {"Pareto": "pareto", "text": "text", "both": "both"}


class Buttons:
    """Connects the buttons of a `ThresholdTuner`'s view; they write to the path in its path field."""

    def __init__(self, tuner: Any) -> None:
        self.tuner, self.view = tuner, tuner.view
        self.view.copy.observe(lambda change: self.view.show_code(self.view.copy.text), "pressed")
        self.view.keep_policy.on_click(self._said("saving ...", self.save_policy))
        self.view.keep_session.on_click(self._said("saving ...", self.save_session))
        self.view.export.on_click(self._said("exporting ...", self.export))
        view = self.view
        for field in (view.prompt, view.path, view.what, view.form, view.venue, view.width):
            field.observe(lambda change: view.say(""), "value")

    def _said(self, begun: str, act: Callable[[], str]) -> Callable[[Any], None]:
        """A click handler that calls `act` and shows its start and its outcome under the buttons.

        The handler runs in the kernel's thread, since matplotlib can draw in only one thread; it never waits for the
        model.
        """

        def clicked(button: Any) -> None:
            self.view.say(begun)
            try:
                self.view.say(act())
            except (OSError, ValueError, RuntimeError) as error:
                self.view.say(str(error))

        return clicked

    def save_policy(self) -> str:
        """Write the controls' policy as JSON; returns the message to show."""
        said: str = self.tuner.kept.save_policy(self.tuner.policy, self._path("policy.json"))
        self.tuner._screen.offer_script(anew=False)  # the script of a fitted policy reads the file
        return said

    def save_session(self) -> str:
        """Write every state visited as JSON; returns the message to show."""
        path = self._path("session.json")
        self.tuner.save_session(path)
        count = len(self.tuner.results)
        return f"saved {count} states in {path}; ThresholdTuner(model, tokenizer, session={str(path)!r})"

    def export(self) -> str:
        """Write the figure of `ThresholdTuner.figure` at a venue's width; returns the message to show."""
        view, what = self.view, _DRAWN[self.view.what.value]
        with self.tuner._screen.lock:  # figure, table and message must agree
            figure, table = self.tuner.figure(what), self.tuner.table()
            table = table[table["chat"] == self.tuner.result.state.chat]  # the states in the figure
            drawn = self._drawn(what, len(table))
        options = {"data": None if what == "text" else table, "venue": view.venue.value, "width": view.width.value}
        return f"{self.tuner.kept.export(figure, self._path(view.form.value), **options)}: {drawn}"

    def _drawn(self, what: str, count: int) -> str:
        """The content of a figure in words."""
        shown = self.tuner.result
        assert shown is not None
        missing = self.tuner.stale or shown.state not in self.tuner.results
        plot = f"the {count} states measured{', not yet that of the controls' if missing else ''}"
        text = f"the text of {shown.state.describe()} after prompt {self.view.prompt.value + 1}"
        return {"pareto": plot, "text": text, "both": f"{plot}, and {text}"}[what]

    def _path(self, suffix: str) -> Path:
        """The full path of the file named in the path field, with this ending; makes its folder."""
        given = self.view.path.value.strip() or "tuner"
        place = located(given).absolute()
        if given.endswith(("/", os.sep)) or place.name == ".." or place.is_dir():
            raise ValueError(
                f"expected a folder and a name in it, such as out/tuner, got the folder {place}; add a name"
            )
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror or error}; name another place"
            raise type(error)(f"cannot write into the folder {place.parent}: {reason}") from error
        ending = next((one for one in _ENDINGS if place.name.lower().endswith(one) and len(place.name) > len(one)), "")
        return place.with_name(f"{place.name[: len(place.name) - len(ending)]}.{suffix}")
