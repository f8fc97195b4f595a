"""One table of runs becomes one setting: the most that may be skipped within a budget, plainly or with a guarantee."""

from .guarantee import examples_needed, p_value
from .searching import propose
from .tuning import Tuned, promised, tune

__all__ = ["Tuned", "examples_needed", "p_value", "promised", "propose", "tune"]
