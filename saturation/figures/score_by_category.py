"""Scores by kind of example and policy."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import policy_styles, style
from .score_tables import SCORES, Columns, chosen, printed, spread
from .source import Source, sourced

_ROW = 0.13  # inches from one policy to the next
_LETTERS = 18  # letters of a category's name in a line
_UNDER = 32  # letters that fit below the axes in a column
_SHARE = 0.8  # share of a category's height that its policies fill


def by_category(
    table: pd.DataFrame,
    *,
    score: str | None = None,
    task: str | None = None,
    category: str = "kind",
    y: str = "mean",
    low: str = "low",
    high: str = "high",
    by: str = "policy",
    least: int = 1,
    label: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a score for each kind of example, policies under each other, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        What `quality.summarise(rows, by=("task", "kind", "policy"))` gives, or one row per category and policy.
    score, task : str, optional
        Which rows of a summary, where it holds several scores or tasks.
    category : str
        The column of the categories; they are drawn in the table's order, from the top.
    y, low, high, by : str
        Columns: value, the ends of its interval, and the policy's name.
    least : int
        Categories of fewer examples are left out, which the axis then says, where the table counts them in "n".
    label : str, optional
        What the axis of the score is called.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, one without those columns or without a category of so many examples, or several scores
        or tasks of which none was chosen.
    """
    rows, score = chosen(table, score, task)
    columns = Columns(y, low, high, by, category, "category")
    columns.check(rows)
    rows, left_out = _counted(rows, category, least)
    kinds = list(dict.fromkeys(rows[category]))
    policies = sorted(dict.fromkeys(rows[by]), key=lambda name: name != policy_styles.DENSE)
    if ax is None:
        ax = style.new(height=0.75 + _ROW * len(kinds) * (len(policies) + 1))[1][0]
    places, step = {kind: place for place, kind in enumerate(kinds)}, _SHARE / len(policies)
    keys = []
    for index, (name, look) in enumerate(policy_styles.looks(policies).items()):
        own = rows[rows[by] == name]
        at = own[category].map(places).to_numpy(dtype=float) + (index - (len(policies) - 1) / 2) * step
        options = look.line_options(1) | {"linestyle": "none"}
        drawn = ax.errorbar(own[y], at, xerr=spread(own, columns), capsize=1.8, elinewidth=0.8, **options)
        drawn.set_label(name)
        keys.append(drawn)
    _category_axis(ax, [_named(kind, rows[rows[category] == kind]) for kind in kinds])
    ax.set_xlabel((label or SCORES.get(score or y, score or y)) + left_out)
    style.legend(ax, keys, letters=36)
    printable = printed(rows, columns, score, category, by, decode="skipped")
    return sourced(style.figure_of(ax), Source("by_category", rows, dict(table.attrs), printable))


def _counted(rows: pd.DataFrame, category: str, least: int) -> tuple[pd.DataFrame, str]:
    """Rows of categories with enough examples, and a note on the others."""
    if "n" not in rows:
        return rows, ""
    counts = rows.groupby(category, sort=False)["n"].max()
    few = list(counts.index[counts < least])
    if len(few) == len(counts):
        raise ValueError(
            f"nothing to draw: none of the {len(counts)} categories has {least} examples or more; give a smaller least="
        )
    said = fill(f"(under {least} examples and left out: {', '.join(map(str, few))})", _UNDER)
    return rows[~rows[category].isin(few)], f"\n{said}" if few else ""


def _named(kind: object, rows: pd.DataFrame) -> str:
    """A category with its number of examples, where the table knows it and all policies saw the same."""
    counts = set(rows["n"]) if "n" in rows else set()
    return fill(f"{kind} ({counts.pop()})" if len(counts) == 1 else str(kind), _LETTERS)


def _category_axis(ax: Axes, names: list[str]) -> None:
    """Categories from the top, a line between each two."""
    ax.set_yticks(np.arange(len(names)), names, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for border in np.arange(len(names) - 1) + 0.5:
        ax.axhline(border, color=style.GRID, linewidth=0.5, zorder=0)
    ax.grid(axis="x", color=style.GRID, linewidth=0.5)
    ax.set_axisbelow(True)
