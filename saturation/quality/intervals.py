"""Intervals by resampling whole examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def ratio_interval(
    value: np.ndarray, weight: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of sum(value) / sum(weight), over examples, 2,000 resamples.

    Parameters
    ----------
    value, weight
        One number per example, [example], such as its summed loss and its tokens; at least two.
    confidence
        Of the interval.
    seed
        Of the resampling.

    Returns
    -------
    low, high
    """
    found: Any = stats.bootstrap(
        (value, weight),
        lambda value, weight, axis=-1: value.sum(axis=axis) / weight.sum(axis=axis),
        paired=True,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
