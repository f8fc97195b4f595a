"""Sizes, colours and new figures. Sizes are set on the artists, so no global setting is read or changed.

Colours are those of Okabe and Ito (Color Universal Design, 2008), told apart by colour-blind readers; each comes
with a marker and a kind of line of its own, so that a grey print is read as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from saturation.trace import Harm, Trace

from .source import Paper

LABEL, TICK, TOKEN = 8.0, 7.0, 6.5  # points; journals ask for 6 at least, and nothing is scaled afterwards
WIDTH, HEIGHT = 5.5, 2.4  # inches, of a figure until `save` gives it a venue's width
COLD: dict[str, Any] = {"facecolor": "#f0f0f0", "edgecolor": "#cccccc", "hatch": "....", "linewidth": 0}
SKIPPED = "#c8c8c8"
GRID = "#e6e6e6"
LETTERS = 47  # of a legend, that fit across a column
_HANDLE = 6.5  # letters that the handle before a label takes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class Look:
    """The look of one trace in a figure."""

    colour: str
    marker: str
    line: Any
    hollow: bool = False

    def line_options(self, points: int) -> dict[str, Any]:
        """Options of a line through `points` points, with at most 24 markers."""
        return {
            "color": self.colour,
            "linestyle": self.line,
            "linewidth": 1.2,
            "marker": self.marker,
            "markersize": 3.2,
            "markerfacecolor": "white" if self.hollow else self.colour,
            "markevery": max(1, points // 24),
        }


def look(index: int) -> Look:
    """Look of the trace with this index; from the eighth on colours repeat with other markers."""
    turn, place = divmod(index, len(_COLOURS))
    marker = _MARKERS[(place + turn) % len(_MARKERS)]
    return Look(_COLOURS[place], marker, _LINES[(place + 2 * turn) % len(_LINES)])


def new(rows: int = 1, *, height: float = HEIGHT, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure with rows of axes, in a layout that cuts nothing at any width."""
    figure = Paper(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0.03)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])
    for ax in axes:
        _dress(ax)
    return figure, axes


def _dress(ax: Axes) -> None:
    ax.tick_params(labelsize=TICK, width=0.6, length=2.5, pad=2)
    ax.tick_params(which="minor", width=0.4, length=1.5)
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(side in {"left", "bottom"})
    ax.xaxis.label.set_fontsize(LABEL)
    ax.yaxis.label.set_fontsize(LABEL)


def layer_axis(ax: Axes, traces: Iterable[Trace | Harm]) -> None:
    """Number the x axis by the layers of traces, with room for half a layer at either end."""
    ends = [end for trace in traces for end in trace.layer_numbers[[0, -1]]]
    ax.set_xlim(min(ends) - 0.5, max(ends) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 10]))
    ax.set_xlabel("layer")


def grid(ax: Axes) -> None:
    """Draw faint lines at the y axis's labels, behind everything."""
    ax.grid(axis="y", color=GRID, linewidth=0.5)
    ax.set_axisbelow(True)


def legend(ax: Axes, handles: list[Any], *, above: float = 0.0, letters: int = LETTERS) -> None:
    """Put a legend above the axes, in as many columns as the labels allow; `above` is in points."""
    labels = [fill(str(handle.get_label()), int(letters - _HANDLE)) for handle in handles]
    lengths = [max(map(len, label.splitlines())) for label in labels]
    fitting = [columns for columns in range(1, len(lengths) + 1) if _length(lengths, columns) <= letters]
    ax.legend(
        handles=handles,
        labels=labels,
        ncols=max(fitting, default=1),
        fontsize=tick_size(ax),
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=ax.transAxes + ScaledTranslation(0, above / 72, figure_of(ax).dpi_scale_trans),
        borderaxespad=0.3,
        borderpad=0,
        handlelength=2.2,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.3,
    )


def _length(lengths: list[int], columns: int) -> float:
    """Width in letters of a legend whose entries fill column after column."""
    return sum(max(part) + _HANDLE for part in np.array_split(lengths, columns))


def tick_size(ax: Axes) -> float:
    """Size in points of the smaller text in axes, from the size of their labels."""
    return float(ax.xaxis.label.get_fontsize()) * TICK / LABEL


def figure_of(ax: Axes) -> Figure:
    """The figure of axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes that were taken out of their figure cannot be drawn in
    return figure
