"""Tuning: choose the setting that skips most within a budget of loss, with or without a guarantee."""

from .learn_then_test import examples_needed, p_value
from .search import propose
from .tuning import Tuned, promised, tune

__all__ = ["Tuned", "examples_needed", "p_value", "promised", "propose", "tune"]
