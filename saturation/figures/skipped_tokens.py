"""Skipped blocks per token, drawn along the text."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from saturation.trace import Trace

from . import style
from .heatmap import label_room, line_height, stretch, text_axis, wrapped
from .inputs import cells
from .source import Source, of_traces, sourced

_RAN, _LEFT_OUT = "#eeeeee", "#0072B2"  # grey paper, and a blue that prints dark


def skipped(
    trace: Trace,
    *,
    sequence: int | None = None,
    start: int = 0,
    stop: int | None = None,
    ax: Axes | None = None,
    wrap: int = 44,
) -> Figure:
    """Draw which and how many feed-forward blocks were skipped at each token.

    Each column is one forward pass, under the token it reads; dark is a block that did not run. Above each column
    stands how many of its blocks were skipped.

    Parameters
    ----------
    trace : Trace
        A trace of a skipping run.
    sequence, start, stop, ax, wrap
        As for `tokens`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be drawn, and why.
    """
    part, place = stretch(trace, sequence, start, stop, "distance")
    wrap, lines = wrapped(len(place), wrap, ax)
    height = 0.4 + (line_height(part) + 0.12) * len(lines)
    axes = [ax] if ax is not None else style.new(len(lines), height=height)[1]
    for line, drawn_in in zip(lines, axes, strict=True):
        _line(drawn_in, part, place[line], wrap)
    colours = {"FFN ran": _RAN, "FFN skipped": _LEFT_OUT}
    patches = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    style.legend(axes[0], patches, above=7.0 + label_room(part, place[lines[0]]))  # the numbers stand between
    axes[-1].set_xlabel(f"tokens {start} to {start + len(place) - 1} of sequence {part.tokens['sequence'].iloc[0]}")
    data = cells(part, place, part.skipped[place].astype(int))
    return sourced(style.figure_of(axes[0]), Source("skipped", data, of_traces({"": part})))


def _line(ax: Axes, trace: Trace, place: np.ndarray, wrap: int) -> None:
    """One line of the text: a cell per block, a number per token."""
    mask = trace.skipped[place]  # [token, layer]
    ax.pcolormesh(
        np.arange(len(place) + 1) - 0.5,
        np.arange(trace.layers + 1) - 0.5,
        mask.T,
        cmap=ListedColormap([_RAN, _LEFT_OUT]),
        vmin=0,
        vmax=1,
        edgecolor="white",
        linewidth=0.3,
        rasterized=True,
    )
    ax.set_xlim(-0.5, wrap - 0.5)
    text_axis(ax, trace, place, lift=8.0)
    for column, number in enumerate(mask.sum(axis=1)):
        if number:
            above = trace.layers - 0.5
            ax.text(column, above, str(number), ha="center", va="bottom", fontsize=6, clip_on=False)
