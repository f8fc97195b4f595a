"""Inputs of figures: one or several labelled traces, checked and prepared for drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from saturation.policies import SINK
from saturation.trace import Phase, Trace

from .metrics import METRICS

Traces = Trace | Mapping[str, Trace]  # one, or label -> trace: models, corpora, phases, trained against untrained


def labelled(traces: Traces, phase: Phase | None, metric: str, *, sink: int = 0) -> dict[str, Trace]:
    """Label -> the tokens of a phase past the sink, each trace with tokens and with the metric asked for.

    Raises
    ------
    TypeError
        If this is neither a Trace nor a mapping from labels to traces.
    ValueError
        If there is nothing to draw, or a trace lacks the metric.
    """
    if metric not in METRICS:
        raise ValueError(f"expected a metric among {', '.join(METRICS)}, got {metric!r}")
    given = {traces.model: traces} if isinstance(traces, Trace) else traces
    if not isinstance(given, Mapping) or not all(isinstance(trace, Trace) for trace in given.values()):
        raise TypeError(
            f"figures draw a Trace, or a mapping from a label to each Trace, but got {type(traces).__name__}; write "
            "figures.layers({'trained': one, 'untrained': other})"
        )
    if not given:
        raise ValueError("nothing to draw: the mapping from labels to traces is empty")
    return {str(label): _drawable(str(label), trace, phase, metric, sink) for label, trace in given.items()}


def sinks(traces: Traces, phase: Phase | None, metric: str, sink: int) -> dict[str, Trace]:
    """Label -> the tokens of a phase that `labelled` leaves out, of those traces that have any."""
    given = labelled(traces, phase, metric)
    first = {label: trace.select(stop=sink) for label, trace in given.items()} if sink else {}
    return {label: trace for label, trace in first.items() if len(trace)}


def sink_words(sink: int) -> str:
    """Legend label of the tokens that are drawn separately."""
    return f"first {sink} tokens (attention sink)" if sink > 1 else "first token (attention sink)"


def _drawable(label: str, trace: Trace, phase: Phase | None, metric: str, sink: int) -> Trace:
    name = f"the trace {label!r}" if label else "the trace"
    if metric not in trace.groups:
        raise ValueError(
            f"{name} has no {metric}; it has {', '.join(trace.groups)}, so record it anew with {metric} among `also`"
        )
    if not isinstance(sink, int) or sink < 0:
        raise ValueError(f"expected sink to be a whole number of positions from 0, got {sink!r}; {SINK} is usual")
    whole = trace.select(phase=phase) if phase else trace
    chosen = whole.select(start=sink) if sink else whole
    if len(chosen) == 0 < len(whole):
        raise ValueError(
            f"nothing to draw: {name} has no tokens past the attention sink, the first {sink} positions of each "
            "sequence; record longer texts, or give sink=0"
        )
    if len(chosen) == 0:
        there = "no tokens" if len(trace) == 0 else f"no {phase} tokens among its {len(trace)}"
        raise ValueError(
            f"nothing to draw: {name} has {there}; record with max_new_tokens or a start position for decode tokens, "
            "or draw another phase"
        )
    if np.isnan(chosen.groups[metric]).all():
        raise ValueError(f"nothing to draw: {name} has no {metric}, for every block in it was skipped")
    return chosen


def columns(trace: Trace, metric: str) -> Iterator[np.ndarray]:
    """Each layer's numbers over the blocks that ran, float64 [token]."""
    for column in trace.groups[metric].T:
        yield column[~np.isnan(column)].astype(np.float64)


@dataclass(frozen=True)
class Summary:
    """Mean and quantiles per layer, each [layer]; NaN where no block of a layer ran."""

    layer: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def summary(trace: Trace, metric: str, quantiles: tuple[float, float] | None) -> Summary:
    """Mean over tokens of each layer, and two quantiles (the mean itself where none are asked)."""
    rows = [(values.mean(), *np.quantile(values, quantiles or (0.5, 0.5))) if len(values) else (np.nan,) * 3
            for values in columns(trace, metric)]  # fmt: skip
    mean, low, high = np.array(rows).T
    return Summary(trace.layer_numbers, mean, low, high)


def profile(
    traces: Mapping[str, Trace], metric: str, quantiles: tuple[float, float] | None, tokens: str = ""
) -> pd.DataFrame:
    """Table of `summary`, one row per trace and layer; `tokens` names the sink's tokens."""
    name = f"1 - {METRICS[metric].name}" if METRICS[metric].axis == "cosine" else METRICS[metric].name
    tables = []
    for label, trace in traces.items():
        points = summary(trace, metric, quantiles)
        ran = [len(values) for values in columns(trace, metric)]
        table = pd.DataFrame(
            {
                "trace": label,
                "metric": name,
                "layer": points.layer,
                "blocks": ran,
                "mean": points.mean,
            }
        )
        low, high = (f"{100 * share:g} %" for share in quantiles or (0, 1))
        table = table.assign(tokens=tokens) if tokens else table
        tables.append(table if quantiles is None else table.assign(**{low: points.low, high: points.high}))
    return pd.concat(tables, ignore_index=True)


def cells(trace: Trace, place: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Tokens of a trace with one column of these values [token, layer] per layer."""
    named = pd.DataFrame(values, columns=[f"layer {number}" for number in trace.layer_numbers])
    return pd.concat([trace.tokens.iloc[place].reset_index(drop=True), named], axis=1)


def check_quantiles(quantiles: tuple[float, float] | None) -> None:
    """Raise ValueError unless these are two rising shares."""
    if quantiles is not None and not (len(quantiles) == 2 and 0 <= quantiles[0] < quantiles[1] <= 1):
        raise ValueError(f"expected quantiles as two rising shares such as (0.1, 0.9), or None, got {quantiles}")
