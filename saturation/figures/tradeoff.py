"""Quality against skipped blocks: what each policy pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from . import families, style
from .scales import spread_small
from .source import Source, sourced
from .summaries import LESS_IS_BETTER, RATIOS, SCORES, Columns, chosen, printed, spread

_FRONT: dict[str, Any] = {"color": "#d4d4d4", "linewidth": 4.5, "solid_capstyle": "round", "zorder": 0.9}
_DENSE: dict[str, Any] = {"color": "#606060", "linewidth": 0.8, "linestyle": (0, (2, 2)), "zorder": 1}
_INTERVAL: dict[str, Any] = {"facecolor": "#606060", "alpha": 0.1, "linewidth": 0, "zorder": 0}


def tradeoff(
    table: pd.DataFrame,
    *,
    score: str | None = None,
    task: str | None = None,
    x: str | None = None,
    y: str | None = None,
    low: str = "low",
    high: str = "high",
    by: str = "policy",
    xlabel: str | None = None,
    ylabel: str | None = None,
    dense: float | None = 0.0,
    front: bool = True,
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw quality against the share of skipped blocks, one line per kind of policy, with intervals.

    Policies that differ by their setting alone (threshold, ratio, layers) are one line, and a family of policies has
    the same colour and marker in every figure.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per setting: what `quality.summarise` gives, or a table of your own.
    score, task : str, optional
        Which rows of a summary, where it holds several scores or tasks.
    x, y, low, high, by : str
        Columns: skip ratio, value, the ends of the value's interval, and the policy's name. By default x and y are
        "decode" and "mean" of a summary, and "ratio" and "loss" of another table.
    xlabel, ylabel : str, optional
        What the axes are called.
    dense : float, optional
        The value without skipping, drawn as a line; None for none. A summary's policy "dense" comes before it.
    front : bool
        Draw a broad grey line through the settings that no other one beats in both skipping and quality.
    log : bool
        True spreads small values: logarithmic over the two decades of the largest, linear below.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, one without those columns, or several scores or tasks of which none was chosen.
    """
    summary = "score" in table.columns
    rows, score = chosen(table, score, task)
    x, y = x or ("decode" if summary else "ratio"), y or ("mean" if summary else "loss")
    columns = Columns(y, low, high, by, x)
    columns.check(rows)
    if ax is None:
        ax = style.new()[1][0]
    if log:
        spread_small(ax, rows[[y, low, high]].to_numpy(dtype=float), decades=2)
    sparse = rows[rows[by] != families.DENSE]
    keys = lines(ax, sparse, sparse[by].astype(str).map(families.series), columns)
    keys += dense_line(ax, rows[rows[by] == families.DENSE], columns, dense)
    if front:
        keys += _front(ax, rows, columns, less_is_better=(score or y) in LESS_IS_BETTER)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlim(0, None)
    ax.set_xlabel(xlabel or RATIOS.get(x, x))
    ax.set_ylabel(ylabel or SCORES.get(score or y, score or y))
    style.grid(ax)
    style.legend(ax, keys)
    source = Source("tradeoff", rows, dict(table.attrs), printed(rows, columns, score, by, **{x: "skipped"}))
    return sourced(style.figure_of(ax), source)


def efficient(skipped: pd.Series, value: pd.Series, *, less_is_better: bool) -> list[int]:
    """Places of the rows that no other row beats in skipping without losing in value, by falling share skipped."""
    worth = -value.to_numpy(dtype=float) if less_is_better else value.to_numpy(dtype=float)
    order = np.lexsort((-worth, -skipped.to_numpy(dtype=float)))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], worth[order]]))[:-1]  # of the rows that skip more
    return [int(place) for place, before in zip(order, best, strict=True) if worth[place] > before]


def lines(ax: Axes, rows: pd.DataFrame, names: pd.Series, columns: Columns) -> list[Any]:
    """One line through the rows of each name, from left to right, with intervals."""
    drawn = []
    for name, look in families.looks(names).items():
        own = rows[names == name].sort_values(columns.x)
        options = look.line_options(1)
        bars = ax.errorbar(own[columns.x], own[columns.y], spread(own, columns), capsize=1.8, elinewidth=0.8, **options)
        bars.set_label(name)
        drawn.append(bars)
    return drawn


def dense_line(ax: Axes, rows: pd.DataFrame, columns: Columns, level: float | None) -> list[Artist]:
    """A line at the value without skipping, with its interval where the table has it."""
    if len(rows):
        level = float(rows[columns.y].iloc[0])
        ax.axhspan(float(rows[columns.low].iloc[0]), float(rows[columns.high].iloc[0]), **_INTERVAL)
    return [] if level is None else [ax.axhline(level, label=families.DENSE, **_DENSE)]


def _front(ax: Axes, rows: pd.DataFrame, columns: Columns, *, less_is_better: bool) -> list[Artist]:
    best = rows.iloc[efficient(rows[columns.x], rows[columns.y], less_is_better=less_is_better)]
    return list(ax.plot(best[columns.x], best[columns.y], label="not beaten", **_FRONT))
