"""The rule that an explorer shows at first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ...policies import FFNSkip, cold_regions
from ...policies.policy import dense
from ...trace import Trace
from ..prediction import Predictor

WARMUP = 25  # tokens, as in the paper
_RATIO = 0.1  # of all FFNs, or as many of them as the trace allows


def first_rule(trace: Trace) -> FFNSkip:
    """A tenth of the FFNs skipped between the cold regions, the warm-up left out where nothing is decoded past it.

    A trace that was read, not written, or that is of a skipping run gets a rule whose threshold is still to be set.
    """
    for warmup in (WARMUP, 0):
        with suppress(ValueError):
            dense(trace)
            start, end = cold_regions(trace)
            policy = FFNSkip(None, cold_start=start, cold_end=end, warmup=warmup)
            return replace(Predictor(trace).fitted(policy, ratio=_RATIO), layers=None)  # fits other models too
    return FFNSkip(None)
