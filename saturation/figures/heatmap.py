"""Token heatmap: layer x token, with the text along the axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from saturation.policies import SINK
from saturation.trace import Trace

from . import labels, metrics, style
from .inputs import cells, labelled
from .source import Source, of_traces, sourced

_SHOWN = 64  # tokens shown by default
_BOUNDARY: dict[str, Any] = {
    "color": "black",
    "linewidth": 1.0,
    "path_effects": [patheffects.withStroke(linewidth=2.6, foreground="white")],
}
_SINK: dict[str, Any] = {**_BOUNDARY, "linestyle": (0, (1, 1))}


def tokens(
    trace: Trace,
    *,
    sequence: int | None = None,
    start: int = 0,
    stop: int | None = None,
    ax: Axes | None = None,
    metric: str = "distance",
    limits: tuple[float, float] | None = None,
    wrap: int = 44,
) -> Figure:
    """Draw a metric for every layer and token of a stretch of text.

    Each column is one forward pass, under the token it reads. Brighter is more similar; hatched grey is a block that
    was skipped; a line, named above it, stands before the first decoded token, a dotted one behind the attention sink,
    the first positions, which policies leave alone. White space shows as · (space), ↵ and ⇥, an empty text as ∅.

    Parameters
    ----------
    trace : Trace
        What was measured.
    sequence : int, optional
        Which sequence; the first of the trace by default.
    start, stop : int
        Tokens of that sequence to draw; `stop` is 64 tokens on by default, or the end of the sequence.
    ax : matplotlib.axes.Axes, optional
        Where to draw, in one line; without it a new figure is made.
    metric : str
        "distance" (drawn as a cosine), "growth", or a metric recorded on request.
    limits : pair of float, optional
        The metric's values (distances, not cosines) at the ends of the colours; by default 1 % of the cells shown
        lie beyond each. Give the same to figures that are compared.
    wrap : int
        Tokens in a line before the next begins under it: 44 are legible across a page, 20 in a column.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    part, place = stretch(trace, sequence, start, stop, metric)
    count = len(place)
    wrap, lines = wrapped(count, wrap, ax)
    values = metrics.drawn(metric, part.groups[metric][place].astype(np.float64))  # [token, layer]
    axes = [ax] if ax is not None else style.new(len(lines), height=0.3 + line_height(part) * len(lines))[1]
    colours = ScalarMappable(_norm(metric, values, limits), _map(metric))
    for line, drawn_in in zip(lines, axes, strict=True):
        _line(drawn_in, part, place[line], values[line], wrap, colours)
    _colour_bar(axes, colours, metric)
    if part.skipped[place].any():
        style.legend(axes[0], [Patch(label="skipped", **_SKIPPED)], above=label_room(part, place[lines[0]]))
    said = "\ndotted: end of the attention sink" if 0 < sink_tokens(part, place) < count else ""
    axes[-1].set_xlabel(f"tokens {start} to {start + count - 1} of sequence {part.tokens['sequence'].iloc[0]}{said}")
    data = cells(part, place, part.groups[metric][place])
    return sourced(style.figure_of(axes[0]), Source("tokens", data, {"metric": metric, **of_traces({"": part})}))


def stretch(trace: Trace, sequence: int | None, start: int, stop: int | None, metric: str) -> tuple[Trace, np.ndarray]:
    """One sequence, and its rows to draw."""
    whole = next(iter(labelled(trace, None, metric).values()))
    part = whole.select(sequence=int(whole.tokens["sequence"].iloc[0]) if sequence is None else sequence)
    place = np.arange(len(part))[start : start + _SHOWN if stop is None else stop]
    if start < 0 or len(place) == 0:
        raise ValueError(
            f"nothing to draw: expected tokens from start={start} to stop={stop}, but the sequence has the tokens "
            f"0 to {len(part) - 1}"
        )
    labels.warn(part.tokens["text"].iloc[place])
    return part, place


def wrapped(count: int, wrap: int, ax: Axes | None) -> tuple[int, list[slice]]:
    """Number of tokens in a line, and the lines as slices of `count` tokens; given axes hold one line."""
    wrap = count if ax is not None else min(wrap, count)
    if wrap < 1:
        raise ValueError(f"expected at least 1 token in a line, got wrap={wrap}")
    return wrap, [slice(begin, min(begin + wrap, count)) for begin in range(0, count, wrap)]


def line_height(trace: Trace) -> float:
    """Height of one line in inches: the layers, and the labels below."""
    longest = min(labels.LONGEST, max(map(len, trace.tokens["text"]), default=1))
    return min(max(0.055 * trace.layers, 0.6), 2.2) + 0.062 * longest + 0.1


def _map(metric: str) -> Any:
    """Colour map from low to high; similar is bright, for distances and for cosines."""
    return colormaps["viridis_r" if metrics.METRICS[metric].axis != "linear" else "viridis"]


def _norm(metric: str, values: np.ndarray, limits: tuple[float, float] | None) -> Normalize:
    if limits is not None and not limits[0] < limits[1]:
        raise ValueError(f"expected limits as two rising values of {metric}, got {limits}")
    ran = values[np.isfinite(values)]
    low, high = limits or (tuple(np.quantile(ran, (0.01, 0.99))) if len(ran) else (0.1, 1.0))
    if metrics.METRICS[metric].axis == "linear":
        return Normalize(low, high)
    return LogNorm(low, high if high > low else low * 1.01)


def _line(ax: Axes, trace: Trace, place: np.ndarray, values: np.ndarray, wrap: int, colours: ScalarMappable) -> None:
    """Draw one line of the text: cells, skipped cells, the boundary, tokens along the axis."""
    edges = (-0.5, len(place) - 0.5, -0.5, trace.layers - 0.5)
    ax.imshow(
        values.T,  # [layer, token]
        norm=colours.norm,  # type: ignore[arg-type]
        cmap=colours.cmap,
        origin="lower",
        aspect="auto",
        extent=edges,
        interpolation="nearest",
    )
    ax.set_xlim(-0.5, wrap - 0.5)
    _hatch(ax, trace.skipped[place])
    text_axis(ax, trace, place)


def text_axis(ax: Axes, trace: Trace, place: np.ndarray, *, lift: float = 1.0) -> None:
    """Write the tokens of one line along the x axis and its layers along y.

    A line stands before decoding, its name so many points above the axes.
    """
    decoding = trace.decoding[place]
    if (starts := first_decoded(trace)) is not None and place[0] <= starts <= place[-1]:
        _boundary(ax, starts - place[0] - 0.5, lift)
    if 0 < (inside := sink_tokens(trace, place)) < len(place):
        ax.axvline(inside - 0.5, **_SINK)
    names = [labels.visible(text) for text in trace.tokens["text"].iloc[place]]
    lettered: dict[str, Any] = {"fontsize": style.TOKEN, "fontfamily": labels.families()}
    ax.set_xticks(np.arange(len(place)), names, rotation=90, parse_math=False, **lettered)
    ax.spines[:].set_visible(False)
    for tick, decoded in zip(ax.get_xticklabels(), decoding, strict=True):
        tick.set_color("black" if decoded else "#606060")
    ax.tick_params(axis="x", length=0, pad=1.5)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 4, 5, 10]))
    if trace.kept_layers is not None:
        ax.set_yticks(np.arange(trace.layers), [str(number) for number in trace.layer_numbers])
    ax.set_ylabel("layer")


def sink_tokens(trace: Trace, place: np.ndarray) -> int:
    """Number of tokens of a line in the attention sink."""
    return int((trace.tokens["position"].iloc[place] < SINK).sum())


def _boundary(ax: Axes, x: float, lift: float) -> None:
    """Draw a vertical line at x, with its label at the top on the side with more room."""
    ax.axvline(x, **_BOUNDARY)
    left = x < np.mean(ax.get_xlim())
    options: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points", "va": "bottom"}
    text, side = ("↓ decoding starts", "left") if left else ("decoding starts ↓", "right")
    offset = (-3 if left else 3, lift)  # the arrow's tip is over the line
    ax.annotate(text, (x, 1), offset, ha=side, fontsize=style.tick_size(ax), annotation_clip=False, **options)


def label_room(trace: Trace, place: np.ndarray) -> float:
    """Points that the label of the boundary takes above a line of text, if it is there."""
    starts = first_decoded(trace)
    return 9.0 if starts is not None and place[0] <= starts <= place[-1] else 0.0


def first_decoded(trace: Trace) -> int | None:
    """Row of the first decoded token, if there is prefill before it."""
    decoding = trace.decoding
    return int(np.argmax(decoding)) if decoding.any() and not decoding[0] else None


def _hatch(ax: Axes, skipped: np.ndarray) -> None:
    """Hatch the marked cells of a mask [token, layer]."""
    if not skipped.any():
        return
    corner = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    marked = np.argwhere(skipped)[:, None, :] + corner  # [cell, corner, (token, layer)]
    ax.add_collection(PolyCollection(marked, **_SKIPPED, rasterized=True), autolim=False)


_SKIPPED: dict[str, Any] = {
    "facecolor": style.SKIPPED,
    "edgecolor": "white",
    "hatch": "//////",
    "linewidth": 0,
}


def _colour_bar(axes: list[Axes], colours: ScalarMappable, metric: str) -> None:
    kind = metrics.METRICS[metric].axis
    options: dict[str, Any] = {}
    if kind != "linear":
        text = metrics.cosine_text if kind == "cosine" else metrics.number_text
        options = {"ticks": metrics.RoundTicks(), "format": FuncFormatter(text)}
    figure = style.figure_of(axes[0])
    tall = 13 * len(axes)  # times as tall as wide
    bar = figure.colorbar(colours, ax=axes, pad=0.01, fraction=0.05, aspect=tall, extend="both", **options)
    bar.minorticks_off()
    bar.ax.yaxis.set_inverted(kind == "cosine")
    bar.set_label(metrics.METRICS[metric].name, fontsize=axes[0].yaxis.label.get_fontsize())
    bar.ax.tick_params(labelsize=style.tick_size(axes[0]), width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)
