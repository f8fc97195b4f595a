"""The picture that stands in a saved notebook for a widget that is no longer live."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..policies import replay
from ..trace import Trace

_OF_THE_FFN = ("distance", "growth", "naive_cosine")  # have no number where the FFN did not run


def picture(explorer: Any) -> str | None:
    """A PNG in base64 of the first tokens that an explorer shows, skipped blocks hatched; None where no block ran."""
    from .. import figures  # takes a second, and is needed only where a widget is shown

    row = int((explorer.selection or explorer.view)[0])
    trace, sequence = explorer.trace, explorer.trace.tokens["sequence"].to_numpy()
    start = int(np.count_nonzero(sequence[:row] == sequence[row]))
    part = trace.select(sequence=int(sequence[row]))
    own = explorer.mask is not None  # a rule is replayed on no more than is drawn
    part = marked(part, explorer.skipped[sequence == sequence[row]] if own else replay(explorer.policy, part).skipped)
    if np.isnan(part.groups[explorer.metric][start : start + 64]).all():
        return None
    return _png(figures.tokens(part, start=start, metric=explorer.metric))


class Pictured:
    """Lays a picture beside the live view of a tuner, for pages that show a notebook without a kernel."""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any] | None:
        bundle = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        if bundle is not None and (found := of_tuner(self)):
            bundle["image/png"] = found
        return bundle


def of_tuner(tuner: Any) -> str | None:
    """A PNG in base64 of what a `ThresholdTuner` measured so far and of the text, else of what the rule would skip."""
    for what in ("both", "pareto"):
        with suppress(ValueError):  # nothing measured yet, or a text that no longer belongs to the controls
            return _png(tuner.figure(what))
    return picture(tuner.explorer)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def marked(trace: Trace, skipped: np.ndarray) -> Trace:
    """The trace as if the blocks of a [token, layer] mask had not run."""
    gone = trace.skipped | skipped
    arrays = {name: array for name, array in trace.groups.items() if name in _OF_THE_FFN}
    changed: dict[str, Any] = {name: np.where(gone, np.float32(np.nan), array) for name, array in arrays.items()}
    return replace(trace, skipped=gone, **changed)
