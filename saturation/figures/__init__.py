"""Figures: matplotlib figures for papers, from a Trace or a table.

Every function takes what was measured and returns a `matplotlib.figure.Figure` that can be restyled; `ax=` draws in
axes of your own instead. Nothing runs a model, needs torch or touches pyplot. Axes of similarity are logarithmic in
1 - cos and labelled with the cosine, so .99 and .999 are as far apart as .9 and .99.

Of traces: `curves` are means per layer, `heatmap` is layer x token over the text, `violins` are distributions per
layer, `growth_panels` put growth beside similarity, `skipped_tokens` marks the blocks that did not run, `thresholds` is
predicted against actual skip rate, `harm_figures` show the harm of leaving blocks out. Of tables: `tradeoff` is quality
against skipped blocks, `tuning_evidence` is what `tune` chose among settings, `score_by_warmup`, `score_by_category`
and `score_by_amount` are what they say, `text_diff` sets answers side by side, `training` follows the layers over
checkpoints, `source_matrices` set calibration sources against tasks and prunings against each other.

`saving` writes a file at a venue's width (`venues`), lays data and a manifest beside it (`sidecars`) and reads it back
(`read_back`). Shared are `inputs`, `score_tables`, `metrics`, `style`, `policy_styles` (the fixed looks of policies),
`source` (what a figure was drawn from), `labels` (any text as labels) and `legibility` (what a reader of the printed
page would miss).
"""

from __future__ import annotations

from .curves import layers
from .growth_panels import growth
from .harm_figures import harm, harm_against
from .heatmap import tokens
from .read_back import Misprint, measure
from .saving import save
from .score_by_amount import amounts
from .score_by_category import by_category
from .score_by_warmup import warmup
from .skipped_tokens import skipped
from .source_matrices import overlap, sources
from .text_diff import answers
from .thresholds import replay
from .tradeoff import tradeoff
from .training import dynamics
from .tuning_evidence import tuned
from .violins import distribution

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
