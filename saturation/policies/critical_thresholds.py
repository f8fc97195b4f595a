"""Critical thresholds: from which threshold FFN-SkipLLM skips each block of a recorded trace.

`FFNSkip.fit` uses this file: `ffnskip` imports it, not the other way.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import Any

import numpy as np

from ..trace import Trace
from .policy import Steps
from .replaying import replay


def cosines(distance: np.ndarray) -> np.ndarray:
    """The highest threshold that each distance reaches, safe against rounding, float64; below -1 where none."""
    distance = np.asarray(distance, dtype=np.float64)
    cosine = 1 - distance
    return np.minimum(np.where(1 - cosine >= distance, cosine, np.nextafter(cosine, -np.inf)), 1)


def critical(policy: Any, trace: Trace) -> np.ndarray:
    """The distance limit from which each block is skipped, float64 [token, layer]; infinite where it never is skipped.

    For the horizon "until the cold end" a block is skipped at threshold t exactly where `critical <= 1 - t`: it is
    the running minimum of the distance over the probed layers before. A replay is then one comparison.
    """
    policy = replace(policy, threshold=-1.0)
    policy.check(trace.layers)
    if policy.horizon is not None or policy.causal:
        raise ValueError(
            "expected a rule that skips until the cold end and decides from its own token's distances, got "
            f"{policy.describe()!r}; use replay, which takes every rule"
        )
    lowest = np.full((len(trace), trace.layers), np.inf)
    state = policy.start(Steps.of(trace), trace.layers)
    running = np.full(len(trace), np.inf)
    for layer in policy.skippable(trace.layers):
        lowest[:, layer] = running
        if state.limits[layer] is not None:
            distance = trace.distance[:, layer].astype(np.float64)
            running = np.where(state.eligible, np.fmin(running, distance), np.inf)
    return lowest


def threshold_for(policy: Any, trace: Trace, ratio: float) -> float | None:
    """The lowest threshold at which the predicted `decode` ratio does not exceed the target; None never skips."""
    if policy.horizon is None and not policy.causal:
        lowest = cosines(critical(policy, trace)[trace.decoding])  # the highest threshold that skips each block
        highest, counts = (found[::-1] for found in np.unique(lowest[lowest >= -1], return_counts=True))
        fits = int(np.searchsorted(counts.cumsum() / lowest.size, ratio, "right"))
    else:
        highest = np.unique(cosines(trace.distance))[::-1]
        highest = highest[highest >= -1]
        fits = bisect_right(highest, ratio, key=lambda t: replay(replace(policy, threshold=t), trace).ratios.decode)
    return float(highest[fits - 1]) if fits else None
