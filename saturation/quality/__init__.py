"""Scores of a run, one row per example, and what can be said of many rows."""

from .comparing import against
from .drifting import drift
from .evaluating import JUDGED, evaluate, rated
from .judging import Judge
from .likelihood import losses, losses_by_length, mean_loss, rise
from .matching import normalise
from .summarising import compare, summarise

__all__ = [
    "JUDGED",
    "Judge",
    "against",
    "compare",
    "drift",
    "evaluate",
    "losses",
    "losses_by_length",
    "mean_loss",
    "normalise",
    "rated",
    "rise",
    "summarise",
]
