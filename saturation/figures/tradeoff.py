"""Quality against skipped blocks: what each policy pays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from . import style

PLACES = ("FFN-SkipLLM", "static", "random")  # their colours and markers stay the same in every figure


def tradeoff(
    table: pd.DataFrame,
    *,
    x: str = "ratio",
    y: str = "loss",
    low: str = "low",
    high: str = "high",
    by: str = "policy",
    xlabel: str = "FFN blocks skipped (of all at decoded tokens)",
    ylabel: str = "rise of loss (nats per token)",
    dense: float | None = 0.0,
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw quality against the share of skipped blocks, one line per policy, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per setting.
    x, y, low, high, by : str
        Its columns: skip ratio, value, the ends of the value's interval, and the policy's name.
    xlabel, ylabel : str
        What the axes are called.
    dense : float, optional
        The value without skipping, drawn as a line; None for none.
    log : bool
        True spreads small values: linear below a fiftieth of the largest, logarithmic above.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, or one without those columns.
    """
    if missing := [name for name in (x, y, low, high, by) if name not in table.columns]:
        raise ValueError(
            f"expected a table with the columns {', '.join((x, y, low, high, by))}, found no {missing[0]!r} among "
            f"{', '.join(map(str, table.columns))}; name yours with x=, y=, low=, high= and by="
        )
    if not len(table):
        raise ValueError("nothing to draw: the table has no rows")
    if ax is None:
        ax = style.new()[1][0]
    if log:
        ax.set_yscale("symlog", linthresh=float(np.abs(table[[y, low, high]]).to_numpy().max()) / 50)
    if dense is not None:
        ax.axhline(dense, color="#606060", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    keys = []
    for name, index in _places(table[by]).items():
        rows, look = table[table[by] == name].sort_values(x), style.look(index)
        spread = np.abs(rows[[low, high]].to_numpy(dtype=float).T - rows[y].to_numpy(dtype=float))  # [2, row]
        drawn = ax.errorbar(rows[x], rows[y], spread, capsize=1.8, elinewidth=0.8, **look.line_options(1))
        drawn.set_label(name)
        keys.append(drawn)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlim(0, None)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    style.grid(ax)
    style.legend(ax, keys)
    return style.figure_of(ax)


def _places(names: Iterable[str]) -> dict[str, int]:
    """Name -> place of its look; known policies have one of their own."""
    found = list(dict.fromkeys(names))
    others = [name for name in found if name not in PLACES]
    return {name: PLACES.index(name) if name in PLACES else len(PLACES) + others.index(name) for name in found}
