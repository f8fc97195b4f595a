"""Replay of a policy on a recorded trace: which blocks it would have skipped, without running a model.

On a dense trace this *predicts*: a skipped block changes the similarities of the blocks behind it, so the live run
skips somewhat more or less. On the trace of a skipping run it reproduces that run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trace import Trace
from .decided_ahead import BehindLayer
from .policy import BEFORE, CONFIDENCE, Policy, Steps
from .skip_ratios import SkipRatios, skip_ratios


@dataclass(frozen=True, eq=False)
class Replay:
    """Result of `replay`: what a policy would have skipped.

    Attributes
    ----------
    skipped
        Skip mask of the feed-forward blocks, bool [token, layer].
    ratios
        Predicted skip ratios.
    dropped
        Mask of the dropped attention, bool [token, layer].
    """

    skipped: np.ndarray
    ratios: SkipRatios
    dropped: np.ndarray


def replay(
    policy: Policy, trace: Trace, *, stream: np.ndarray | None = None, confidence: np.ndarray | None = None
) -> Replay:
    """Replay a policy on a trace: decide about every token as the live run would.

    Parameters
    ----------
    policy
        Any policy.
    trace
        A dense trace (the result is a prediction) or one of a skipping run (the result is what that run did).
    stream
        The residual stream that a policy such as `RoutedFFN` reads, [token, hidden], with the rows of the trace, as
        `recording.streams` returns it; no other policy needs one.
    confidence
        The confidence that `EarlyExit` reads behind each layer, [token, layer], with the rows of the trace: the
        difference of the two largest probabilities that the model's last norm and output embedding give there.

    Returns
    -------
    Replay

    Raises
    ------
    ValueError
        Where the policy does not fit the number of layers, or the stream or confidence that it reads is missing.
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
    """State of a policy that decides about all layers at once, bool [token, layer]; None for other policies."""
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
    """Skip and drop masks of a policy that decides layer by layer, bool [token, layer] each."""
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
    """The distances of the previous token in each sequence, float32 [token, layer]; NaN where there is none."""
    sequence = trace.tokens["sequence"].to_numpy()
    order = np.argsort(sequence, kind="stable")  # a trace may interleave its sequences
    later = np.append(False, sequence[order][1:] == sequence[order][:-1])[: len(order)]  # has a previous token
    before = np.full_like(trace.distance, np.nan)
    before[order[later]] = trace.distance[order[np.flatnonzero(later) - 1]]
    return before
