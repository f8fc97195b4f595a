"""The live Pareto plot: each state visited is a point, and clicking a point restores its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


def _source(name: str) -> str:
    """The text of a file beside this one. Given a path, anywidget would hold every widget made with it forever."""
    return (_HERE / name).read_text(encoding="utf-8")


class ParetoPlot(anywidget.AnyWidget):
    """A plot of quality against the share of skipped blocks; each point is a button for mouse and keyboard.

    Attributes
    ----------
    points
        Dicts with `key`, `family` (its name in the legend), `x` (share skipped), `y`, `low`, `high` (its interval),
        `label`, `colour`, `marker` (a matplotlib marker among "osD^vPX*") and whether it is `hollow`.
    current
        Key of the point whose result is shown beside the plot, "" for none.
    chosen
        Key of the last point clicked, and the number of clicks on any point: (key, count).
    xlabel, ylabel
        Labels of the axes.
    """

    _esm = _source("pareto.js")
    _css = _source("pareto.css")

    points = traitlets.List(traitlets.Dict()).tag(sync=True)
    current = traitlets.Unicode("").tag(sync=True)
    chosen: Any = traitlets.List(["", 0]).tag(sync=True)
    xlabel = traitlets.Unicode("FFN blocks skipped (of all at decoded tokens)").tag(sync=True)
    ylabel = traitlets.Unicode("").tag(sync=True)
    rising = traitlets.Bool(True, help="whether more is better").tag(sync=True)
    height = traitlets.Int(216).tag(sync=True)


class CopyButton(anywidget.AnyWidget):
    """A button that copies a text to the clipboard of the browser.

    Attributes
    ----------
    text
        The text to copy.
    label
        The label of the button.
    pressed
        Number of times that the button was pressed.
    """

    _esm = _source("clipboard.js")

    text = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("Copy").tag(sync=True)
    pressed = traitlets.Int(0).tag(sync=True)
    refused = traitlets.Bool(False, help="whether the browser refused its clipboard").tag(sync=True)
