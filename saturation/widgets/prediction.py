"""Skip rates over a recorded trace while a hand moves: what can be sorted once is sorted once."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..policies import FFNSkip, Policy, SkipRatios, Steps, replay
from ..policies.critical_thresholds import cosines, critical
from ..policies.skip_ratios import ratios_of
from ..trace import Trace

_REMEMBERED = 4  # settings of the other options whose sorted numbers are kept
_LONG = 1_000_000  # blocks of a trace that are replayed in some 10 ms


class Predictor:
    """Answers for one trace; the same numbers as `policies.replay`.

    Parameters
    ----------
    trace
        A dense one.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.steps = Steps.of(trace)
        self._sorted: Any = lru_cache(_REMEMBERED)(self._sort)

    def ratios(self, policy: Policy | None) -> SkipRatios:
        """The three skip ratios that a replay gives; zeros for the dense model."""
        if policy is None:
            return SkipRatios(0.0, 0.0, 0.0)
        if not isinstance(policy, FFNSkip) or not _one_comparison(policy):
            return replay(policy, self.trace).ratios
        decoded, prefill = self._sorted(replace(policy, threshold=None))
        limit = -np.inf if policy.threshold is None else _single(1 - policy.threshold)  # type: ignore[operator]
        d, p = (float(np.searchsorted(part, limit, "right")) for part in (decoded, prefill))
        return ratios_of(d, d + p, self.steps, policy, self.trace.layers)

    def fitted(self, policy: FFNSkip, *, ratio: float | None = None, percentile: float | None = None) -> FFNSkip:
        """What `FFNSkip.fit` gives with the other options of a policy; ValueError as there."""
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
        """Whether a replay of the trace takes so long that it should wait until a hand lets go."""
        return self.trace.distance.size > _LONG

    def mask(self, policy: Policy | None) -> np.ndarray:
        """What a replay skips, bool [token, layer]."""
        if policy is None:
            return np.zeros((len(self.trace), self.trace.layers), dtype=bool)
        return replay(policy, self.trace).skipped

    def _sort(self, policy: FFNSkip) -> tuple[np.ndarray, np.ndarray]:
        """The distance limits from which blocks are skipped, rising: at decoded tokens, and in prefill."""
        lowest = critical(policy, self.trace).astype(np.float32)  # [token, layer], as they were recorded
        decode = self.steps.decode
        return np.sort(lowest[decode].ravel()), np.sort(lowest[~decode].ravel())


def _one_comparison(policy: FFNSkip) -> bool:
    """Whether one comparison with the critical distances replays the policy."""
    return policy.horizon is None and not policy.causal and not isinstance(policy.threshold, tuple)


def _single(limit: float) -> np.float32:
    """The greatest float32 that is not above a limit: numbers of that kind meet both or neither."""
    single = np.float32(limit)
    return single if single <= limit else np.nextafter(single, np.float32(-np.inf))
