"""The tuner: a policy as controls, its text, its cost, and every setting that was tried."""

from .tuner import ThresholdTuner

__all__ = ["ThresholdTuner"]
