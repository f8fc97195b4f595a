"""Learn then Test (Angelopoulos et al., arXiv 2110.01052): find settings with risk below a budget, with a guarantee.

The only assumptions are that examples are independent draws and that losses lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats


def p_value(losses: np.ndarray, budget: float) -> float:
    """The p-value of the hypothesis that the mean loss is above the budget; valid for any number of examples.

    Parameters
    ----------
    losses
        One per example, in [0, 1], [example].
    budget
        The mean to rule out, between 0 and 1.

    Returns
    -------
    float
        For losses of 0 or 1 the exact binomial tail, for others the smaller of Hoeffding's and Bentkus' bounds
        (arXiv 2110.01052, equation 4).
    """
    count, total = len(losses), float(losses.sum())
    if np.isin(losses, (0, 1)).all():
        return float(stats.binom.cdf(round(total), count, budget))
    mean = min(total / count, budget)
    hoeffding = math.exp(-count * _divergence(mean, budget))
    bentkus = math.e * float(stats.binom.cdf(math.ceil(total), count, budget))
    return min(1.0, hoeffding, bentkus)


def _divergence(mean: float, budget: float) -> float:
    """KL of two Bernoulli variables, nats."""
    parts = ((mean, budget), (1 - mean, 1 - budget))
    return sum(p * math.log(p / q) for p, q in parts if p > 0)


def examples_needed(budget: float, confidence: float) -> int:
    """Least number of examples for a guarantee, if none has a loss: 230 for .01 at 90 %."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - budget) - 1e-9)


def passing(losses: Iterable[np.ndarray], budget: float, confidence: float) -> list[float]:
    """Fixed-sequence testing: p-values in the order given, up to the first that is above 1 - confidence.

    The order must not depend on these losses. With that confidence, all settings of the list except the last have a
    mean below the budget at once; the last one too if its p-value is low enough.
    """
    found = []
    for own in losses:
        found.append(p_value(own, budget))
        if found[-1] > 1 - confidence:
            break
    return found
