"""Metrics in figures: names, scales and ticks; cosines on a scale logarithmic in 1 - cos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

_LETTER = 7.0  # points, the default size of a letter
FLOOR = 2.0**-24  # half a float32 step below a cosine of 1: a smaller distance is drawn here
_SPACING = 1.6  # heights of a letter that a label needs
_SUBDIVISIONS = ((1.0, 2.0, 5.0), (1.0, 5.0), (1.0,))  # of a decade, the finest first


@dataclass(frozen=True)
class Metric:
    """The name, scale and direction of one group of a trace's numbers in figures.

    Attributes
    ----------
    name : str
        What the axis is called.
    axis : "cosine", "log" or "linear"
        "cosine" holds distances and is labelled with 1 - distance.
    """

    name: str
    axis: Literal["cosine", "log", "linear"]


METRICS = {
    "distance": Metric("cos(h, h + FFN)", "cosine"),
    "growth": Metric("ρ = |FFN| / |h|", "log"),
    "attention_distance": Metric("cos(h, h + attention)", "cosine"),
    "attention_growth": Metric("|attention| / |h|", "log"),
    "block_distance": Metric("cos(h, block(h))", "cosine"),
    "block_growth": Metric("|block(h) − h| / |h|", "log"),
    "naive_cosine": Metric("cos(norm h, FFN(norm h))", "linear"),
    "magnitude": Metric("max |h| behind the layer", "log"),
    "median": Metric("median |h| behind the layer", "log"),
}


class RoundTicks(LogLocator):
    """Ticks at 1, 2 and 5 times the powers of ten, at 1 and 5, or at 1, as many as a vertical axis has room for."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Positions of the ticks between two positive numbers."""
        decades = max(abs(np.log10(max(vmax, FLOOR) / max(vmin, FLOOR))), 0.1)
        fitting = [subs for subs in _SUBDIVISIONS if len(subs) * decades <= self._room()]
        self.set_params(subs=(fitting or _SUBDIVISIONS[-1:])[0])
        return super().tick_values(vmin, vmax)

    def _room(self) -> float:
        """Labels that fit over each other along the axis."""
        assert isinstance(self.axis, Axis)
        figure = self.axis.get_figure(root=True)
        height = self.axis.axes.bbox.height / (figure.dpi if figure else 72) * 72  # points
        return height / (_SPACING * float(self.axis.get_tick_params().get("labelsize", _LETTER)))


def cosine_text(distance: float, position: int | None = None) -> str:
    """Label of a distance with its cosine, to the digit that tells it from 1: 0.002 -> "0.998"."""
    if distance <= 0:
        return "1"
    digits = max(1, int(np.ceil(-np.log10(distance) - 1e-6)))
    return f"{1 - distance:.{digits}f}".replace("-", "−").removesuffix(".0")


def number_text(number: float, position: int | None = None) -> str:
    """Label of a number of any size, written out: 0.05, 1, 20."""
    return np.format_float_positional(number, precision=3, fractional=False, trim="-")


def share_text(share: float, position: int | None = None) -> str:
    """Label of a share in percent, never rounded to another: 0.05 -> "5%", 0.025 -> "2.5%"."""
    return f"{number_text(round(100 * share, 9))}%".replace("-", "−")


def share_axis(axis: Axis) -> None:
    """Label an axis of shares in percent, at steps of 1, 2 or 5 times a power of ten."""
    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(share_text))


def drawn(metric: str, values: np.ndarray) -> np.ndarray:
    """Values to draw, raised to the floor of a logarithmic axis."""
    return values if METRICS[metric].axis == "linear" else np.maximum(values, FLOOR)


def scale(ax: Axes, metric: str, *, both: bool = False) -> None:
    """Give the y axis the metric's scale, ticks and direction: more similar is higher.

    `both` adds 1 - cos at the right of a cosine axis.
    """
    kind = METRICS[metric].axis
    if kind == "linear":
        return
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(RoundTicks())
    ax.yaxis.set_major_formatter(FuncFormatter(cosine_text if kind == "cosine" else number_text))
    ax.yaxis.set_minor_locator(LogLocator(base=10, subs=range(1, 10)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_inverted(kind == "cosine")
    if kind == "cosine" and both and not ax.child_axes:
        _distance_axis(ax)


def spread_small(ax: Axes, values: np.ndarray, decades: int) -> None:
    """Make the y axis logarithmic for some decades below the largest value, and linear about 0."""
    largest = float(np.nanmax(np.abs(values)))
    ax.set_yscale("symlog", linthresh=10.0 ** (np.floor(np.log10(largest)) - decades + 1) if largest else 1.0)
    ax.yaxis.set_major_formatter(FuncFormatter(number_text))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _distance_axis(ax: Axes) -> None:
    right = ax.secondary_yaxis("right")
    right.yaxis.set_major_locator(RoundTicks())
    right.yaxis.set_major_formatter(FuncFormatter(number_text))
    right.yaxis.set_minor_locator(NullLocator())
    right.set_ylabel("1 − cos", fontsize=ax.yaxis.label.get_fontsize())
    left = ax.yaxis.get_tick_params()
    right.tick_params(**{name: left[name] for name in ("labelsize", "width", "length", "pad") if name in left})
    right.spines["right"].set_linewidth(ax.spines["left"].get_linewidth())
