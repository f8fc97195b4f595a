"""A policy on a recorded trace: which blocks it would have skipped, without running a model.

On a dense trace this *predicts*: a block that is left out shifts the similarities of those behind it, so that the
live run skips somewhat more or less. On the trace of a skipping run it reproduces what that run did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..trace import Trace
from .ahead import BehindLayer
from .ffnskip import FFNSkip, _limits, cosines
from .ratios import SkipRatios, ratios_of, skip_ratios
from .rule import BEFORE, CONFIDENCE, Policy, Steps


@dataclass(frozen=True, eq=False)
class Replay:
    """What a policy would have skipped.

    Attributes
    ----------
    skipped
        Which feed-forward blocks, bool [token, layer].
    ratios
        Its predicted skip ratios.
    dropped
        Whose attention, bool [token, layer].
    """

    skipped: np.ndarray
    ratios: SkipRatios
    dropped: np.ndarray


def replay(
    policy: Policy, trace: Trace, *, stream: np.ndarray | None = None, confidence: np.ndarray | None = None
) -> Replay:
    """Decide every token of a trace by a policy.

    Parameters
    ----------
    policy
        Of any kind.
    trace
        Dense (the result is a prediction), or of a skipping run (the result is what that run did).
    stream
        The residual stream that a policy such as `RoutedFFN` reads, [token, hidden] row by row beside the trace, as
        `recording.streams` gives it; no other policy needs one.
    confidence
        What `EarlyExit` reads behind each layer, [token, layer] row by row beside the trace: the difference of the two
        largest probabilities in the logits that the model's last norm and output embedding make of the stream there.

    Returns
    -------
    Replay

    Raises
    ------
    ValueError
        Where the policy does not fit the trace's number of layers, or the stream or confidence it reads is not given.
    """
    policy.check(trace.layers)
    steps = Steps.of(trace)
    state = _at_once(policy, steps, trace.layers, stream)
    if state is not None:
        skipped, dropped = policy.skipped(state), policy.dropped(state)  # type: ignore[attr-defined]
    else:
        skipped, dropped = _layer_by_layer(policy, steps, trace, confidence)
    return Replay(skipped, skip_ratios(skipped, steps, policy, trace.layers), dropped)


def _at_once(policy: Policy, steps: Steps, layers: int, stream: np.ndarray | None) -> np.ndarray | None:
    """State of a policy that decides about all layers at once, bool [token, layer]; None for one that does not."""
    if isinstance(policy, BehindLayer):
        if stream is None or len(stream) != len(steps.sequence):
            raise ValueError(
                f"expected stream= beside the trace for {policy.describe()!r}, one row for each of "
                f"{len(steps.sequence)} tokens, got {'none' if stream is None else len(stream)}; give what "
                f"recording.streams(model, tokenizer, texts, {policy.reads}) reads"
            )
        return policy.route(steps, layers, stream)
    return policy.start(steps, layers) if policy.known == BEFORE else None


def _layer_by_layer(
    policy: Policy, steps: Steps, trace: Trace, confidence: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """What a policy skips and drops that decides layer by layer, bool [token, layer] each."""
    seen = _of_the_token_before(trace) if policy.causal else trace.distance  # [token, layer]
    if policy.measures == CONFIDENCE:
        if confidence is None or confidence.shape != trace.distance.shape:
            came = "none" if confidence is None else f"one of shape {confidence.shape}"
            raise ValueError(
                f"expected confidence= beside the trace for {policy.describe()!r}, which reads early logits, of shape "
                f"{trace.distance.shape}, got {came}; run the policy with saturation.skip, whose ledger says what it "
                "did"
            )
        seen = confidence
    state = policy.start(steps, trace.layers)
    droppable = bool(policy.droppable(trace.layers))
    skipped, dropped = np.zeros((2, len(trace), trace.layers), dtype=bool)
    for layer in range(trace.layers):
        skipped[:, layer] = policy.skips(state, layer)
        if droppable:
            dropped[:, layer] = policy.drops(state, layer)
        unknown = False if policy.causal else skipped[:, layer]
        state = policy.step(state, layer, np.where(unknown, np.nan, seen[:, layer]))
    return skipped, dropped


def _of_the_token_before(trace: Trace) -> np.ndarray:
    """The distances of the token before in each sequence, float32 [token, layer]; NaN where there is none."""
    sequence = trace.tokens["sequence"].to_numpy()
    order = np.argsort(sequence, kind="stable")  # a trace may interleave its sequences
    later = np.append(False, sequence[order][1:] == sequence[order][:-1])[: len(order)]  # has a token before
    before = np.full_like(trace.distance, np.nan)
    before[order[later]] = trace.distance[order[np.flatnonzero(later) - 1]]
    return before


def replay_thresholds(policy: FFNSkip, trace: Trace, thresholds: Sequence[float]) -> pd.DataFrame:
    """Predicted skip ratios of one rule at many thresholds.

    Parameters
    ----------
    policy
        The rule; its own threshold does not matter.
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


def critical(policy: FFNSkip, trace: Trace) -> np.ndarray:
    """The distance limit from which each block is skipped, float64 [token, layer]; infinite where it never is.

    For the horizon "until the cold end" a block is skipped at threshold t exactly where `critical <= 1 - t`: it is
    the running minimum of the distance over the probed layers before. This turns a replay into one comparison.
    """
    policy = replace(policy, threshold=-1.0)
    policy.check(trace.layers)
    if policy.horizon is not None or policy.causal:
        raise ValueError(
            "expected a rule that skips until the cold end and decides from its own token's distances, got "
            f"{policy.describe()!r}; use replay, which takes every rule"
        )
    lowest = np.full((len(trace), trace.layers), np.inf)
    eligible = policy.eligible(Steps.of(trace))
    running = np.full(len(trace), np.inf)
    limits = _limits(policy, trace.layers)
    for layer in policy.skippable(trace.layers):
        lowest[:, layer] = running
        if limits[layer] is not None:
            distance = trace.distance[:, layer].astype(np.float64)
            running = np.where(eligible, np.fmin(running, distance), np.inf)
    return lowest


def threshold_for(policy: FFNSkip, trace: Trace, ratio: float) -> float | None:
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
