"""One table of runs becomes one setting: the most that may be skipped within a budget, plainly or with a guarantee."""

from .learn_then_test import examples_needed, p_value
from .search import propose
from .tuning import Tuned, promised, tune

__all__ = ["Tuned", "examples_needed", "p_value", "promised", "propose", "tune"]
