"""A Trace or a table becomes a matplotlib figure fit for a paper.

Every function takes what was measured and returns a `matplotlib.figure.Figure` that can be restyled; `ax=` draws in
axes of your own instead. Nothing runs a model, needs torch or touches pyplot. Axes of similarity are logarithmic in
1 - cos and labelled with the cosine, so .99 and .999 are as far apart as .9 and .99.

`curves` are means per layer, `heatmap` is layer x token over the text, `violins` are distributions per layer,
`panels` put growth beside similarity, `skipped` marks the blocks that did not run, `thresholds` is predicted against
actual skip rate, `tradeoff` quality against skipped blocks; `saving` writes a file at a venue's width. Shared are
`inputs`, `scales`, `style`, `lettering` (tokens as labels) and `legibility` (what a reader of the printed page would
miss).
"""

from __future__ import annotations

from .curves import layers
from .heatmap import tokens
from .panels import growth
from .reading import Misprint, measure
from .saving import save
from .skipped import skipped
from .thresholds import replay
from .tradeoff import tradeoff
from .violins import distribution

__all__ = ["Misprint", "distribution", "growth", "layers", "measure", "replay", "save", "skipped", "tokens", "tradeoff"]
