"""Scores of a run, one row per example, and what can be said of many rows."""

from .drifting import drift
from .evaluating import evaluate
from .likelihood import losses, mean_loss, rise
from .matching import normalise
from .summarising import compare, summarise

__all__ = ["compare", "drift", "evaluate", "losses", "mean_loss", "normalise", "rise", "summarise"]
