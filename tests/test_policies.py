"""Policies and replay: an independent reading of the rule, laws 4 and 5, fitting, and every sentence."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import traces

from saturation.policies import (
    FFNSkip,
    RandomFFN,
    StaticFFN,
    Steps,
    cold_regions,
    from_json,
    previous_token,
    replay,
    replay_thresholds,
)
from saturation.policies.replaying import critical
from saturation.trace import Trace

LAYERS = 9
OPTIONS = {
    "threshold": [None, 0.9, 0.99, (None, 0.9, 0.99, None, 0.95, 0.9, 0.99, 0.999, 0.5)],
    "cold": [(0, 0), (2, 1)],
    "warmup": [(0, "generated"), (3, "generated"), (7, "position")],
    "horizon": [None, 1, 3],
    "prefill": [False, True],
    "causal": [False, True],
}


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


def made(**options) -> Trace:
    return traces.trace(**{"layers": LAYERS, "sequences": 3, "length": 14, "prefill": 5, **options})


def rules() -> list[FFNSkip]:
    return [
        FFNSkip(
            threshold,
            cold_start=cold[0],
            cold_end=cold[1],
            warmup=warmup[0],
            warmup_on=warmup[1],
            horizon=horizon,
            prefill=prefill,
            causal=causal,
        )
        for threshold, cold, warmup, horizon, prefill, causal in itertools.product(*OPTIONS.values())
    ]


def by_hand(rule: FFNSkip, trace: Trace) -> np.ndarray:
    """The paper's listing, one token and one layer at a time; bool [token, layer]."""
    mask = np.zeros(trace.distance.shape, dtype=bool)
    sequences, positions = trace.tokens["sequence"].tolist(), trace.tokens["position"].tolist()
    for row in range(len(trace)):
        n, source = int(trace.generated[row]), row
        if rule.causal:
            source = row - 1 if row and sequences[row - 1] == sequences[row] else None
        if n == 0 and not rule.prefill:
            continue
        if rule.warmup_on == "position" and positions[row] + 1 <= rule.warmup:
            continue
        if rule.warmup_on == "generated" and n > 0 and n <= rule.warmup:
            continue
        left = 0
        for layer in range(rule.cold_start, LAYERS - rule.cold_end):
            if left > 0:
                mask[row, layer] = True
                left -= 1
                continue
            limit = rule.threshold[layer] if isinstance(rule.threshold, tuple) else rule.threshold
            if limit is None or source is None:
                continue
            cosine = 1 - np.float64(trace.distance[source, layer])
            if cosine >= limit:
                left = rule.horizon or LAYERS
    return mask


@pytest.mark.parametrize("seed", range(2))
def test_replay_equals_the_rule_by_hand(seed):
    trace, some = made(seed=seed), 0
    for rule in rules():
        mask = replay(rule, trace).skipped
        assert np.array_equal(mask, by_hand(rule, trace)), rule
        some += mask.any()
    assert some > 150


def live(policy, trace: Trace) -> tuple[np.ndarray, int]:
    """One token at a time, as a live run asks, in which a skipped block has no distance; mask and probes."""
    steps = Steps.of(trace)
    mask, probes, carry = np.zeros(trace.distance.shape, dtype=bool), 0, [{} for _ in range(LAYERS)]
    for row in np.argsort(trace.tokens["position"], kind="stable"):  # sequences take turns, as in a batch
        one = Steps(*(getattr(steps, name)[[row]] for name in ("sequence", "position", "generated")))
        state = policy.start(one, LAYERS)
        for layer in range(LAYERS):
            skip = policy.skips(state, layer)
            mask[row, layer] = skip[0]
            distance = np.full(1, np.nan, dtype=np.float32)
            if policy.needs(state, layer) and not skip[0]:
                distance[0] = trace.distance[row, layer]
                probes += 1
            if policy.causal:
                distance = previous_token(distance, one.sequence, carry[layer])
            state = policy.step(state, layer, distance)
    return mask, probes


@pytest.mark.parametrize(
    "policy",
    [
        FFNSkip(0.98, cold_start=1, warmup=2),
        FFNSkip(0.98, warmup=0, horizon=2),
        FFNSkip(0.98, warmup=0, causal=True),
        FFNSkip(0.98, warmup=0, causal=True, horizon=1, cold_end=2),
        RandomFFN(0.4, seed=5),
        RandomFFN(0.4, cold_start=2, per="run", decode_only=True),
        StaticFFN((1, 4), decode_only=True),
    ],
    ids=lambda policy: policy.describe(),
)
def test_law_4_replaying_a_skipping_run_gives_its_mask(policy):
    trace = made(seed=3)
    mask, _ = live(policy, trace)
    assert mask.any()
    empty = np.where(mask, np.float32(np.nan), trace.distance)
    ran = Trace(trace.tokens, empty, np.where(mask, np.float32(np.nan), trace.growth), mask)
    assert np.array_equal(replay(policy, ran).skipped, mask)
    if not policy.causal:  # on the dense trace a causal rule sees distances that its live run never had
        assert np.array_equal(replay(policy, trace).skipped, mask)


def test_law_5_a_higher_threshold_never_skips_more():
    for seed, horizon, causal in itertools.product(range(4), (None, 1, 2, 3), (False, True)):
        trace = made(seed=seed, length=30)
        thresholds = [-1.0, 0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0]
        counts = [replay(FFNSkip(t, warmup=0, horizon=horizon, causal=causal), trace).skipped.sum() for t in thresholds]
        assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 0


def test_many_thresholds_at_once_equal_one_by_one():
    trace = made(length=25)
    thresholds = np.linspace(0.9, 1, 40)
    for rule in rules()[::7]:
        if isinstance(rule.threshold, tuple):
            continue
        table = replay_thresholds(rule, trace, thresholds)
        expected = [replay(replace(rule, threshold=t), trace).ratios for t in thresholds.tolist()]
        np.testing.assert_allclose(table[["nominal", "decode", "total"]], expected, rtol=1e-12)


def test_a_critical_limit_is_the_comparison_that_decides():
    trace, rule = made(), FFNSkip(None, cold_start=2, cold_end=1, warmup=2)
    limits = critical(rule, trace)
    for threshold in (0.9, 0.98, 0.99, 0.995):
        assert np.array_equal(limits <= 1 - threshold, replay(replace(rule, threshold=threshold), trace).skipped)


def test_a_hundred_thresholds_on_a_large_trace_are_quick_enough_to_slide():
    trace = traces.trace(sequences=100, length=1000, prefill=100, layers=32)
    thresholds = 1 - np.geomspace(1e-4, 1e-1, 100)
    began = time.perf_counter()
    table = replay_thresholds(FFNSkip(None, cold_start=3, cold_end=2), trace, thresholds)
    seconds = time.perf_counter() - began
    assert table["decode"].is_monotonic_increasing and table["decode"].iloc[-1] > 0.5
    assert seconds < 5  # measured 0.6 s; a guard against a loop over cells, not a benchmark


def test_nothing_is_measured_that_cannot_matter():
    trace = made()
    assert live(FFNSkip(0.9, warmup=99), trace)[1] == 0
    assert live(FFNSkip(None, warmup=0), trace)[1] == 0
    decoded = int(trace.decoding.sum())
    assert live(FFNSkip(-1.0, cold_start=2, cold_end=1, warmup=0), trace)[1] == decoded  # the first probe decides
    assert live(FFNSkip(1.0, cold_start=2, cold_end=1, warmup=0), trace)[1] == decoded * (LAYERS - 2 - 1 - 1)


# --- baselines ----------------------------------------------------------------------------------------------------


def test_random_skips_the_same_number_at_every_token_whatever_the_batch():
    trace = made(sequences=40, length=20)
    mask = replay(RandomFFN(1 / 3, seed=1, cold_start=2, cold_end=1), trace).skipped
    assert (mask.sum(axis=1) == 3).all() and not mask[:, [0, 1, 8]].any()
    share = mask[:, 2:8].mean(axis=0)
    assert np.abs(share - 0.5).max() < 0.06
    assert not np.array_equal(mask, replay(RandomFFN(1 / 3, seed=2, cold_start=2, cold_end=1), trace).skipped)
    once = replay(RandomFFN(1 / 3, seed=1, per="run"), trace).skipped
    assert (once == once[0]).all() and once[0].sum() == 3
    late = trace.select(sequence=7)
    again = replay(RandomFFN(1 / 3, seed=1, cold_start=2, cold_end=1), late).skipped
    assert np.array_equal(again, mask[trace.tokens["sequence"] == 7])


def test_static_takes_the_most_similar_layers():
    trace = made()
    chosen = StaticFFN.fit(trace, ratio=1 / 3, cold_start=1).layers
    mean = trace.distance[:, 1:].mean(axis=0)
    assert set(chosen) == set((np.argsort(mean)[:3] + 1).tolist())
    assert StaticFFN.fit(trace, count=2).layers == tuple(sorted(np.argsort(trace.distance.mean(axis=0))[:2].tolist()))


# --- fitting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"horizon": 2}, {"causal": True}, {"cold_start": 1, "cold_end": 1}])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.4])
def test_fit_comes_as_near_to_a_ratio_as_it_can_from_below(ratio, options):
    trace = made(length=40)
    policy = FFNSkip.fit(trace, ratio=ratio, warmup=1, **{"cold_start": 0, "cold_end": 0, **options})
    reached = replay(policy, trace).ratios.decode
    assert reached <= ratio and policy.layers == LAYERS
    limits = np.unique(trace.distance.astype(np.float64))
    now = -1.0 if policy.threshold is None else 1 - policy.threshold
    above = limits[limits > now * (1 + 1e-12)][:40]
    further = [replay(replace(policy, threshold=1 - float(limit) - 1e-12), trace).ratios.decode for limit in above]
    assert max(further, default=1.0) > ratio or max(further) == reached


def test_fit_to_a_percentile():
    trace = made(length=40)
    policy = FFNSkip.fit(trace, percentile=80, warmup=2, cold_start=2, cold_end=1)
    rows = (trace.generated > 2)[:, None] & np.isin(np.arange(LAYERS), range(2, 8))
    assert policy.threshold == pytest.approx(np.percentile(1 - trace.distance[rows].astype(np.float64), 80), abs=1e-9)


def test_cold_regions_are_the_layers_that_stand_out():
    cosines = [0.2, 0.9, 0.99, 0.99, 0.99, 0.99, 0.99, 0.98, 0.9]
    trace = made(cosines=cosines)
    assert cold_regions(trace) == (2, 1)
    fitted = FFNSkip.fit(trace, ratio=0.2, warmup=0)
    assert (fitted.cold_start, fitted.cold_end) == (2, 1)


def test_json_brings_every_policy_back_to_the_last_digit():
    fitted = FFNSkip.fit(made(), ratio=0.2, warmup=0)
    for policy in (*rules()[::11], fitted, RandomFFN(0.25, seed=3, per="run"), StaticFFN((4, 2))):
        assert from_json(policy.to_json()) == policy


def test_legends_tell_policies_apart():
    assert FFNSkip(0.999).describe() == "FFN-SkipLLM, cosine 0.999, warm-up 25"
    assert (
        FFNSkip(0.99985, horizon=2, causal=True, warmup=0).describe() == "FFN-SkipLLM, cosine 0.99985, next 2, causal"
    )
    assert FFNSkip(None).describe() == "FFN-SkipLLM, never"
    assert RandomFFN(0.25).describe() == "random FFN, 25%"
    assert StaticFFN((5, 4)).describe() == "static FFN, layers 4, 5"


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: FFNSkip(1.2),
            "expected a threshold that is a cosine in [-1, 1], or None to never skip, got 1.2; a saturated block has a "
            "cosine such as 0.999",
        ),
        (
            lambda: FFNSkip(0.9, horizon=0),
            "expected cold_start, cold_end and warmup of at least 0 and a horizon of at least 1 or None, got 0, 0, 25 "
            "and 0; correct them",
        ),
        (
            lambda: FFNSkip(0.9, warmup_on="tokens"),
            "expected warmup_on to be 'generated' or 'position', got 'tokens'; choose one",
        ),
        (
            lambda: FFNSkip((0.9, 0.9)).check(LAYERS),
            "expected one threshold per layer, 9 of them, got 2; give one for all, or None for layers that shall not "
            "be probed",
        ),
        (
            lambda: RandomFFN(0.9, cold_start=2).check(LAYERS),
            "expected at least 8 layers to choose from, but cold_start=2 and cold_end=0 leave 7 of 9; make them or the "
            "ratio smaller",
        ),
        (
            lambda: RandomFFN(1.5),
            "expected a ratio in [0, 1) and cold regions of at least 0 layers, got 1.5, 0 and 0; ratio 0.25 skips a "
            "quarter of all FFN blocks",
        ),
        (lambda: RandomFFN(0.5, per="layer"), "expected per to be 'token' or 'run', got 'layer'; choose one"),
        (lambda: StaticFFN((1, 1)), "expected different layer numbers from 0, got (1, 1); correct them"),
        (
            lambda: StaticFFN.fit(made(), ratio=0.2, count=1),
            "expected either ratio= or count=, got 0.2 and 1; give one of them",
        ),
        (
            lambda: StaticFFN.fit(made(), count=9, cold_end=2),
            "expected to choose between 0 and 7 layers, those that the cold regions leave of 9, got 9; choose fewer",
        ),
        (
            lambda: FFNSkip.fit(made()),
            "expected either ratio= or percentile= as the target, got None and None; give one of them",
        ),
        (
            lambda: FFNSkip.fit(made(), ratio=25, warmup=0),
            "expected a skip ratio in [0, 1), got 25; 0.25 skips a quarter of all FFN blocks",
        ),
        (
            lambda: FFNSkip.fit(made(), percentile=101, warmup=0),
            "expected a percentile between 0 and 100, got 101; 90 skips the top tenth",
        ),
        (
            lambda: FFNSkip.fit(made(), ratio=0.2, warmup=50),
            "expected decoded tokens past the warm-up of 50, but the trace has none; record more new tokens "
            "(max_new_tokens), give a start position, or fit with a smaller warmup",
        ),
        (
            lambda: from_json({"policy": "FFNSkip", "treshold": 0.9}),
            "expected options of FFNSkip among threshold, cold_start, cold_end, warmup, warmup_on, horizon, prefill, "
            "causal, layers, got 'treshold'; correct it",
        ),
        (
            lambda: critical(FFNSkip(0.9, horizon=2, warmup=0), made()),
            "expected a rule that skips until the cold end and decides from its own token's distances, got "
            "'FFN-SkipLLM, cosine -1, next 2'; use replay, which takes every rule",
        ),
    ],
)
def test_bad_input_is_said(make, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        make()


def test_an_unknown_policy_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="expected a 'policy' among RandomFFN, StaticFFN, FFNSkip, got"):
        from_json('{"policy": "ShortGPT"}')
