"""Layer curves: mean and spread of a metric per layer, for one or several traces."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from saturation.policies import SINK
from saturation.trace import Phase, Trace

from . import metrics, style
from .inputs import Traces, check_quantiles, labelled, profile, sink_words, sinks, summary
from .source import Source, of_traces, sourced


def layers(
    traces: Traces,
    *,
    ax: Axes | None = None,
    metric: str = "distance",
    phase: Phase | None = None,
    quantiles: tuple[float, float] | None = (0.1, 0.9),
    cold_start: int = 0,
    cold_end: int = 0,
    sink: int = SINK,
) -> Figure:
    """Draw the mean of a metric per layer with a band between two quantiles of the tokens.

    The mean is over the tokens past the attention sink whose block ran; that of the sink's own tokens is dash-dotted
    beside it. Of a distance it is 1 minus the mean cosine, so the curve is that of the mean cosine.

    Parameters
    ----------
    traces : Trace, or mapping from label to Trace
        Several are drawn over each other: models, corpora, phases, trained against untrained. Their numbers of
        layers may differ.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.
    metric : str
        "distance" (drawn as a cosine), "growth", or a metric recorded on request.
    phase : "prefill" or "decode", optional
        Which tokens; all of them by default.
    quantiles : pair of float, optional
        Shares of the tokens below the band's two edges; None for no band.
    cold_start, cold_end : int
        Layers at either end that are never skipped, shaded.
    sink : int
        Positions at the start of each sequence that are drawn apart; 0 takes all tokens together.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    check_quantiles(quantiles)
    chosen, first = labelled(traces, phase, metric, sink=sink), sinks(traces, phase, metric, sink)
    if ax is None:
        ax = style.new()[1][0]
    lines = [curve(ax, label, trace, metric, quantiles, index) for index, (label, trace) in enumerate(chosen.items())]
    apart = sink_lines(ax, chosen, first, metric, sink)
    metrics.scale(ax, metric, both=True)
    style.layer_axis(ax, chosen.values())
    style.grid(ax)
    ax.set_ylabel(f"mean {metrics.METRICS[metric].name}")
    marks = _cold_regions(ax, chosen, cold_start, cold_end)
    style.legend(ax, [*lines, *_band_key(quantiles, len(lines)), *apart, *marks])
    data = pd.concat([profile(chosen, metric, quantiles), *sink_profile(first, metric, quantiles, sink)])
    return sourced(style.figure_of(ax), Source("layers", data, {"sink": sink, **of_traces(chosen)}))


def curve(ax: Axes, label: str, trace: Trace, metric: str, quantiles: tuple[float, float] | None, index: int) -> Artist:
    """Draw one trace's mean and band in its style; return the line."""
    points, look = summary(trace, metric, quantiles), style.look(index)
    if quantiles is not None:
        low, high = metrics.drawn(metric, points.low), metrics.drawn(metric, points.high)
        ax.fill_between(points.layer, low, high, color=look.colour, alpha=0.18, linewidth=0)
    options = look.line_options(len(points.layer))
    return ax.plot(points.layer, metrics.drawn(metric, points.mean), label=label or "mean", **options)[0]


def sink_lines(ax: Axes, traces: dict[str, Trace], first: dict[str, Trace], metric: str, sink: int) -> list[Artist]:
    """Draw the mean over the sink's tokens, dash-dotted, in each trace's colour; return the legend's handles."""
    for label, trace in first.items():
        points, look = summary(trace, metric, None), style.look([*traces].index(label))
        ax.plot(points.layer, metrics.drawn(metric, points.mean), color=look.colour, **_SINK)
    colour = style.look(0).colour if len(traces) == 1 else "#808080"
    return [Line2D([], [], color=colour, label=sink_words(sink), **_SINK)] if first else []


def sink_profile(
    first: dict[str, Trace], metric: str, quantiles: tuple[float, float] | None, sink: int
) -> list[pd.DataFrame]:
    """Rows of the table for the sink's tokens, if any."""
    return [profile(first, metric, quantiles, sink_words(sink))] if first else []


_SINK: dict[str, Any] = {"linestyle": (0, (4, 1.2, 1, 1.2)), "linewidth": 0.9, "marker": "|", "markersize": 4}


def _band_key(quantiles: tuple[float, float] | None, traces: int) -> list[Artist]:
    if quantiles is None:
        return []
    colour = style.look(0).colour if traces == 1 else "#808080"
    low, high = (f"{100 * share:g}" for share in quantiles)
    return [Patch(facecolor=colour, alpha=0.25, label=f"{low}–{high} % of tokens")]


def _cold_regions(ax: Axes, traces: dict[str, Trace], start: int, end: int) -> list[Artist]:
    """Shade the layers that are never skipped; return the legend's handles."""
    depths = {len(trace.layer_numbers): trace.layer_numbers for trace in traces.values()}
    if end and len(depths) > 1:
        raise ValueError(
            f"cold_end counts layers from the last, but the traces have {' and '.join(map(str, depths))} layers; draw "
            "them apart, or leave cold_end out"
        )
    ends = [end for numbers in depths.values() for end in (numbers[0], numbers[-1])]
    first, last = min(ends), max(ends)
    if start < 0 or end < 0 or start + end > last + 1:
        raise ValueError(
            f"cold_start and cold_end count layers at either end of {last + 1}, but they are {start} and {end}"
        )
    spans = [(first - 0.5, start - 0.5), (last - end + 0.5, last + 0.5)]
    for left, right in spans:
        if left < right:
            ax.axvspan(left, right, zorder=0, **style.COLD)
    return [Patch(label="cold layers", **style.COLD)] if start or end else []
