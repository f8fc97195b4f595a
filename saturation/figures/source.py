"""The source of a figure: data and origin, kept with the figure so that `save` can write them beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from saturation.trace import Harm, Trace


@dataclass(frozen=True, eq=False)
class Source:
    """The numbers in a figure and their origin.

    Attributes
    ----------
    kind : str
        The function that drew it.
    data : pandas.DataFrame, optional
        What is drawn; None where it is not known.
    about : dict
        Where it comes from: models, revisions, dtypes, seeds; whatever JSON can hold.
    table : pandas.DataFrame, optional
        The same as a table to be printed, its cells text.
    """

    kind: str
    data: pd.DataFrame | None = None
    about: dict[str, Any] = field(default_factory=dict)
    table: pd.DataFrame | None = None


class Paper(Figure):
    """A figure with its source, which notebooks show even where pyplot was never imported.

    Attributes
    ----------
    sources : list of Source
        One for each function of ours that drew in it.
    fit : callable, optional
        Width -> the height in inches that it needs there, for figures whose text is wrapped anew.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sources: list[Source] = []
        self.fit: Callable[[float], float] | None = None

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=160)
        return buffer.getvalue()


def sourced(figure: Figure, source: Source) -> Figure:
    """Store the source in a figure of ours; a caller's own figure does not change."""
    if isinstance(figure, Paper):
        figure.sources.append(source)
    return figure


def source_of(figure: Figure, data: pd.DataFrame | None, about: Mapping[str, Any]) -> Source:
    """The source of a figure: the caller's, or else its only source."""
    sources = figure.sources if isinstance(figure, Paper) else []
    own = sources[0] if len(sources) == 1 else Source("figure")
    own = own if data is None else Source(own.kind, data, own.about)
    return replace(own, about={**own.about, **about})


def of_traces(traces: Mapping[str, Trace]) -> dict[str, Any]:
    """Origin of traces by label."""
    return {"traces": [_of(label, trace) for label, trace in traces.items()]}


def of_harm(harm: Harm) -> dict[str, Any]:
    """Origin of a record of harm."""
    return {"harm": [_of("", harm)]}


def _of(label: str, trace: Trace | Harm) -> dict[str, Any]:
    return {
        "label": label,
        "model": trace.model,
        "revision": trace.revision,
        "dtype": trace.dtype,
        "tokens": len(trace),
        "layers": trace.layers,
        "provenance": trace.provenance,
    }
