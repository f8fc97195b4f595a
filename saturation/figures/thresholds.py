"""Skip rate against threshold, as predicted by replay and as measured in live runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from saturation.policies import FFNSkip, replay_thresholds
from saturation.trace import Trace

from . import style
from .metrics import FLOOR, cosine_text, share_axis
from .source import Source, of_traces, sourced

Points = Sequence[tuple[float, float]]  # (threshold, skip rate)
_STEPS = 200  # thresholds along a curve


def replay(
    trace: Trace,
    policy: FFNSkip | Mapping[str, FFNSkip],
    *,
    actual: Points | Mapping[str, Points] | None = None,
    thresholds: Sequence[float] | None = None,
    ratio: Literal["nominal", "decode", "total"] = "decode",
    ax: Axes | None = None,
) -> Figure:
    """Draw the skip rate that replay predicts for every threshold, and that of live runs.

    Skipping a block shifts the similarities of those behind it, so that live runs leave the curve.

    Parameters
    ----------
    trace : Trace
        A dense one.
    policy : FFNSkip, or mapping from label to FFNSkip
        The rule; its own threshold does not matter.
    actual : sequence of (threshold, rate), or mapping from label to that, optional
        Live runs, drawn as markers.
    thresholds : sequence of float, optional
        Cosines; by default 200 over the recorded range, evenly spread in log(1 - cos).
    ratio : "nominal", "decode" or "total"
        Which of the three skip ratios.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For live runs under a label that no policy has, or a trace without a positive distance.
    """
    rules = dict(policy) if isinstance(policy, Mapping) else {"": policy}
    lived = dict(actual) if isinstance(actual, Mapping) else {"": actual} if actual else {}
    if unknown := [label for label in lived if label not in rules]:
        known = ", ".join(map(repr, rules))
        raise ValueError(f"expected live runs of {known}, got some of {unknown[0]!r}; rename them")
    limits = 1 - np.asarray(thresholds) if thresholds is not None else _limits(trace)
    if ax is None:
        ax = style.new()[1][0]
    keys, tables = [], []
    for index, (label, rule) in enumerate(rules.items()):
        look, name = style.look(index), f"{label}, " if label else ""
        rate = replay_thresholds(rule, trace, (1 - limits).tolist())[ratio]
        tables.append(_rates(label, "predicted", 1 - limits, rate))
        ax.plot(limits, rate, color=look.colour, linestyle=look.line, linewidth=1.2)
        keys.append(Line2D([], [], color=look.colour, linestyle=look.line, linewidth=1.2, label=f"{name}predicted"))
        if points := lived.get(label):
            distance, live = np.array([(1 - threshold, rate) for threshold, rate in points]).T
            tables.append(_rates(label, "live", 1 - distance, live))
            options: dict[str, Any] = {
                "color": look.colour,
                "marker": look.marker,
                "linestyle": "none",
                "markersize": 4.5,
            }
            keys.append(ax.plot(distance, live, label=f"{name}live", **options)[0])
    _threshold_axis(ax)
    share_axis(ax.yaxis)
    ax.set_ylim(0, None)
    ax.set_ylabel(f"FFN blocks skipped ({ratio})")
    style.grid(ax)
    style.legend(ax, keys)
    about = {"ratio": ratio, **of_traces({"": trace})}
    return sourced(style.figure_of(ax), Source("replay", pd.concat(tables, ignore_index=True), about))


def _rates(label: str, run: str, threshold: np.ndarray, rate: Any) -> pd.DataFrame:
    return pd.DataFrame({"policy": label, "run": run, "threshold": threshold, "rate": np.asarray(rate)})


def _limits(trace: Trace) -> np.ndarray:
    """Distances over the recorded range, evenly spread in their logarithm."""
    ran = trace.distance[np.isfinite(trace.distance) & (trace.distance > FLOOR)]
    if not len(ran):
        raise ValueError("nothing to draw: the trace has no distance above 0; record some tokens of a dense run")
    low, high = np.quantile(ran.astype(np.float64), (0.001, 0.9))
    return np.geomspace(low, min(max(high, 2 * low), 1.0), _STEPS)


def _threshold_axis(ax: Axes) -> None:
    """Thresholds along x, logarithmic in 1 - cos, higher cosines to the right."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    ax.xaxis.set_major_locator(LogLocator(base=10))
    ax.xaxis.set_major_formatter(FuncFormatter(cosine_text))
    ax.xaxis.set_minor_locator(LogLocator(base=10, subs=range(1, 10)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("threshold (cosine)")
