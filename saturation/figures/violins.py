"""Violin figures: the distribution of a metric over tokens, by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from saturation.policies import SINK
from saturation.trace import Phase, Trace

from . import metrics, style
from .inputs import Traces, columns, labelled, sink_words, sinks
from .source import Source, of_traces, sourced

_BINS = 256  # over the range of a layer's logarithms
_SHARES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)  # percentiles that are kept beside the picture
_REACH = 0.92  # of the room between two layers that violins may fill


def distribution(
    traces: Traces,
    *,
    layers: int | Iterable[int] | None = None,
    ax: Axes | None = None,
    metric: str = "distance",
    phase: Phase | None = None,
    sink: int = SINK,
) -> Figure:
    """Draw the distribution over tokens of a metric's logarithm, for each layer.

    Violins of equal width on the axes of `figures.layers`, each with its median and the bar from 10 to 90 % of
    the tokens. Two traces share a violin, the first at its left; more stand beside each other.

    Parameters
    ----------
    traces : Trace, or mapping from label to Trace
        What to draw, up to four.
    layers : int or iterable of int, optional
        The layers to draw, by their own numbers; all by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.
    metric : str
        "distance" (drawn as a cosine), or another metric with a logarithmic axis.
    phase : "prefill" or "decode", optional
        Which tokens; all of them by default.
    sink : int
        Positions at the start of each sequence that are left out, which the legend says; 0 takes all tokens.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    chosen, first = labelled(traces, phase, metric, sink=sink), sinks(traces, phase, metric, sink)
    if metrics.METRICS[metric].axis == "linear" or len(chosen) > 4:
        raise ValueError(
            f"expected up to 4 traces and a metric with a logarithmic axis, got {len(chosen)} and {metric}"
        )
    if layers is not None:
        layers = [layers] if isinstance(layers, int) else list(layers)
        chosen = {label: trace.select(layers=layers) for label, trace in chosen.items()}
    if ax is None:
        ax = style.new()[1][0]
    for index, trace in enumerate(chosen.values()):
        _violins(ax, trace, metric, index, len(chosen))
    metrics.scale(ax, metric, both=True)
    style.layer_axis(ax, chosen.values())
    style.grid(ax)
    ax.set_ylabel(metrics.METRICS[metric].name)
    without = [Line2D([], [], linestyle="none", label=f"without the {sink_words(sink)}")] if first else []
    style.legend(ax, [*_keys(list(chosen)), *without])
    about = {"metric": metric, "sink": sink, **of_traces(chosen)}
    source = Source("distribution", _percentiles(chosen, metric), about)
    return sourced(style.figure_of(ax), source)


def _percentiles(traces: Mapping[str, Trace], metric: str) -> pd.DataFrame:
    """The distributions as a table: one row per trace and layer."""
    rows = [
        {"trace": label, "layer": layer, "blocks": len(values)}
        | {f"{share} %": value for share, value in zip(_SHARES, np.percentile(values, _SHARES), strict=True)}
        for label, trace in traces.items()
        for layer, values in zip(trace.layer_numbers, columns(trace, metric), strict=True)
        if len(values)
    ]
    return pd.DataFrame(rows)


def _violins(ax: Axes, trace: Trace, metric: str, index: int, count: int) -> None:
    """Draw one trace's violins in its part of each layer's width."""
    look, width = style.look(index), _REACH / max(count, 1)
    left, right = (-1.0, 1.0) if count != 2 else [(-2.0, 0.0), (0.0, 2.0)][index]  # halves of one violin
    offset = 0.0 if count == 2 else (index - (count - 1) / 2) * width
    width = width / 2
    for layer, values in zip(trace.layer_numbers, columns(trace, metric), strict=True):
        if len(values) == 0:
            continue
        at, logarithm = layer + offset, np.log10(metrics.drawn(metric, values))
        height, density = _density(logarithm)
        low, middle, high = 10 ** np.quantile(logarithm, (0.1, 0.5, 0.9))
        edges = at + left * width * density, at + right * width * density
        ax.fill_betweenx(10**height, *edges, facecolor=look.colour, alpha=0.45, linewidth=0)
        inner = at + (left + right) / 2 * width * 0.25
        ax.plot([inner, inner], [low, high], color=look.colour, linewidth=0.9, solid_capstyle="butt")
        ax.plot(inner, middle, color=look.colour, marker=look.marker, markersize=2.6, linestyle="none")


def _density(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth density of numbers with maximum 1: positions and heights, each [_BINS].

    A histogram under a Gaussian of Silverman's width, 0.9 min(sd, IQR / 1.34) n^(-1/5) (Silverman 1986, 3.31).
    """
    quarter, three_quarters = np.quantile(values, (0.25, 0.75))
    spread = min(values.std(), (three_quarters - quarter) / 1.34) or values.std() or 0.01
    width = max(0.9 * spread * len(values) ** -0.2, 1e-3)
    edges = np.linspace(values.min() - 2 * width, values.max() + 2 * width, _BINS + 1)
    counts, step = np.histogram(values, edges)[0], edges[1] - edges[0]
    reach = min(int(np.ceil(3 * width / step)), _BINS // 2 - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    density = np.convolve(counts, kernel, mode="same")
    return (edges[:-1] + edges[1:]) / 2, density / density.max()


def _keys(labels: list[str]) -> list[Artist]:
    """Legend: each trace's violin with its marker, so that a grey print tells them apart; then what the bars mean."""
    looks = [(label, style.look(index)) for index, label in enumerate(labels)]
    keys: list[Artist] = [
        Line2D(
            [],
            [],
            color=to_rgba(look.colour, 0.45),
            linewidth=6,
            solid_capstyle="butt",
            marker=look.marker,
            markersize=2.6,
            markerfacecolor=look.colour,
            markeredgecolor=look.colour,
            label=label or "tokens",
        )
        for label, look in looks
    ]
    return [*keys, Line2D([], [], color="#606060", linewidth=0.9, marker=".", label="median, 10–90 %")]
