"""Fast prediction of skip ratios on a recorded trace while a user moves a slider, from distances sorted once."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..policies import FFNSkip, Policy, Replay, RoutedFFN, SkipRatios, Steps, replay
from ..policies.critical_thresholds import cosines, critical
from ..policies.skip_ratios import ratios_of
from ..trace import Trace

_REMEMBERED = 4  # settings of the other options for which sorted distances are kept
_LONG = 1_000_000  # blocks of a trace that is replayed in about 10 ms


class Predictor:
    """Predicts skips on one trace, with the same numbers as `policies.replay`.

    Parameters
    ----------
    trace
        A trace of a dense run.

    Attributes
    ----------
    streams
        By layer, the residual stream in front of its block for the rows of the trace, which a router reads.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.streams: dict[int, np.ndarray] = {}
        self.steps = Steps.of(trace)
        self._sorted: Any = lru_cache(_REMEMBERED)(self._sort)

    def ratios(self, policy: Policy | None) -> SkipRatios:
        """The three skip ratios of a replay; zeros for the dense model."""
        if policy is None:
            return SkipRatios(0.0, 0.0, 0.0)
        if not isinstance(policy, FFNSkip) or not _one_comparison(policy):
            return self._counted(policy) if self.lacks(policy) else self.replayed(policy).ratios
        decoded, prefill = self._sorted(replace(policy, threshold=None))
        limit = -np.inf if policy.threshold is None else _single(1 - policy.threshold)  # type: ignore[operator]
        d, p = (float(np.searchsorted(part, limit, "right")) for part in (decoded, prefill))
        return ratios_of(d, d + p, self.steps, policy, self.trace.layers)

    def lacks(self, policy: Policy | None) -> bool:
        """Whether a replay needs a residual stream that is not in `streams`."""
        return isinstance(policy, RoutedFFN) and policy.reads not in self.streams

    def replayed(self, policy: Policy) -> Replay:
        """The replay of a policy; ValueError where it needs a stream that is not in `streams`."""
        return replay(policy, self.trace, stream=self.streams.get(getattr(policy, "reads", -1)))

    def _counted(self, policy: Policy) -> SkipRatios:
        """The ratios of a router without its stream: it skips the same number of blocks at every token."""
        assert isinstance(policy, RoutedFFN)
        acts, decode = policy.eligible(self.steps), self.steps.decode
        decoded, every = (policy.count * int(rows.sum()) for rows in (acts & decode, acts))
        return ratios_of(decoded, every, self.steps, policy, self.trace.layers)

    def fitted(self, policy: FFNSkip, *, ratio: float | None = None, percentile: float | None = None) -> FFNSkip:
        """The policy that `FFNSkip.fit` returns with the other options of `policy`; raises ValueError as `fit` does."""
        policy.check(self.trace.layers)
        if ratio is not None and _one_comparison(policy) and (policy.eligible(self.steps) & self.steps.decode).any():
            return replace(policy, threshold=self._threshold(replace(policy, threshold=None), ratio))
        given = {option.name: getattr(policy, option.name) for option in fields(policy)}
        del given["threshold"], given["layers"]
        return FFNSkip.fit(self.trace, ratio=ratio, percentile=percentile, **given)

    def _threshold(self, policy: FFNSkip, ratio: float) -> float | None:
        """The lowest threshold at which no more than this share of the blocks at decoded tokens is skipped."""
        decoded, _ = self._sorted(policy)
        allowed = bisect_right(range(1, len(decoded) + 1), ratio, key=lambda count: count / len(decoded))
        beyond = decoded[allowed] if allowed < len(decoded) else np.inf  # the first limit that skips too much
        place = int(np.searchsorted(decoded, beyond, "left")) - 1
        return float(cosines(decoded[place])) if place >= 0 and decoded[place] <= 2 else None

    @property
    def long(self) -> bool:
        """Whether a replay of the trace is so slow that it should wait until the user releases the slider."""
        return self.trace.distance.size > _LONG

    def mask(self, policy: Policy | None) -> np.ndarray:
        """Mask of the blocks that a replay skips, bool [token, layer]."""
        if policy is None:
            return np.zeros((len(self.trace), self.trace.layers), dtype=bool)
        return self.replayed(policy).skipped

    def _sort(self, policy: FFNSkip) -> tuple[np.ndarray, np.ndarray]:
        """The critical distances of all blocks, ascending: those of decoded tokens, and those of prefill."""
        lowest = critical(policy, self.trace).astype(np.float32)  # [token, layer], in the precision of the trace
        decode = self.steps.decode
        return np.sort(lowest[decode].ravel()), np.sort(lowest[~decode].ravel())


def _one_comparison(policy: FFNSkip) -> bool:
    """Whether comparing a threshold with the critical distances replays the policy."""
    return policy.horizon is None and not policy.causal and not isinstance(policy.threshold, tuple)


def _single(limit: float) -> np.float32:
    """The greatest float32 not above a limit: every float32 is at or below both of them or neither."""
    single = np.float32(limit)
    return single if single <= limit else np.nextafter(single, np.float32(-np.inf))
