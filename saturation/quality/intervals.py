"""Confidence intervals of means over examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def ratio_interval(
    value: np.ndarray, weight: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of sum(value) / sum(weight) over examples, with 2,000 resamples.

    Parameters
    ----------
    value, weight
        One number per example, [example], such as its summed loss and its tokens; at least two.
    confidence
        Of the interval.
    seed
        Seed of the resampling.

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


def share_interval(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (JASA 22:209, 1927) of a share of n examples.

    Parameters
    ----------
    share
        In [0, 1]; of rows that come several to an example (turns, seeds) their mean, which counts each example as
        one observation and so never makes the interval too short.
    n
        Examples, at least one.
    confidence
        Of the interval.

    Returns
    -------
    low, high
    """
    z = stats.norm.ppf(0.5 + confidence / 2)
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + side) / (1 + z * z / n) for side in (-half, half))
    return max(0.0, min(share, float(low))), min(1.0, max(share, float(high)))  # against rounding at 0 and 1
