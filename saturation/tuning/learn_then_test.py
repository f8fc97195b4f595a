"""Learn then Test (Angelopoulos et al., arXiv 2110.01052): settings whose risk is below a budget, with a guarantee.

No assumption is made on the losses but that examples are independent draws and that a loss lies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats


def p_value(losses: np.ndarray, budget: float) -> float:
    """How likely losses this low or lower are, where the mean is above the budget; valid for any number of examples.

    Parameters
    ----------
    losses
        One per example, in [0, 1], [example].
    budget
        The mean that is to be ruled out, between 0 and 1.

    Returns
    -------
    float
        Of losses that are 0 or 1 the exact binomial tail, of others the smaller of Hoeffding's and Bentkus' bounds
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
    """How many examples it takes at least, even if none of them is lost: 230 for .01 at 90 %."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - budget) - 1e-9)


def passing(losses: Iterable[np.ndarray], budget: float, confidence: float) -> list[float]:
    """Fixed-sequence testing: p-values in the order given, up to the first that is above 1 - confidence.

    The order must not depend on these losses. All settings but the last of the list then have a mean below the
    budget, at once and with that confidence; the last one has too where its p-value is low enough.
    """
    found = []
    for own in losses:
        found.append(p_value(own, budget))
        if found[-1] > 1 - confidence:
            break
    return found
