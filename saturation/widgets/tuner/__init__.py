"""The tuner: controls of a policy, the text it generates, its cost, and a plot of every setting tried."""

from .tuner import ThresholdTuner

__all__ = ["ThresholdTuner"]
