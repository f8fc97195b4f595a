"""Scores against an amount: calibration tokens, questions in a text, length or sparsity."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from . import style
from .metrics import share_axis, spread_small
from .score_tables import SCORES, Columns, chosen, printed
from .source import Source, sourced
from .tradeoff import lines


def amounts(
    table: pd.DataFrame,
    *,
    x: str,
    task: str | None = None,
    score: str | None = None,
    y: str = "rise",
    low: str = "low",
    high: str = "high",
    by: str = "source",
    xlabel: str | None = None,
    ylabel: str | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the cost of calibration against an amount, one line per source, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        What `study.rises` gives: one row per amount and source.
    x : str
        The column of the amounts: numbers up to 1 are shares on a linear axis, others are drawn at equal ratios.
    task, score : str, optional
        Which rows, where the table holds several tasks or scores.
    y, low, high, by : str
        Columns: value, the ends of its interval, and the name of the line.
    xlabel, ylabel, log, ax
        As for `tradeoff`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, one without those columns or with several rows of an amount and line, amounts that are no
        numbers, or several tasks of which none was chosen.
    """
    rows, score = chosen(table, score, task)
    columns = Columns(y, low, high, by, x)
    columns.check(rows)
    rows = rows.assign(**{x: pd.to_numeric(rows[x], errors="coerce")})
    if rows[x].isna().any() or (rows[x] < 0).any():
        raise ValueError(
            f"expected amounts of at least 0 in the column {x}, got something else; select rows that have one"
        )
    if (twice := rows.duplicated([x, by])).any():
        amount, name = rows.loc[twice, [x, by]].iloc[0]
        raise ValueError(
            f"expected one row for each amount and line, got several of {name!r} at {amount:g}; select one task, "
            "method, format and policy"
        )
    ax = style.new()[1][0] if ax is None else ax
    if log:
        spread_small(ax, rows[[y, low, high]].to_numpy(dtype=float), decades=2)
    keys = lines(ax, rows, rows[by].astype(str), columns)
    _amount_axis(ax, rows[x])
    ax.set_xlabel(xlabel or x)
    ax.set_ylabel(ylabel or SCORES.get({"rise": "loss"}.get(y, y), y))
    style.grid(ax)
    style.legend(ax, keys)
    source = Source("amounts", rows, dict(table.attrs), printed(rows, columns, score, by, x))
    return sourced(style.figure_of(ax), source)


def _amount_axis(ax: Axes, values: pd.Series) -> None:
    """Shares in percent, or the amounts themselves at equal ratios."""
    if values.max() <= 1:
        share_axis(ax.xaxis)
        return
    if values.min() > 0:
        ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
