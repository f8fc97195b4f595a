"""Remove weights for good: one by one (magnitude, Wanda, SparseGPT), N of every M, or whole neurons."""

from ..anatomy import Matrix, find_matrices
from .masks import Pattern
from .moments import Moments
from .neuron_importance import narrow
from .neurons import SCORES
from .pruning import Statistics, gather, prune
from .report import Report
from .settings import METHODS, UPDATES
from .stand_in_fitting import stand_in

__all__ = [
    "METHODS",
    "SCORES",
    "UPDATES",
    "Matrix",
    "Moments",
    "Pattern",
    "Report",
    "Statistics",
    "find_matrices",
    "gather",
    "narrow",
    "prune",
    "stand_in",
]
