"""Replay: it gives what a live run skipped (law 4), in order of thresholds (law 5), and many thresholds at once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import traces
from test_policies import LAYERS, made, ragged, rules

from saturation.policies import FFNSkip, Policy, RandomFFN, StaticFFN, Steps, previous_token, replay, replay_thresholds
from saturation.policies.critical_thresholds import critical
from saturation.trace import Trace

POLICIES = [
    FFNSkip(0.98, cold_start=1, warmup=2),
    FFNSkip(0.98, warmup=0, horizon=2, sink=0),
    FFNSkip((0.9, None, 0.99, 0.98, None, 0.95, 0.99, 0.9, 0.9), warmup=0, horizon=1, prefill=True),
    FFNSkip(0.98, cold_end=2, warmup=4, warmup_on="position", prefill=True),
    FFNSkip(0.98, warmup=0, causal=True, sink=2),
    FFNSkip(0.98, warmup=3, causal=True, prefill=True),
    FFNSkip(0.98, warmup=7, warmup_on="position", causal=True, horizon=2),
    FFNSkip(0.98, warmup=0, causal=True, horizon=1, cold_end=2),
    RandomFFN(0.4, seed=5, sink=0),
    RandomFFN(0.4, cold_start=2, per="run", decode_only=True),
    StaticFFN((1, 4), decode_only=True),
]
EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES, ids=range(len(POLICIES)))


class Live:
    """A run as the model would make it: a block that is skipped has no distance, nor one that nobody needs."""

    def __init__(self, policy: Policy, trace: Trace) -> None:
        self.policy, self.trace, self.steps = policy, trace, Steps.of(trace)
        self.skipped = np.zeros(trace.distance.shape, dtype=bool)
        self.probed = np.zeros(trace.distance.shape, dtype=bool)
        self.carry: list[dict] = [{} for _ in range(trace.layers)]

    def forward(self, rows: np.ndarray) -> None:
        """One pass over some tokens of the trace, grouped by sequence."""
        steps = Steps(self.steps.sequence[rows], self.steps.position[rows], self.steps.generated[rows])
        state = self.policy.start(steps, self.trace.layers)
        for layer in range(self.trace.layers):
            skip = self.policy.skips(state, layer)
            probed = ~skip & self.policy.needs(state, layer)
            self.skipped[rows, layer], self.probed[rows, layer] = skip, probed
            distance = np.where(probed, self.trace.distance[rows, layer], np.float32(np.nan))
            if self.policy.causal:
                distance = previous_token(distance, steps.sequence, self.carry[layer])
            state = self.policy.step(state, layer, distance)

    def finished(self) -> Trace:
        """What such a run records: every block that ran, whether its distance was needed or not."""
        kept = {name: np.where(self.skipped, np.float32(np.nan), array) for name, array in self.trace.groups.items()}
        return replace(self.trace, skipped=self.skipped, **kept)


def one_by_one(trace: Trace) -> list[np.ndarray]:
    """Every pass one token; sequences take turns."""
    return [np.array([row]) for row in np.argsort(trace.tokens["position"], kind="stable")]


def as_a_batch(trace: Trace) -> list[np.ndarray]:
    """The prompts in one pass, then in each pass the next token of every sequence that has one."""
    generated = trace.generated
    return [np.flatnonzero(generated == n) for n in range(generated.max() + 1)]


def in_pieces(trace: Trace) -> list[np.ndarray]:
    """Passes that each take on some sequences by some tokens, as chunked prefill and changing batches do."""
    rng, sequence = np.random.default_rng(1), trace.tokens["sequence"].to_numpy()
    left, passes = {number: np.flatnonzero(sequence == number) for number in np.unique(sequence)}, []
    while left:
        taken = {number: int(rng.integers(0, 4)) for number in left}
        passes.append(np.concatenate([left[number][:count] for number, count in taken.items()]))
        left = {number: rest for number, rows in left.items() if len(rest := rows[taken[number] :])}
    return [rows for rows in passes if len(rows)]


@EVERY_POLICY
@pytest.mark.parametrize("passes", [one_by_one, as_a_batch, in_pieces])
def test_law_4_replay_gives_what_a_run_skipped_however_it_was_cut(policy, passes):
    trace = ragged(seed=3)
    live = Live(policy, trace)
    for rows in passes(trace):
        live.forward(rows)
    assert live.skipped.any()
    assert np.array_equal(replay(policy, live.finished()).skipped, live.skipped)
    if not policy.causal:  # on the dense trace a causal rule sees distances that its run never had
        assert np.array_equal(replay(policy, trace).skipped, live.skipped)


def test_law_4_for_every_option():
    trace = ragged(seed=4)
    for rule in rules():
        live = Live(rule, trace)
        for rows in as_a_batch(trace):
            live.forward(rows)
        assert np.array_equal(replay(rule, live.finished()).skipped, live.skipped), rule


@EVERY_POLICY
def test_a_trace_may_interleave_its_sequences(policy):
    trace = ragged()
    order = np.argsort(trace.tokens["position"], kind="stable")
    arrays = {name: array[order] for name, array in trace.groups.items()}
    mixed = replace(trace, tokens=trace.tokens.iloc[order], skipped=trace.skipped[order], **arrays)
    assert np.array_equal(replay(policy, mixed).skipped, replay(policy, trace).skipped[order])


@EVERY_POLICY
def test_an_empty_trace_replays_to_nothing(policy):
    found = replay(policy, made(length=0))
    assert found.skipped.shape == (0, LAYERS) and found.ratios == (0, 0, 0)


# --- thresholds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("horizon", [None, 1, 2, 3, 50])
def test_law_5_a_higher_threshold_never_skips_more(horizon, causal):
    for seed in range(3):
        trace = ragged(seed)
        exact = 1 - np.unique(trace.distance.astype(np.float64))[::29]
        thresholds = sorted([-1.0, 1.0, *exact, *np.linspace(0.9, 1, 20)])
        rule = FFNSkip(None, warmup=0, horizon=horizon, causal=causal, sink=seed)
        masks = [replay(replace(rule, threshold=t), trace).skipped for t in thresholds]
        counts = np.stack([mask.sum(axis=1) for mask in masks])  # [threshold, token]
        assert (np.diff(counts, axis=0) <= 0).all() and counts[0].sum() > counts[-1].sum() == 0


def test_the_ratios_are_of_what_they_are_named_for():
    trace = ragged()
    rule = FFNSkip(0.98, cold_start=2, cold_end=1, warmup=3, prefill=True, sink=2)
    mask, decoded = replay(rule, trace).skipped, trace.decoding
    assert mask[decoded].any() and mask[~decoded].any()
    assert replay(rule, trace).ratios._asdict() == {
        "nominal": mask[decoded].sum() / (6 * ((trace.generated > 3) & (trace.tokens["position"] >= 2)).sum()),
        "decode": mask[decoded].sum() / (9 * decoded.sum()),
        "total": mask.sum() / (9 * len(trace)),
    }


def test_many_thresholds_at_once_equal_one_by_one():
    trace = ragged()
    thresholds = np.unique([-1, 0, 1, *np.linspace(0.9, 1, 20), *(1 - trace.distance[::9].astype(np.float64)).ravel()])
    for rule in rules()[::7]:
        table = replay_thresholds(rule, trace, thresholds)
        expected = [replay(replace(rule, threshold=t), trace).ratios for t in thresholds.tolist()]
        assert list(table.columns) == ["threshold", "nominal", "decode", "total"]
        np.testing.assert_array_equal(table["threshold"], thresholds)
        np.testing.assert_array_equal(table[["nominal", "decode", "total"]], expected)


@pytest.mark.parametrize("options", [{}, {"prefill": True, "warmup": 0}, {"warmup": 6, "warmup_on": "position"}])
def test_a_critical_limit_is_the_comparison_that_decides(options):
    trace, rule = ragged(), FFNSkip(None, **{"cold_start": 2, "cold_end": 1, "warmup": 2, **options})
    limits = critical(rule, trace)
    for threshold in (-1.0, 0.9, 0.98, 0.99, *(1 - limits[np.isfinite(limits)][::20])):
        assert np.array_equal(limits <= 1 - threshold, replay(replace(rule, threshold=threshold), trace).skipped)


def test_a_hundred_thresholds_on_a_large_trace_take_less_than_a_second():
    trace = traces.trace(sequences=100, length=1000, prefill=100, layers=32)
    began = time.perf_counter()
    table = replay_thresholds(FFNSkip(None, cold_start=3, cold_end=2), trace, 1 - np.geomspace(1e-4, 1e-1, 100))
    seconds = time.perf_counter() - began
    assert table["decode"].is_monotonic_increasing and table["decode"].iloc[-1] > 0.5
    assert seconds < 1  # measured 0.05 s


# --- probes ---------------------------------------------------------------------------------------------------------


def probes(policy: Policy, trace: Trace) -> np.ndarray:
    """Which distances a run measured, one token at a time, bool [token, layer]."""
    live = Live(policy, trace)
    for rows in one_by_one(trace):
        live.forward(rows)
    return live.probed


def test_nothing_is_measured_that_cannot_matter():
    trace = ragged()
    past, layers = (trace.generated > 4)[:, None], np.arange(LAYERS)
    for never in (
        FFNSkip(0.9, warmup=99),
        FFNSkip(None, warmup=0),
        FFNSkip(0.9, warmup=99, causal=True),
        *POLICIES[-3:],
    ):
        assert not probes(never, trace).any()
    cold = {"cold_start": 2, "cold_end": 1}  # behind layer 7, the last between them, there is nothing to skip
    between = (layers >= 2) & (layers < 7)
    assert np.array_equal(probes(FFNSkip(1.0, **cold, warmup=4), trace), past & between)
    assert np.array_equal(
        probes(FFNSkip(1.0, **cold, warmup=0, prefill=True, sink=0), trace),
        np.broadcast_to(between, trace.distance.shape),
    )
    assert np.array_equal(probes(FFNSkip(-1.0, **cold, warmup=4), trace), past & (layers == 2))  # one hit decides all
    assert np.array_equal(probes(FFNSkip(-1.0, **cold, warmup=4, horizon=1), trace), past & np.isin(layers, (2, 4, 6)))
    some = FFNSkip((1.0, None, 1.0, None, 1.0, 1.0, 1.0, 1.0, 1.0), **cold, warmup=4)
    assert np.array_equal(probes(some, trace), past & np.isin(layers, (2, 4, 5, 6)))


def test_a_causal_rule_measures_for_the_token_that_follows():
    trace = ragged()
    before = (trace.generated >= 4)[:, None]  # token 5 may skip, and decides by what token 4 measured
    rule = FFNSkip(1.0, warmup=4, cold_start=2, cold_end=1, causal=True)
    between = (np.arange(LAYERS) >= 2) & (np.arange(LAYERS) < 7)
    assert np.array_equal(probes(rule, trace), before & between)


def test_a_pass_measures_while_any_of_its_tokens_probes():
    rule, trace = FFNSkip(0.9, warmup=0, sink=0), made(sequences=2, length=1, prefill=0)
    steps = Steps.of(trace)
    state = rule.step(rule.start(steps, LAYERS), 0, np.array([0.01, 0.5], dtype=np.float32))
    assert rule.skips(state, 1).tolist() == [True, False] and rule.needs(state, 1)
    state = rule.step(state, 1, np.array([np.nan, 0.01], dtype=np.float32))
    assert rule.skips(state, 2).tolist() == [True, True] and not rule.needs(state, 2)
