"""Quality: scores of a run, one row per example, and their summaries and comparisons."""

from .dense_comparison import against
from .drift_from_dense import drift
from .evaluating import JUDGED, evaluate, rated
from .judge_endpoint import Judge
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
