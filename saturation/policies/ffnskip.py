"""FFN-SkipLLM: skip feed-forward blocks after a saturated one, which hardly turned the residual stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np

from ..trace import Trace
from .cold_regions import cold_regions
from .critical_thresholds import cosines, threshold_for
from .policy import SINK, Policy, Steps, always, dense
from .replaying import replay

_LOG = logging.getLogger(__name__)
_FAR = 0.05  # relative miss of a target ratio from which a warning is logged
Threshold = float | None | tuple[float | None, ...]


class _State(NamedTuple):
    limits: tuple[float | None, ...]  # greatest distance that counts as saturated, by layer; None: no probe
    end: int  # first layer of the cold end
    eligible: np.ndarray  # bool [token]
    none: np.ndarray  # bool [token], all false
    followed: bool  # causal only: whether the next token of any sequence may use the distances of this one
    remaining: np.ndarray  # int [token]: blocks still to be skipped; without a horizon 1 until the cold end
    skipping: np.ndarray  # bool [token]: remaining > 0
    probing: np.ndarray  # bool [token]: eligible, and not skipping
    skips: bool  # whether any token skips
    probes: bool  # whether any token probes

    def then(self, remaining: np.ndarray) -> _State:
        skipping = remaining > 0
        probing = self.eligible & ~skipping
        some, more = bool(np.count_nonzero(skipping)), bool(np.count_nonzero(probing))
        return self._replace(remaining=remaining, skipping=skipping, probing=probing, skips=some, probes=more)


@dataclass(frozen=True)
class FFNSkip(Policy):
    """The policy of FFN-SkipLLM (Jaiswal et al., EMNLP 2024, arXiv 2404.03865), with the choices that it leaves open.

    At each token, the first block whose cosine reaches the threshold is the last to run: the blocks behind it are
    skipped until the cold end, or the next `horizon` of them. Each token starts with a new state.

    Parameters
    ----------
    threshold
        Cosine from which a block counts as saturated, in [-1, 1]; None never skips; a tuple has one per layer.
    cold_start, cold_end
        Layers at either end that always run; the layers between may be probed and skipped.
    warmup
        Tokens at the start that run in full.
    warmup_on
        "generated": the pass that consumes generated token n (1 for the first) may skip only if n > warmup.
        "position": the token at position p (from 0) may skip only if p + 1 > warmup.
    horizon
        Blocks to skip after the threshold is reached, before probing again; None is all until the cold end.
    prefill
        True skips in prefill too, where only a warm-up on positions counts.
    causal
        True decides from the distances of the previous token, so that a GPU never waits for the current ones.
    layers
        Number of layers of the model that the policy was fitted for; None allows any.

    Raises
    ------
    ValueError
        For invalid options.
    """

    threshold: Threshold
    cold_start: int = 0
    cold_end: int = 0
    warmup: int = 25
    warmup_on: Literal["generated", "position"] = "generated"
    horizon: int | None = None
    prefill: bool = False
    causal: bool = False
    layers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "threshold", _plain(self.threshold))
        for value in self.threshold if isinstance(self.threshold, tuple) else (self.threshold,):
            if value is None or (isinstance(value, Real) and not isinstance(value, bool) and -1 <= value <= 1):
                continue
            raise ValueError(
                f"expected a threshold that is a cosine in [-1, 1], or None to never skip, got {value!r}; "
                "a saturated block has a cosine such as 0.999"
            )
        if min(self.cold_start, self.cold_end, self.warmup) < 0 or (self.horizon is not None and self.horizon < 1):
            raise ValueError(
                "expected cold_start, cold_end and warmup of at least 0 and a horizon of at least 1 or None, got "
                f"{self.cold_start}, {self.cold_end}, {self.warmup} and {self.horizon}; correct them"
            )
        if self.warmup_on not in ("generated", "position"):
            raise ValueError(f"expected warmup_on to be 'generated' or 'position', got {self.warmup_on!r}; choose one")

    def check(self, layers: int) -> None:
        """Raise ValueError where the policy does not fit a model with `layers` layers."""
        if self.layers not in (None, layers):
            raise ValueError(
                f"expected a model with {self.layers} layers, for which this policy was fitted, got one with {layers}; "
                "fit it anew on a trace of this model"
            )
        if isinstance(self.threshold, tuple) and len(self.threshold) != layers:
            raise ValueError(
                f"expected one threshold per layer, {layers} of them, got {len(self.threshold)}; give one for all, "
                "or None for layers that shall not be probed"
            )
        if self.cold_start + self.cold_end >= layers:
            raise ValueError(
                f"expected cold regions that leave layers to skip, but cold_start={self.cold_start} and "
                f"cold_end={self.cold_end} cover all {layers} layers; make them smaller"
            )

    def skippable(self, layers: int) -> range:
        """Layers between the cold regions."""
        return range(self.cold_start, layers - self.cold_end)

    def acts_on(self, steps: Steps) -> np.ndarray:
        """Decoded tokens past the warm-up, and prefill if asked for, bool [token]."""
        if self.warmup_on == "position":
            late = steps.position + 1 > self.warmup
            return late if self.prefill else late & steps.decode
        late = steps.generated > self.warmup
        return late | ~steps.decode if self.prefill else late & steps.decode

    def start(self, steps: Steps, layers: int) -> _State:
        """State before the first layer."""
        eligible = self.eligible(steps)
        some = bool(np.count_nonzero(eligible))
        followed = some or (self.causal and any(self.eligible(after).any() for after in _next(steps)))
        none = np.zeros(len(eligible), dtype=bool)
        zero = np.zeros(len(eligible), dtype=np.int64)
        limits, end = _limits(self, layers), layers - self.cold_end
        return _State(
            limits, end, eligible, none, followed, zero, skipping=none, probing=eligible, skips=False, probes=some
        )

    def skips(self, state: _State, layer: int) -> np.ndarray:
        """Whether the block of this layer is skipped, bool [token]."""
        return state.skipping if layer < state.end else state.none

    def needs(self, state: _State, layer: int) -> bool:
        """Whether a token still probes here and there is a block behind that it could skip."""
        return state.limits[layer] is not None and (state.followed if self.causal else state.probes)

    def step(self, state: _State, layer: int, distance: np.ndarray) -> _State:
        """The state after a layer: skipping tokens have one block less to skip, saturated ones start to skip."""
        limit, remaining = state.limits[layer], state.remaining
        if self.horizon and state.skips:
            remaining = remaining - state.skipping
        if limit is not None and state.probes:
            reached = state.probing & (distance <= limit)
            if np.count_nonzero(reached):
                remaining = np.where(reached, self.horizon or 1, remaining)
        return state if remaining is state.remaining else state.then(remaining)

    def describe(self) -> str:
        """Short label for a legend: the threshold, and the other options that decide where it skips."""
        if self.threshold is None:
            return "FFN-SkipLLM, never"
        cosine = "per layer" if isinstance(self.threshold, tuple) else _nines(self.threshold)
        rule = f"FFN-SkipLLM, cosine {cosine}" + (f", next {self.horizon}" if self.horizon else "")
        rule += ", causal" * self.causal + ", prefill too" * self.prefill + always(self, self.cold_start, self.cold_end)
        if self.warmup:
            rule += f", warm-up {self.warmup}" + ", by position" * (self.warmup_on == "position")
        return rule

    @classmethod
    def fit(
        cls,
        trace: Trace,
        *,
        ratio: float | None = None,
        percentile: float | None = None,
        cold_start: int | None = None,
        cold_end: int | None = None,
        sink: int = SINK,
        **options: Any,
    ) -> FFNSkip:
        """Fit the threshold to a target on a recorded trace.

        Parameters
        ----------
        trace
            A dense trace with decoded tokens.
        ratio
            Target `decode` skip ratio as `replay` predicts it; the fitted policy comes as near as possible from below,
            and a warning is logged where that is not near.
        percentile
            In place of `ratio`: the threshold is this percentile of the recorded similarity, over decoded tokens past
            the warm-up and the sink, and over the layers that may be skipped.
        cold_start, cold_end
            Numbers of layers, or None to find them with `cold_regions`.
        sink
            Positions at the start of each sequence that are not fitted on and where the policy never skips.
        options
            The other options of `FFNSkip`.

        Returns
        -------
        FFNSkip
            With plain numbers, for models with as many layers as the trace.

        Raises
        ------
        ValueError
            Without exactly one target, or where no decoded token of the trace is past the warm-up and the sink.
        """
        if (ratio is None) == (percentile is None):
            raise ValueError(
                f"expected either ratio= or percentile= as the target, got {ratio} and {percentile}; give one of them"
            )
        dense(trace, sink)
        found = cold_regions(trace, sink=sink) if None in (cold_start, cold_end) else (0, 0)
        policy = cls(
            threshold=None,
            sink=sink,
            cold_start=found[0] if cold_start is None else cold_start,
            cold_end=found[1] if cold_end is None else cold_end,
            layers=trace.layers,
            **options,
        )
        policy.check(trace.layers)
        steps = Steps.of(trace)
        rows = policy.eligible(steps) & steps.decode
        if not rows.any():
            raise ValueError(
                f"expected decoded tokens past the warm-up of {policy.warmup} and the sink of {sink} positions, but "
                "the trace has none; record more new tokens (max_new_tokens), give a start position, or fit with a "
                "smaller warmup"
            )
        if percentile is not None:
            if not 0 <= percentile <= 100:
                raise ValueError(f"expected a percentile between 0 and 100, got {percentile}; 90 skips the top tenth")
            cells = trace.distance[rows][:, list(policy.skippable(trace.layers))].astype(np.float64)
            return replace(policy, threshold=max(float(cosines(np.percentile(cells, 100 - percentile))), -1.0))
        assert ratio is not None
        if not 0 <= ratio < 1:
            raise ValueError(f"expected a skip ratio in [0, 1), got {ratio}; 0.25 skips a quarter of all FFN blocks")
        fitted = replace(policy, threshold=threshold_for(policy, trace, ratio))
        reached = replay(fitted, trace).ratios.decode
        if ratio - reached > _FAR:
            _LOG.warning(
                "the ratio asked for is out of reach: %.0f%% of the FFN blocks of decoded tokens, where warm-up %d and "
                "cold layers %d and %d let %.0f%% be skipped on this trace; use a smaller warm-up or fewer cold layers",
                100 * ratio,
                policy.warmup,
                policy.cold_start,
                policy.cold_end,
                100 * reached,
            )
        return fitted


def _plain(threshold: Any) -> Threshold:
    """A threshold from plain numbers, a list or NumPy, converted so that it can be hashed and serialised."""
    given = threshold.tolist() if isinstance(threshold, (np.ndarray, np.generic)) else threshold
    return tuple(given) if isinstance(given, list) else given


def _next(steps: Steps) -> tuple[Steps, Steps]:
    """The tokens that may follow these: decoded tokens, or after prompt tokens more of the prompt."""
    further = steps.generated + steps.decode
    return tuple(Steps(steps.sequence, steps.position + 1, n) for n in (steps.generated + 1, further))  # type: ignore


@lru_cache(maxsize=1024)
def _limits(policy: FFNSkip, layers: int) -> tuple[float | None, ...]:
    """Greatest distance that counts as saturated, float64 by layer; None where no probe could skip anything."""
    given = policy.threshold if isinstance(policy.threshold, tuple) else (policy.threshold,) * layers
    probed = policy.skippable(layers)[:-1]  # behind the last layer there is nothing to skip
    return tuple(
        None if value is None or layer not in probed else np.float64(1) - np.float64(value)
        for layer, value in enumerate(given)
    )


def _nines(cosine: float) -> str:
    """A cosine as text, with enough digits to tell it from 1."""
    distance = 1 - cosine
    digits = 3 if distance <= 0 else max(3, 2 - int(np.floor(np.log10(distance))))
    return f"{cosine:.{digits}f}".rstrip("0").rstrip(".") if digits > 3 else f"{cosine:g}"
