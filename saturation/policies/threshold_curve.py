"""Skip ratios of FFN-SkipLLM as a function of the threshold, predicted on a recorded trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..trace import Trace
from .critical_thresholds import critical
from .ffnskip import FFNSkip
from .policy import Steps
from .replaying import replay
from .skip_ratios import SkipRatios, ratios_of


def replay_thresholds(policy: FFNSkip, trace: Trace, thresholds: Sequence[float]) -> pd.DataFrame:
    """Predict the skip ratios of one rule at many thresholds.

    Parameters
    ----------
    policy
        The rule; its own threshold is ignored.
    trace
        A recorded trace.
    thresholds
        Cosines.

    Returns
    -------
    DataFrame
        One row per threshold: `threshold`, `nominal`, `decode`, `total`.
    """
    rules = [replace(policy, threshold=float(threshold)) for threshold in thresholds]
    if policy.horizon is not None or policy.causal:
        rows = [replay(rule, trace).ratios for rule in rules]
    else:
        steps = Steps.of(trace)
        lowest = critical(policy, trace)
        decoded = np.sort(lowest[steps.decode].ravel())
        prefill = np.sort(lowest[~steps.decode].ravel())
        limits = 1 - np.asarray(thresholds, dtype=np.float64)
        rows = [
            ratios_of(float(d), float(d + p), steps, policy, trace.layers)
            for d, p in zip(
                np.searchsorted(decoded, limits, "right"), np.searchsorted(prefill, limits, "right"), strict=True
            )
        ]
    table = pd.DataFrame(rows, columns=SkipRatios._fields)
    table.insert(0, "threshold", np.asarray(thresholds, dtype=np.float64))
    return table
