"""The attention sink, live: no block of the first positions of a sequence is skipped, whatever the policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import saturation as st
from saturation.policies import Arrays, BehindLayer, Policy
from saturation.policies.policy import KINDS
from tests.families import HIDDEN, LAYERS, VOCABULARY, build

EVERY = [  # each skips at every token, prompts included, unless the sink keeps it from that
    st.FFNSkip(-1.0, warmup=0, prefill=True),
    st.FFNSkip(-1.0, warmup=0, horizon=1, prefill=True),
    st.FFNSkip(-1.0, warmup=0, causal=True, prefill=True),
    st.FFNSkip(-1.0, warmup=0, warmup_on="position", prefill=True),
    st.StaticFFN((1, 2)),
    st.RandomFFN(0.5),
    st.RandomFFN(0.5, per="run"),
    st.TokenFFN(2, Arrays({"ids": np.array([5]), "harm": np.eye(1, LAYERS), "mean": np.arange(LAYERS)}), "of the test"),
    st.StaticLayers((1, 2)),
    st.StaticAttention((1, 2)),
    st.RandomLayers(0.5),
    st.SkipDecode(2, 1, 3),
    st.UnifiedLayers(1.5),
    st.EarlyExit(0.0, decode_only=False),  # any confidence is enough
    st.RoutedFFN(2, 0, Arrays({"weight": np.zeros((HIDDEN, 2)), "bias": np.zeros(2)}), "of the test"),  # all behind 0
]
EVERY_POLICY = pytest.mark.parametrize("policy", EVERY, ids=lambda one: one.describe())
SINKS = pytest.mark.parametrize("sink", [0, 1, 4, 20])


def ids(rows: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, width), generator=torch.Generator().manual_seed(seed))


def check(ledger: st.Ledger, trace: st.Trace, policy: Policy) -> None:
    """Nothing is skipped in the sink, something past it, and a replay says the same."""
    position, left_out = ledger.tokens["position"].to_numpy(), ledger.skipped | ledger.dropped
    assert not left_out[position < policy.sink].any()
    past = left_out[position >= policy.sink]
    assert past.any() or not len(past)
    stream = np.zeros((len(trace), HIDDEN)) if isinstance(policy, BehindLayer) else None  # all it may skip, it does
    found = st.replay(policy, trace, stream=stream, confidence=np.ones_like(trace.distance))
    np.testing.assert_array_equal(found.skipped, ledger.skipped)
    np.testing.assert_array_equal(found.dropped, ledger.dropped)


def of(policy: Policy, family: str, sink: int) -> Policy:
    """The policy with a sink, and fitted on the model where it is fitted on one."""
    return replace(policy, sink=sink, **({"model": family} if hasattr(policy, "model") else {}))


def test_every_kind_of_policy_is_here() -> None:
    kinds = {kind for kind in KINDS.values() if kind.__module__.startswith("saturation.")}
    assert {type(policy) for policy in EVERY} == kinds


@SINKS
@EVERY_POLICY
def test_in_padded_batches_that_write_on(policy, sink):
    model, policy = build("llama"), of(policy, "llama", sink)
    tokens, mask = st.recording.padded([[5, 6], [7, 8, 9, 10, 11, 12], [13, 14, 15]], "left", "cpu")
    with st.skip(model, policy) as ledger, st.recording.watch(model) as recorder:
        model.generate(tokens, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert ledger.tokens.groupby("sequence")["position"].min().tolist() == [0, 0, 0]
    check(ledger, recorder.trace(), policy)


@SINKS
@EVERY_POLICY
def test_in_a_text_that_is_read_padded_on_the_right(policy, sink):
    model, policy = build("gpt2"), of(policy, "gpt2", sink)
    tokens, mask = st.recording.padded([[5, 6, 7], [8, 9, 10, 11, 12, 13]], "right", "cpu")
    with torch.no_grad(), st.skip(model, policy) as ledger, st.recording.watch(model) as recorder:
        model(tokens, attention_mask=mask)
    assert len(ledger.tokens) == 9
    check(ledger, recorder.trace(), policy)


@SINKS
@EVERY_POLICY
def test_in_the_second_turn_of_a_kept_cache(policy, sink):
    """Its first tokens stand in the middle of the sequence: they are no sink."""
    model, policy = build("llama"), of(policy, "llama", sink)
    cache = DynamicCache(config=model.config)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "past_key_values": cache}
    with st.skip(model, policy) as ledger, st.recording.watch(model) as recorder:
        first = model.generate(ids(1, 5), **options)
        model.generate(torch.cat([first, ids(1, 3, seed=2)], dim=1), **options)
    assert ledger.tokens["position"].tolist() == list(range(13))
    check(ledger, recorder.trace(), policy)
    if sink == 4 and not policy.causal:
        assert (ledger.skipped | ledger.dropped)[7:10].any(axis=1).all()  # the second turn's own first tokens


@EVERY_POLICY
def test_where_only_the_second_turn_is_seen(policy):
    """The cache was filled before: positions go on from there."""
    model, policy = build("llama"), of(policy, "llama", 4)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids(1, 3), past_key_values=cache)
        with st.skip(model, policy) as ledger, st.recording.watch(model) as recorder:
            model(ids(1, 4, seed=2), past_key_values=cache)
    assert ledger.tokens["position"].tolist() == [3, 4, 5, 6]
    assert not (ledger.skipped | ledger.dropped)[0].any()
    check(ledger, recorder.trace(), policy)
