"""Matrix figures: calibration source x task, and the overlap of prunings."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style
from .source import Source, sourced

_ROW = 0.19  # inches
_LETTERS = 12  # of a column's name in a line
_LEAST = 1e-3  # nats; what is less has the colour of this


def sources(
    table: pd.DataFrame,
    *,
    y: str = "rise",
    dense: str | None = "dense",
    label: str = "rise of loss (nats per token)",
    ax: Axes | None = None,
) -> Figure:
    """Draw the cost of each calibration source on each task; darker is worse, the best of a task is framed.

    Parameters
    ----------
    table : pandas.DataFrame
        What `study.rises` gives, of one method, sparsity and format each (select them first): one row per `source` and
        `task`, with the column `y`, and `seeds` and `spread` where there are some.
    y : str
        The column that is drawn; less is better.
    dense : str, optional
        The column of the dense model's own loss, drawn under the others; None leaves it out.
    label : str
        What the colours mean.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a table without rows or columns, or with several rows of one source and task.
    """
    if missing := [name for name in ("source", "task", y) if name not in table]:
        raise ValueError(
            f"expected a table of study.rises with the columns source, task and {y}, found no {missing[0]!r} among "
            f"{', '.join(map(str, table.columns))}; name the value with y="
        )
    if not len(table):
        raise ValueError("nothing to draw: the table has no rows")
    if (twice := table.duplicated(["source", "task"])).any():
        source, task = table.loc[twice, ["source", "task"]].iloc[0]
        raise ValueError(
            f"expected one row for each source and task, got several of {source!r} on {task!r}; select one method, "
            "sparsity, format and policy"
        )
    columns = list(dict.fromkeys(table["task"]))
    values = table.pivot(index="source", columns="task", values=y)[columns]  # [source, task]
    values = values.loc[values.rank().mean(axis=1).sort_values(kind="stable").index]  # the best on most tasks first
    ax = style.new(height=1.1 + _ROW * (len(values) + 1))[1][0] if ax is None else ax
    grid = values.to_numpy(dtype=float)
    top = max(float(np.nanmax(grid)), 10 * _LEAST)
    _cells(ax, np.clip(grid, _LEAST, None), LogNorm(_LEAST, top), [[_number(value) for value in row] for row in grid])
    for column, best in enumerate(np.nanargmin(grid, axis=0)):
        frame: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 1.4}
        ax.add_patch(Rectangle((column - 0.5, best - 0.5), 1, 1, **frame))
    names = list(values.index)
    if dense is not None and dense in table:
        levels = table.groupby("task", sort=False)[dense].mean()
        for column, task in enumerate(columns):
            _lettered(ax, column, len(names), _number(levels[task]), "#606060")
        names.append("dense model's loss")
    _named(ax, names, columns)
    _bar(ax, label)
    drawn = values.reset_index()
    printed = drawn.map(lambda cell: cell if isinstance(cell, str) else f"{cell:.3f}")
    return sourced(style.figure_of(ax), Source("sources", table, dict(table.attrs), printed))


def overlap(
    share: np.ndarray,
    names: Sequence[str],
    *,
    label: str = "Jaccard index of the masks",
    ax: Axes | None = None,
) -> Figure:
    """Draw the overlap of the weights that prunings remove.

    Parameters
    ----------
    share : numpy.ndarray
        [pruning, pruning], from 0 to 1, as `study.overlaps` gives it.
    names : sequence of str
        Of the prunings.
    label : str
        What the colours mean.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Where there are not as many names as rows and columns.
    """
    share = np.asarray(share, dtype=float)
    if share.shape != (len(names), len(names)) or not len(names):
        raise ValueError(
            f"expected as many names as rows and columns, at least one, got {len(names)} names and "
            f"{list(share.shape)}; give a name for each"
        )
    ax = style.new(height=1.1 + _ROW * len(names))[1][0] if ax is None else ax
    apart = share[~np.eye(len(share), dtype=bool)]
    low, high = (float(apart.min()), float(apart.max())) if len(apart) else (0.0, 1.0)
    high = high if high > low else low + 0.01
    told = [[f"{value:.2f}" for value in row] for row in share]
    _cells(ax, 1 - share, Normalize(1 - high, 1 - low, clip=True), told)
    _named(ax, names, list(names))
    _bar(ax, label, reverse=True)
    data = pd.DataFrame(share, index=list(names), columns=list(names)).rename_axis("pruning").reset_index()
    return sourced(style.figure_of(ax), Source("overlap", data))


def _number(value: float) -> str:
    """Of a cell: two decimals, three below a tenth, where models differ in the third."""
    return f"{value:z.3f}" if abs(value) < 0.1 else f"{value:.2f}"


def _cells(ax: Axes, values: np.ndarray, norm: Normalize, texts: list[list[str]]) -> None:
    """Draw cells with their numbers, [row, column]; higher is darker."""
    ax.imshow(values, norm=norm, cmap=colormaps["Greys"], aspect="auto", interpolation="nearest").set_gid("cells")
    for row, told in enumerate(texts):
        for column, text in enumerate(told):
            dark = np.ma.filled(norm(values[row, column]), 0.0) > 0.55
            _lettered(ax, column, row, "" if text == "nan" else text, "white" if dark else "black")


def _lettered(ax: Axes, column: int, row: int, text: str, colour: str) -> None:
    ax.text(column, row, text, ha="center", va="center", fontsize=style.TOKEN, color=colour)


def _named(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    many = len(columns) > 7
    told = [
        str(name) if many else fill(str(name).replace("_", " "), _LETTERS, break_long_words=False) for name in columns
    ]
    ax.set_xticks(np.arange(len(columns)), told, parse_math=False)
    ax.set_yticks(np.arange(len(rows)), [str(name) for name in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(length=0, labelrotation=0)
    if many:
        ax.tick_params(axis="x", labelrotation=90)
    ax.spines[:].set_visible(False)


def _bar(ax: Axes, label: str, *, reverse: bool = False) -> None:
    """Draw the colour bar beside the cells."""
    bar = style.figure_of(ax).colorbar(ax.images[-1], ax=ax, pad=0.01, fraction=0.04)
    bar.set_label(label, fontsize=ax.yaxis.label.get_fontsize())
    bar.ax.tick_params(labelsize=style.tick_size(ax), width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)
    if reverse:  # the cells' shades are of 1 - share
        least, most = map(float, ax.images[-1].get_clim())
        ticks = [tick for tick in map(float, bar.get_ticks()) if least <= tick <= most]
        bar.set_ticks(ticks, labels=[f"{1 - tick:.2f}" for tick in ticks])
