"""A Trace or a table becomes a matplotlib figure fit for a paper.

Every function takes what was measured and returns a `matplotlib.figure.Figure` that can be restyled; `ax=` draws in
axes of your own instead. Nothing runs a model, needs torch or touches pyplot. Axes of similarity are logarithmic in
1 - cos and labelled with the cosine, so .99 and .999 are as far apart as .9 and .99.

Of traces: `curves` are means per layer, `heatmap` is layer x token over the text, `violins` are distributions per
layer, `panels` put growth beside similarity, `skipped` marks the blocks that did not run, `thresholds` is predicted
against actual skip rate, `ablated` is the harm of leaving blocks out. Of tables: `tradeoff` is quality against skipped
blocks, `tuned` is what `tune` chose among settings, `warmups` and `categories` are scores by warm-up and by kind,
`passages` set answers side by side, `training` follows the layers over checkpoints, `matrices` set calibration
sources against tasks and prunings against each other, `amounts` is what they cost against how much was given.

`saving` writes a file at a venue's width (`venues`), lays data and a manifest beside it (`beside`) and reads it back
(`reading`). Shared are `inputs`, `summaries`, `scales`, `style`, `families` (the fixed looks of policies), `source`
(what a figure was drawn from), `lettering` (any text as labels) and `legibility` (what a reader of the printed page
would miss).
"""

from __future__ import annotations

from .ablated import harm, harm_against
from .amounts import amounts
from .categories import by_category
from .curves import layers
from .heatmap import tokens
from .matrices import overlap, sources
from .panels import growth
from .passages import answers
from .reading import Misprint, measure
from .saving import save
from .skipped import skipped
from .thresholds import replay
from .tradeoff import tradeoff
from .training import dynamics
from .tuned import tuned
from .violins import distribution
from .warmups import warmup

__all__ = [
    "Misprint",
    "amounts",
    "answers",
    "by_category",
    "distribution",
    "dynamics",
    "growth",
    "harm",
    "harm_against",
    "layers",
    "measure",
    "overlap",
    "replay",
    "save",
    "skipped",
    "sources",
    "tokens",
    "tradeoff",
    "tuned",
    "warmup",
]
