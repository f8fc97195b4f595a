"""The still picture that a saved notebook shows in place of a widget without a kernel."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..policies import replay
from ..progress import kernel
from ..trace import Trace

_PNG = "image/png"
_REST = 2.0  # seconds of rest before drawing, so that a user who tries several settings waits for no picture
_OF_THE_FFN = ("distance", "growth", "naive_cosine")  # metrics that are NaN where the FFN did not run


def picture(explorer: Any) -> str | None:
    """A PNG in base64 of the first tokens in an explorer, with skipped blocks hatched; None where no block ran."""
    from .. import figures  # takes a second to import, and is needed only once a widget is shown

    row = int((explorer.selection or explorer.view)[0])
    trace, sequence = explorer.trace, explorer.trace.tokens["sequence"].to_numpy()
    start = int(np.count_nonzero(sequence[:row] == sequence[row]))
    part = trace.select(sequence=int(sequence[row]))
    own = explorer.mask is not None  # a rule is replayed only on the tokens that are drawn
    part = marked(part, explorer.skipped[sequence == sequence[row]] if own else replay(explorer.policy, part).skipped)
    if np.isnan(part.groups[explorer.metric][start : start + 64]).all():
        return None
    return _png(figures.tokens(part, start=start, metric=explorer.metric))


class Pictured:
    """A mixin that shows a still picture under the live view, as a separate output.

    Without its kernel JupyterLab shows a message in place of a live view, even where the same output holds a picture.
    So the picture is a second output. The style sheet of the live view hides it wherever a live view is shown.
    """

    _still: Any = None  # IPython's display handle of the picture, once it is shown

    def _ipython_display_(self, **options: Any) -> None:
        from IPython.display import display

        bundle = self._repr_mimebundle_()
        live, about = bundle if isinstance(bundle, tuple) else (bundle, {})
        if live is None:
            return
        display({kind: data for kind, data in live.items() if kind != _PNG}, metadata=about, raw=True)
        if kernel() is not None and (found := live.get(_PNG)):  # a terminal shows no picture
            self._still = display(_still(self, found), raw=True, display_id=True)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The MIME bundle of the live view, with the picture added."""
        bundle = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None and (found := self._pictured()):
            data[_PNG] = found
        return bundle

    def _pictured(self) -> str | None:
        """A PNG in base64 of what the widget shows; None where there is nothing to draw."""
        return picture(self)

    def redraw(self) -> None:
        """Update the still picture, if it is shown; call it in the thread that draws."""
        if self._still is not None and (found := self._pictured()):
            self._still.update(_still(self, found), raw=True)


def _still(widget: Any, found: str) -> dict[str, str]:
    return {_PNG: found, "text/plain": f"{widget!r}, as a picture"}


def at_rest(act: Callable[[], None]) -> None:
    """Call a function after a delay in the kernel's thread, where figures are drawn; do nothing without a kernel."""
    loop = getattr(kernel(), "io_loop", None)
    if loop is not None:
        loop.add_callback(lambda: loop.call_later(_REST, act))


def of_tuner(tuner: Any) -> str | None:
    """A PNG in base64 of a `ThresholdTuner`: its states and its text, or before those the blocks that it would skip."""
    for what in ("both", "pareto"):
        with suppress(ValueError):  # no state measured yet, or the text shown is stale
            return _png(tuner.figure(what))
    return picture(tuner.explorer)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def marked(trace: Trace, skipped: np.ndarray) -> Trace:
    """The trace with the blocks of a mask, bool [token, layer], marked as skipped."""
    gone = trace.skipped | skipped
    arrays = {name: array for name, array in trace.groups.items() if name in _OF_THE_FFN}
    changed: dict[str, Any] = {name: np.where(gone, np.float32(np.nan), array) for name, array in arrays.items()}
    return replace(trace, skipped=gone, **changed)
