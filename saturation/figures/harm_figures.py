"""Harm figures: harm by layer, and harm against the numbers of a trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from saturation.trace import Harm, Trace, rank_correlations
from saturation.trace.correlation import predictor

from . import metrics, style
from .inputs import check_quantiles
from .source import Source, of_harm, sourced

_NAMES = {"kl": "FFN", "attention_kl": "attention"}  # what is left out
_RANKED = {"distance": "1 − cos", "growth": "growth", "position": "position"}
_COLOURS = colormaps["Blues"]
_LEAST = 1e-9  # nats: smaller harm is rounding, and is drawn at this value
_BINS = 48  # cells along either axis of a density
_SEEN = 0.001  # share of the blocks that may lie beyond either end of an axis


def harm(
    measured: Harm,
    *,
    ax: Axes | None = None,
    quantiles: tuple[float, float] | None = (0.1, 0.9),
) -> Figure:
    """Draw the mean harm of each layer with a band between two quantiles of the tokens, on a logarithmic axis.

    Parameters
    ----------
    measured : Harm
        Attention is drawn beside the feed-forward blocks where it was measured.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.
    quantiles : pair of float, optional
        Shares of the tokens below the band's two edges; None for no band. The median is drawn as a thin line.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    check_quantiles(quantiles)
    _check(measured)
    if ax is None:
        ax = style.new()[1][0]
    tables, handles = [], []
    for index, (name, array) in enumerate(measured.groups.items()):
        table = _by_layer(measured, array, quantiles)
        tables.append(table.assign(**{"left out": _NAMES[name]}))
        handles.append(_curve(ax, table, quantiles, index, _NAMES[name]))
    handles.append(Line2D([], [], color="#606060", linewidth=0.8, linestyle=(0, (1, 1)), label="median"))
    if quantiles is not None:
        low, high = (f"{100 * share:g}" for share in quantiles)
        handles.append(Patch(facecolor="#808080", alpha=0.25, label=f"{low}–{high} % {_tokens(measured)}"))
    _logarithmic(ax, "y")
    style.layer_axis(ax, [measured])
    style.grid(ax)
    ax.set_ylabel(_axis(measured))
    style.legend(ax, handles)
    data = pd.concat(tables, ignore_index=True)
    return sourced(style.figure_of(ax), Source("harm", data, of_harm(measured)))


def harm_against(
    measured: Harm,
    trace: Trace,
    *,
    by: Literal["distance", "growth", "position"] = "distance",
    ax: Axes | None = None,
    resamples: int = 1000,
) -> Figure:
    """Draw the harm of every block against a number of its trace, as a density, with Spearman's rho.

    Parameters
    ----------
    measured : Harm
        Of the feed-forward blocks.
    trace : Trace
        Of the same texts and model.
    by : "distance", "growth" or "position"
        What the x axis shows; of a distance the cosine, more similar to the right.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new figure is made.
    resamples : int
        Of the bootstrap over texts that gives the intervals.

    Returns
    -------
    matplotlib.figure.Figure
        The legend holds rho within a layer (averaged over the layers) and pooled over all blocks, each with its 95 %
        interval.

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    _check(measured)
    if by not in ("distance", "growth", "position"):
        raise ValueError(f"expected by to be 'distance', 'growth' or 'position', got {by!r}; choose one")
    ranks = rank_correlations(measured, trace, [by], resamples=resamples)
    x, y, layer = _blocks(measured, trace, by)
    if ax is None:
        ax = style.new(height=2.6)[1][0]
    _density(ax, x, y, linear=by == "position")
    _logarithmic(ax, "y")
    if by == "position":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("position in the text")
    else:
        _logarithmic(ax, "x", cosine=by == "distance")
        ax.set_xlabel(metrics.METRICS[by].name)
    ax.set_ylabel(_axis(measured))
    said = f"{len(x):,} blocks; Spearman with {_RANKED[by]}"
    handles: list[Artist] = [Patch(facecolor=_COLOURS(0.7), label=said)]
    handles += [Line2D([], [], linestyle="none", label=_said(row)) for row in ranks.itertuples()]
    style.legend(ax, handles)
    data = pd.DataFrame({"layer": layer, by: x, "kl": y})
    about = {"by": by, "rank correlations": ranks.to_dict("records"), **of_harm(measured)}
    return sourced(style.figure_of(ax), Source("harm_against", data, about))


def _check(measured: Harm) -> None:
    if not isinstance(measured, Harm):
        raise TypeError(f"expected a Harm, as saturation.harm gives it, got {type(measured).__name__}; measure one")
    if not measured.measured.any():
        raise ValueError(
            f"nothing to draw: none of the {len(measured)} tokens was measured; measure longer texts, or with a "
            "smaller sink"
        )


def _axis(measured: Harm) -> str:
    """Label of the y axis, which marks estimates."""
    name = "KL(dense ‖ without), nats"
    return f"estimated {name}" if measured.provenance.get("estimate") else name


def _tokens(measured: Harm) -> str:
    """Short description of the measured tokens."""
    sink = measured.provenance.get("sink")
    return f"past the sink ({sink})" if sink else "of tokens"


def _by_layer(measured: Harm, array: np.ndarray, quantiles: tuple[float, float] | None) -> pd.DataFrame:
    values = array[measured.measured].astype(np.float64)  # [token, layer]
    table = pd.DataFrame({"layer": measured.layer_numbers, "tokens": len(values), "mean": values.mean(axis=0)}).assign(
        median=np.median(values, axis=0)
    )
    for share in quantiles or ():
        table[f"{100 * share:g} %"] = np.quantile(values, share, axis=0)
    return table


def _curve(ax: Axes, table: pd.DataFrame, quantiles: tuple[float, float] | None, index: int, label: str) -> Artist:
    look, shown = style.look(index), table.clip(lower=_LEAST)
    if quantiles is not None:
        low, high = (shown[f"{100 * share:g} %"] for share in quantiles)
        ax.fill_between(table["layer"], low, high, color=look.colour, alpha=0.18, linewidth=0)
    ax.plot(table["layer"], shown["median"], color=look.colour, linewidth=0.8, linestyle=(0, (1, 1)))
    return ax.plot(table["layer"], shown["mean"], label=f"{label}, mean", **look.line_options(len(table)))[0]


def _blocks(measured: Harm, trace: Trace, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The x of every measured block, its harm, and its layer, [block] each."""
    values = predictor(by, trace)
    there = np.isfinite(values) & np.isfinite(measured.kl)
    layer = np.broadcast_to(measured.layer_numbers, there.shape)
    return values[there], measured.kl[there].astype(np.float64), layer[there]


def _density(ax: Axes, x: np.ndarray, y: np.ndarray, *, linear: bool) -> None:
    """Draw the number of blocks per cell, darker for more; every cell with a block is visible."""
    edges = _edges(x, metrics.FLOOR, linear), _edges(y, _LEAST, False)
    inside = [np.clip(values, *side[[0, -1]]) for values, side in zip((x, y), edges, strict=True)]
    counts, *_ = np.histogramdd(np.stack(inside, axis=1), bins=edges)
    shown = np.ma.masked_equal(counts.T, 0)
    most = max(2.0, float(counts.max()))
    ax.pcolormesh(edges[0], edges[1], shown, cmap=_COLOURS, norm=LogNorm(0.25, most), rasterized=True, linewidth=0)


def _edges(values: np.ndarray, least: float, linear: bool) -> np.ndarray:
    """Edges of the cells along one axis; the few blocks beyond its ends go into the outer cells."""
    low, high = np.quantile(values, (_SEEN, 1 - _SEEN))
    if linear:  # whole numbers, equally many in every cell
        step = np.ceil((high - low + 1) / _BINS)
        return np.arange(np.floor(low) - 0.5, high + step, step)
    low, high = max(low, least), max(high, least)
    return np.geomspace(low / 1.1, high * 1.1, _BINS + 1)


def _logarithmic(ax: Axes, side: Literal["x", "y"], *, cosine: bool = False) -> None:
    """Make an axis logarithmic; label distances by cosine, with more similar values at the far end."""
    axis: Axis = ax.yaxis if side == "y" else ax.xaxis
    (ax.set_yscale if side == "y" else ax.set_xscale)("log")
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(metrics.cosine_text if cosine else _power))
    axis.set_minor_formatter(NullFormatter())
    axis.set_inverted(cosine)


def _power(number: float, position: int | None = None) -> str:
    """A power of ten: written out from 0.001 to 1000, else as 10 to the power."""
    exponent = round(np.log10(number)) if number > 0 else 0
    return metrics.number_text(number) if -3 <= exponent <= 3 else f"$10^{{{exponent}}}$"


def _said(row: object) -> str:
    """Add Spearman's rho as a legend."""
    rho, low, high, scope = (getattr(row, name) for name in ("rho", "low", "high", "scope"))
    spread = f" ({low:.2f} to {high:.2f})" if low == low else ""
    return f"{scope} {rho:.2f}{spread}".replace("-", "−")
