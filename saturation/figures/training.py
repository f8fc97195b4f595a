"""Saturation over training: each layer's similarity, growth and importance at several checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import metrics, style
from .source import Source, sourced

_NAMES = {
    "cosine": "mean " + metrics.METRICS["distance"].name,
    "rho": metrics.METRICS["growth"].name,
    "rise": "rise of loss\nwithout it (nats)",
}
_COLOURS, _DARKEST, _LIGHTEST = "viridis_r", 0.95, 0.1  # later is darker, on a grey print too


def dynamics(
    table: pd.DataFrame,
    *,
    by: str = "tokens",
    layer: str = "layer",
    cosine: str = "cosine",
    rho: str = "rho",
    rise: str = "rise",
    about: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw cosine, rho and the cost of leaving out each block by layer, one line per checkpoint.

    A model that was never trained has high cosines too, by the growth of its residual stream alone; what training
    adds is seen only where the three stand over each other.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per checkpoint and layer.
    by : str
        The column that tells checkpoints apart: numbers of training tokens, drawn from light to dark, or names
        (such as trained and untrained), drawn in the table's order.
    layer, cosine, rho, rise : str
        Its other columns: the layer's number, the mean cosine of h and h + FFN, |FFN| / |h|, and the rise of the loss
        in nats per token when that one block is left out. The last three are drawn as far as the table has them.
    about : mapping, optional
        For the manifest: the model and its revision.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty table, or one without a column to draw.
    """
    drawn = {kind: name for kind, name in {"cosine": cosine, "rho": rho, "rise": rise}.items() if name in table}
    if missing := [name for name in (by, layer) if name not in table] or ([cosine] if not drawn else []):
        raise ValueError(
            f"expected a table with the columns {by}, {layer} and any of {cosine}, {rho}, {rise}, found no "
            f"{missing[0]!r} among {', '.join(map(str, table.columns))}; name yours with by=, layer=, cosine=, "
            "rho= and rise="
        )
    if not len(table):
        raise ValueError("nothing to draw: the table has no rows")
    figure, axes = style.new(len(drawn), height=0.6 + 1.25 * len(drawn), sharex=True)
    looks = _looks(table[by])
    for ax, (kind, name) in zip(axes, drawn.items(), strict=True):
        lines = [_line(ax, kind, label, table[table[by] == value], layer, name, look)
                 for value, (label, look) in looks.items()]  # fmt: skip
        _metric_axis(ax, kind, table[name].to_numpy(dtype=float))
        style.grid(ax)
        ax.set_ylabel(_NAMES[kind])
        if ax is axes[0]:
            style.legend(ax, lines)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 10]))
    axes[-1].set_xlim(table[layer].min() - 0.5, table[layer].max() + 0.5)
    axes[-1].set_xlabel("layer")
    figure.align_ylabels(axes)
    data = table[[by, layer, *drawn.values()]]
    return sourced(figure, Source("dynamics", data, {**table.attrs, **(about or {})}))


def _looks(values: pd.Series) -> dict[Any, tuple[str, style.Look]]:
    """Checkpoint -> its label and look: shades of one scale for numbers of tokens, the usual looks for names."""
    if not pd.api.types.is_numeric_dtype(values):
        return {name: (str(name), style.look(index)) for index, name in enumerate(dict.fromkeys(values))}
    ordered = sorted(set(values))
    shades = colormaps[_COLOURS](np.linspace(_LIGHTEST, _DARKEST, len(ordered)))
    return {
        value: (f"{_tokens_text(value)} tokens", style.Look(shade, style.look(index).marker, "-"))
        for index, (value, shade) in enumerate(zip(ordered, shades, strict=True))
    }


def _tokens_text(tokens: float) -> str:
    """A number of tokens in short form: 1,300,000 -> "1.3 M"."""
    size, unit = next(
        ((size, unit) for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")) if tokens >= size), (1, "")
    )
    return f"{tokens / size:.3g}{unit}"


def _line(ax: Axes, kind: str, label: str, rows: pd.DataFrame, layer: str, name: str, look: style.Look) -> Any:
    rows = rows.sort_values(layer)
    values = rows[name].to_numpy(dtype=float)
    values = metrics.drawn("distance", 1 - values) if kind == "cosine" else values
    return ax.plot(rows[layer], values, label=label, **look.line_options(len(rows)))[0]


def _metric_axis(ax: Axes, kind: str, values: np.ndarray) -> None:
    """Cosines and rho on the axes of the other figures; the rise logarithmic where it is large."""
    if kind != "rise":
        metrics.scale(ax, {"cosine": "distance", "rho": "growth"}[kind])
        return
    metrics.spread_small(ax, values, decades=3)
    ax.axhline(0, color="#606060", linewidth=0.5)
