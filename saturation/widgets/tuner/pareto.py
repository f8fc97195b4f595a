"""The live Pareto plot: every state visited is a point, and a point can be clicked to come back to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


def _source(name: str) -> str:
    """Text of a file beside this one; a path would have anywidget hold every widget made of it for good."""
    return (_HERE / name).read_text(encoding="utf-8")


class ParetoPlot(anywidget.AnyWidget):
    """Quality against the share of skipped blocks; each point is a button for mouse and keyboard.

    Attributes
    ----------
    points
        Dicts with `key`, `family` (as the legend has it), `x` (share skipped), `y`, `low`, `high` (its interval),
        `label`, `colour`, `marker` (a matplotlib marker among "osD^vPX*") and whether it is `hollow`.
    current
        Key of the point that is shown beside the plot, "" for none.
    chosen
        Key of the point that was clicked last, and how often any was: (key, count).
    xlabel, ylabel
        What the axes are called.
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
    """A button that puts a text on the clipboard of the browser.

    Attributes
    ----------
    text
        What is copied.
    label
        What stands on the button.
    pressed
        How often it was pressed.
    """

    _esm = _source("clipboard.js")

    text = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("Copy").tag(sync=True)
    pressed = traitlets.Int(0).tag(sync=True)
    refused = traitlets.Bool(False, help="whether the browser refused its clipboard").tag(sync=True)
