"""The first rule of an explorer that is given none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ...policies import FFNSkip, cold_regions
from ...policies.policy import dense
from ...trace import Trace
from ..prediction import Predictor

WARMUP = 25  # tokens, as in the paper
_RATIO = 0.1  # share of all FFNs to skip, or less where the trace allows no more


def first_rule(trace: Trace) -> FFNSkip:
    """FFN-SkipLLM fitted to skip a tenth of the FFNs between the cold regions of the trace.

    The rule has no warm-up where no token was decoded after it. Its threshold is left to be set where the trace has no
    decoded tokens, or is of a skipping run.
    """
    for warmup in (WARMUP, 0):
        with suppress(ValueError):
            dense(trace)
            start, end = cold_regions(trace)
            policy = FFNSkip(None, cold_start=start, cold_end=end, warmup=warmup)
            return replace(Predictor(trace).fitted(policy, ratio=_RATIO), layers=None)  # to fit other models
    return FFNSkip(None)
