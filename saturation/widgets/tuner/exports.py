"""Exports of a tuner: tables, figures, scripts and files, with the identity of their model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from transformers import PreTrainedModel

from ... import figures
from ...anatomy import unwrapped
from ...figures import style
from ...loading import origin
from ...policies import Policy, save
from ...policies.serialization import arrays_of
from ...recording import called
from ...sweeps import cell_keys
from .passage_trace import passes
from .script import Model, source
from .session import Session
from .states import DENSE, Asked, Result, State
from .view import label

_WRAP = 40  # tokens of the text in the figure "both"


class Keeping:
    """Exports the results of a tuner of one model.

    Attributes
    ----------
    name, revision, dtype
        Those of the model, as in a Trace.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self._model, self._tokenizer = unwrapped(model), tokenizer
        self._origin = origin(self._model)  # read now: a closed tuner holds its model only weakly
        self._files: dict[frozenset[str], Path] = {}  # hashes of arrays -> the file of a policy that has them
        self._read = ("", "")  # a sample of the weights, and their fingerprint
        self.name = called(self._model)
        self.revision: str | None = getattr(self._model.config, "_commit_hash", None)
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")

    def identity(self) -> dict[str, Any]:
        """Name, revision, dtype and fingerprint of the model; reads all its weights, again where they changed."""
        self._look()
        return {"name": self.name, "revision": self.revision, "dtype": self.dtype, "fingerprint": self._read[1]}

    def _look(self) -> None:
        """Hash the tokenizer, and the weights where they changed."""
        self._words = cell_keys.tokens(self._tokenizer)
        if (now := cell_keys.sample(self._model)) != self._read[0]:
            self._read = now, cell_keys.fingerprint(self._model)

    def load(self, path: str | Path) -> Session:
        """Load a session of this model; ValueError for a session of another model."""
        session = Session.load(path)
        session.check(self.name, self.identity, path)
        return session

    def script(self, state: State, asked: Asked, *, anew: bool = True) -> str:
        """The Python script of a state; `anew=False` takes the hashes that were computed last, which is fast."""
        if anew or not self._read[1]:
            self._look()
        file = self._files.get(frozenset(one.digest for one in state.arrays)) if state.arrays else None
        return source(state, asked, self._model_of(), file)

    def _model_of(self) -> Model:
        device, usual = self._model.device.type, "cuda" if torch.cuda.is_available() else "cpu"
        where: dict[str, Any] = {"dtype": self.dtype, "revision": self.revision}
        where["device"] = device if device != usual else None
        return Model(self.name, self._origin, weights=self._read[1], words=self._words, **where)

    def table(self, results: Sequence[Result]) -> pd.DataFrame:
        """A table with a row for each state, in the order of the visits."""
        rows = []
        for result in results:
            score = result.ordinate
            row: dict[str, Any] = {"policy": result.state.describe(), "rule": result.state.rule}
            row |= {"predicted": result.predicted.decode, "ratio": result.actual.decode}
            row |= {"score": score.name, "n": score.n, "value": score.mean}
            row |= {"low": score.low, "high": score.high, "agreement": result.agreement.mean}
            row |= {"chat": result.state.chat, "loss": result.loss}
            row |= {"collapsed": result.collapsed, "tokens_per_second": result.speed, "ideal": result.ideal}
            rows.append(row)
        return pd.DataFrame(rows)

    def figure(self, what: str, results: Sequence[Result], shown: Result, prompt: int, layers: int) -> Figure:
        """A figure of all states ("pareto"), of the text of one ("text"), or of "both"; runs no model."""
        if what == "text":
            return self._text(shown, prompt, layers)
        if what == "pareto":
            return self._pareto(results)
        figure, (above, below) = style.new(2, height=4.4)
        self._pareto(results, ax=above)
        self._text(shown, prompt, layers, ax=below)
        return figure

    def _pareto(self, results: Sequence[Result], **where: Any) -> Figure:
        table = self.table(results)
        if all(result.state.rule == DENSE for result in results):
            raise ValueError("nothing to draw: only the dense model has been measured; move a control and wait")
        return figures.tradeoff(table, x="ratio", y="value", ylabel=label(results[0].ordinate), **where)

    def _text(self, shown: Result, prompt: int, layers: int, **where: Any) -> Figure:
        """A figure of the text as shown, with the blocks that were skipped to write each token."""
        about: dict[str, Any] = {"model": self.name, "revision": self.revision, "dtype": self.dtype}
        about["provenance"] = {"policy": shown.state.json or None}
        trace = passes(shown.passages[prompt], layers, sequence=prompt, **about)
        stop = min(_WRAP, len(trace)) if where else len(trace)
        figure = figures.skipped(trace, stop=stop, **where)
        number = f"the first {stop} of {len(trace)} tokens" if stop < len(trace) else "tokens"
        (where.get("ax") or figure.axes[-1]).set_xlabel(f"{number} written after prompt {prompt + 1}")
        return figure

    def save_policy(self, policy: Policy | None, path: Path) -> str:
        """Write a policy that `policies.from_json` reads; returns the message to show."""
        if policy is None:
            raise ValueError("expected a policy to save, got the dense model; choose another in the menu")
        save(policy, path)
        self._files = {arrays: file for arrays, file in self._files.items() if file != path.resolve()}
        if not (arrays := arrays_of(policy)):
            return f"saved {policy.describe()} in {path}; saturation.policies.from_json reads it"
        self._files[frozenset(one.digest for one in arrays)] = path.resolve()
        return f"saved {policy.describe()} in {path}, its arrays beside it; saturation.policies.load reads both"

    def export(self, figure: Figure, path: Path, **options: Any) -> str:
        """Write a figure and its numbers at a venue's width, as `figures.save` does; returns the message to show."""
        about = {"model": self.name, "revision": self.revision, "dtype": self.dtype}
        written = figures.save(figure, path, about=about, **options)
        return f"exported {path}, with {', '.join(file.name for file in written[1:])} beside it"
