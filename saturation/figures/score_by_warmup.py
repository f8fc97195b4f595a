"""Scores against the length of the warm-up, the part of the answer that the dense model writes."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import policy_styles, style
from .metrics import share_axis
from .score_tables import SCORES, Columns, chosen, printed
from .source import Source, sourced
from .tradeoff import dense_line, lines

_WARMUP = re.compile(r",? warm-up (\d+)")  # as `FFNSkip.describe` says it; nothing is said of a warm-up of 0
_POSITION = ", by position"  # said behind a warm-up that counts the prompt's tokens too


def warmup(
    table: pd.DataFrame,
    *,
    score: str | None = None,
    task: str | None = None,
    x: str = "warmup",
    y: str = "mean",
    low: str = "low",
    high: str = "high",
    by: str = "policy",
    ratio: str = "answer",
    label: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a score against the warm-up, one line per policy or ratio, and the skip ratio below.

    While it warms up the dense model writes; an answer shorter than the warm-up is the dense model's own, however
    good it is. So the share of blocks skipped on the answer's own tokens stands below the score.

    Parameters
    ----------
    table : pandas.DataFrame
        What `quality.summarise` gives, or one row per warm-up and policy.
    score, task : str, optional
        Which rows of a summary, where it holds several scores or tasks.
    x : str
        The column of the warm-ups, in generated tokens; without one they are read from the policies' names
        ("..., warm-up 25"; 0 where none is named). Warm-ups by position are lines of their own.
    y, low, high, by : str
        Columns: value, the ends of its interval, and the name of the policy or ratio.
    ratio : str
        The column of the share skipped, drawn where the table has it and `ax` is not given.
    label : str, optional
        What the axis of the score is called.
    ax : matplotlib.axes.Axes, optional
        Where to draw the score alone; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, one without those columns, or several scores or tasks of which none was chosen.
    """
    rows, score = chosen(table, score, task)
    rows = rows if x in rows or by not in rows else _read(rows, x, by)
    columns = Columns(y, low, high, by, x)
    columns.check(rows)
    sparse = rows[rows[by] != policy_styles.DENSE]
    below = ratio in rows and ax is None
    axes = [ax] if ax is not None else style.new(1 + below, height=2.2 + 1.0 * below, **_two(below))[1]
    names = sparse[by].astype(str)
    keys = lines(axes[0], sparse, names, columns)
    keys += dense_line(axes[0], rows[rows[by] == policy_styles.DENSE], columns)
    axes[0].set_ylabel(label or SCORES.get(score or y, score or y))
    if below:
        for name, look in policy_styles.looks(names).items():
            own = sparse[names == name].sort_values(x)
            axes[1].plot(own[x], own[ratio], **look.line_options(1))
        _share_axis(axes[1], ratio)
    for each in axes:
        style.grid(each)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel(f"warm-up ({_unit(names)})")
    style.legend(axes[0], keys)
    figure = style.figure_of(axes[0])
    figure.align_ylabels(axes)
    return sourced(
        figure, Source("warmup", rows, dict(table.attrs), printed(rows, columns, score, by, x, answer="skipped"))
    )


def levels(names: pd.Series) -> list[int]:
    """The different warm-ups among names of policies, without the dense run."""
    sparse = names[names != policy_styles.DENSE]
    return sorted(set(sparse.str.extract(_WARMUP, expand=False).fillna("0").astype(int)))


def _read(rows: pd.DataFrame, x: str, by: str) -> pd.DataFrame:
    """Rows with the warm-ups moved from the policies' names into a column."""
    found = rows[by].str.extract(_WARMUP, expand=False).fillna("0").astype(int)
    return rows.assign(**{x: found, by: rows[by].str.replace(_WARMUP, "", regex=True)})


def _unit(names: pd.Series) -> str:
    """The unit of the warm-ups, from the policies' names."""
    by_position = names.str.contains(_POSITION, regex=False)
    return "positions" if by_position.all() else "tokens" if by_position.any() else "generated tokens"


def _two(below: bool) -> dict[str, Any]:
    return {"sharex": True, "height_ratios": (2, 1)} if below else {}


def _share_axis(ax: Axes, ratio: str) -> None:
    share_axis(ax.yaxis)
    ax.set_ylim(0, None)
    ax.set_ylabel({"answer": "skipped\n(answer)", "decode": "skipped\n(decode)"}.get(ratio, ratio))
