"""The tradeoff figure: quality against skipped blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import policy_styles, style
from .metrics import share_axis, spread_small
from .score_tables import LESS_IS_BETTER, RATIOS, SCORES, Columns, chosen, printed, spread
from .source import Source, sourced

_FRONT: dict[str, Any] = {"color": "#a8a8a8", "linewidth": 2.2, "drawstyle": "steps-pre", "zorder": 1.1}
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
        The value without skipping, drawn as a line; None for none. The policy "dense" of a table comes before it, and
        a summary without one has no such line.
    front : bool
        Draw the Pareto front in grey steps: at each share of skipped blocks, the best value of the settings that skip
        as much or more. Its corners are the settings that no other one beats in both.
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
    if not summary and dense is not None:
        rows = _with_dense(rows, columns, dense)
    if ax is None:
        ax = style.new()[1][0]
    if log:
        spread_small(ax, rows[[y, low, high]].to_numpy(dtype=float), decades=2)
    sparse = rows[rows[by] != policy_styles.DENSE]
    keys = lines(ax, sparse, sparse[by].astype(str).map(policy_styles.series), columns)
    keys += dense_line(ax, rows[rows[by] == policy_styles.DENSE], columns)
    if front:
        keys += front_steps(ax, rows, columns, less_is_better=(score or y) in LESS_IS_BETTER)
    share_axis(ax.xaxis)
    widest = float(rows[x].max()) or 1.0
    ax.set_xlim(-0.03 * widest, 1.05 * widest)  # so that no marker at an end is cut
    ax.set_xlabel(xlabel or RATIOS.get(x, x))
    ax.set_ylabel(ylabel or SCORES.get(score or y, score or y))
    style.grid(ax)
    style.legend(ax, keys)
    source = Source("tradeoff", rows, dict(table.attrs), printed(rows, columns, score, by, **{x: "skipped"}))
    return sourced(style.figure_of(ax), source)


def efficient(skipped: pd.Series, value: pd.Series, *, less_is_better: bool) -> list[int]:
    """Indices of the Pareto-optimal rows in share skipped and value, by falling share skipped."""
    worth = -value.to_numpy(dtype=float) if less_is_better else value.to_numpy(dtype=float)
    order = np.lexsort((-worth, -skipped.to_numpy(dtype=float)))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], worth[order]]))[:-1]  # of the rows that skip more
    return [int(place) for place, before in zip(order, best, strict=True) if worth[place] > before]


def lines(ax: Axes, rows: pd.DataFrame, names: pd.Series, columns: Columns) -> list[Any]:
    """One line through the rows of each name, from left to right, with intervals."""
    drawn = []
    for name, look in policy_styles.looks(names).items():
        own = rows[names == name].sort_values(columns.x)
        options = look.line_options(1)
        bars = ax.errorbar(own[columns.x], own[columns.y], spread(own, columns), capsize=1.8, elinewidth=0.8, **options)
        bars.set_label(name)
        drawn.append(bars)
    return drawn


def dense_line(ax: Axes, rows: pd.DataFrame, columns: Columns) -> list[Artist]:
    """Draw a line at the dense value, with its interval where the table has one; nothing without a dense row."""
    if not len(rows):
        return []
    level, low, high = (float(rows[name].iloc[0]) for name in (columns.y, columns.low, columns.high))
    keys: list[Artist] = [ax.axhline(level, label=policy_styles.DENSE, **_DENSE)]
    if np.isfinite([low, high]).all():
        keys.append(ax.axhspan(low, high, label=f"{policy_styles.DENSE}, 95 %", **_INTERVAL))
    return keys


def _with_dense(rows: pd.DataFrame, columns: Columns, level: float) -> pd.DataFrame:
    """The rows with a row of the dense run added in front, if they have none."""
    if (rows[columns.by] == policy_styles.DENSE).any():
        return rows
    row = pd.DataFrame([{columns.by: policy_styles.DENSE, columns.x: 0.0, columns.y: level}])
    return pd.concat([row.reindex(columns=rows.columns), rows], ignore_index=True)


def front_steps(ax: Axes, rows: pd.DataFrame, columns: Columns, *, less_is_better: bool) -> list[Artist]:
    """Draw the Pareto front in grey steps; nothing without rows."""
    places = efficient(rows[columns.x], rows[columns.y], less_is_better=less_is_better)[::-1]
    corners = rows[[columns.x, columns.y]].to_numpy(dtype=float)[places]  # [corner, (skipped, value)]
    if not len(corners):
        return []
    begin = (0.0, corners[0, 1])  # who may skip nothing may skip as much as the first corner does
    return list(ax.plot(*np.vstack([begin, corners]).T, label="Pareto front", **_FRONT))
