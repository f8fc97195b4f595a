"""Growth panels: the cosine, the growth behind it, and the naive cosine that is often mistaken for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from saturation.policies import SINK
from saturation.trace import Phase, Trace

from . import metrics, style
from .curves import curve, sink_lines, sink_profile
from .inputs import Traces, check_quantiles, columns, labelled, profile, sinks
from .source import Source, of_traces, sourced

_CHANCE = "#606060"


def growth(
    traces: Traces,
    *,
    phase: Phase | None = None,
    quantiles: tuple[float, float] | None = (0.1, 0.9),
    sink: int = SINK,
) -> Figure:
    """Draw cosine, growth and naive cosine by layer, in panels.

    With rho = |FFN| / |h| and c = cos(h, FFN), cos(h, h + FFN) = (1 + rho c) / sqrt(1 + 2 rho c + rho^2): a
    residual stream that only grows makes the cosine rise, saturated or not. The top panel shows the cosine and,
    dotted, what a block of the same size at a right angle (c = 0) would give; the panel below shows rho. A third
    panel, when the traces have `naive_cosine`, shows the cosine of the normed input with the block's raw output,
    which says nothing about saturation, beside the right one.

    Parameters
    ----------
    traces : Trace, or mapping from label to Trace
        Give the same-seed untrained model beside a trained one.
    phase : "prefill" or "decode", optional
        Which tokens; all of them by default.
    quantiles : pair of float, optional
        Shares of the tokens below the bands' edges; None for no bands.
    sink : int
        Positions at the start of each sequence that are drawn apart, dash-dotted; 0 takes all tokens together.

    Returns
    -------
    matplotlib.figure.Figure
        Its axes are, from the top, the cosine, rho and, where it was recorded, the classic mistake.

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    check_quantiles(quantiles)
    chosen, first = labelled(traces, phase, "distance", sink=sink), sinks(traces, phase, "distance", sink)
    mistaken = {label: trace for label, trace in chosen.items() if trace.naive_cosine is not None}
    rows = 3 if mistaken else 2
    figure, axes = style.new(rows, height=0.5 + 1.35 * rows, sharex=True)
    for metric, ax in zip(("distance", "growth"), axes, strict=False):
        _panel(ax, chosen, metric, quantiles)
        apart = sink_lines(ax, chosen, first, metric, sink)
    _right_angles(axes[0], chosen, apart)
    if mistaken:
        _mistake(axes[2], chosen, mistaken, quantiles)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    figure.align_ylabels(axes)
    metrics = {"distance": chosen, "growth": chosen, "naive_cosine": mistaken}
    data = [profile(having, metric, quantiles) for metric, having in metrics.items() if having]
    data += [rows for metric in ("distance", "growth") for rows in sink_profile(first, metric, quantiles, sink)]
    return sourced(figure, Source("growth", pd.concat(data), {"sink": sink, **of_traces(chosen)}))


def _panel(ax: Axes, traces: dict[str, Trace], metric: str, quantiles: tuple[float, float] | None) -> None:
    for index, (label, trace) in enumerate(traces.items()):
        curve(ax, label, trace, metric, quantiles, index)
    metrics.scale(ax, metric)
    style.layer_axis(ax, traces.values())
    style.grid(ax)
    ax.set_ylabel(metrics.METRICS[metric].name)


def right_angle(growth: np.ndarray) -> np.ndarray:
    """1 - cos(h, h + FFN) of a block that adds rho |h| at a right angle to h: 1 - 1 / sqrt(1 + rho^2)."""
    squared = np.square(growth)
    return squared / (
        np.sqrt(1 + squared) * (1 + np.sqrt(1 + squared))
    )  # avoids the difference of nearly equal numbers


def _right_angles(ax: Axes, traces: dict[str, Trace], others: list[Artist]) -> None:
    for index, trace in enumerate(traces.values()):
        means = [right_angle(values).mean() if len(values) else np.nan for values in columns(trace, "growth")]
        at = trace.layer_numbers, metrics.drawn("distance", np.array(means))
        ax.plot(*at, color=style.look(index).colour, linestyle=(0, (1, 1.5)), linewidth=1)
    key = Line2D([], [], color=_CHANCE, linestyle=(0, (1, 1.5)), linewidth=1, label="same ρ at a right angle")
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    style.legend(ax, [*lines, key, *others])


def _mistake(
    ax: Axes, traces: dict[str, Trace], mistaken: dict[str, Trace], quantiles: tuple[float, float] | None
) -> None:
    """Draw the right cosine and the naive one on one plain axis from -1 to 1."""
    for index, (label, trace) in enumerate(traces.items()):
        options = style.look(index).line_options(trace.layers)
        means = [1 - values.mean() if len(values) else np.nan for values in columns(trace, "distance")]
        ax.plot(trace.layer_numbers, means, **options)
        if label in mistaken:
            line = curve(ax, label, trace, "naive_cosine", quantiles, index)
            line.set(markerfacecolor="white", linewidth=0.8)
    ax.axhline(0, color=_CHANCE, linewidth=0.5)
    ax.set_ylim(-1.05, 1.1)
    style.layer_axis(ax, traces.values())
    style.grid(ax)
    ax.set_ylabel("cosine")
    keys = [
        Line2D([], [], color=_CHANCE, marker="o", markersize=3.2, label="cos(h, h + FFN): the measure"),
        Line2D([], [], color=_CHANCE, marker="o", markersize=3.2, linewidth=0.8, markerfacecolor="white",
               label="cos(norm h, FFN): the classic mistake"),
    ]  # fmt: skip
    style.legend(ax, keys)
