"""Policies that decide about all layers at once: asked once per pass, live as replayed, ahead or behind a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import saturation as st
from saturation.policies import BEFORE, AheadOfPass, BehindLayer, Steps
from saturation.policies.policy import KINDS
from tests.families import FAMILIES, LAYERS, TOKENS, build
from tests.test_recording import ids, sentence
from tests.tokens import Words

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
PROMPTS = ["a b c", "d e f g h", "i"]
ASKED: list[str] = []


@dataclass(frozen=True)
class _Odd(AheadOfPass, abstract=True):
    """Skips the block whose number is the token's id modulo the number of layers."""

    decode_only: bool = False
    reads_tokens = True

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        ASKED.append("chosen")
        assert steps.token_id is not None
        return np.arange(layers) == steps.token_id[:, None] % layers

    def skips(self, state: np.ndarray, layer: int) -> np.ndarray:
        ASKED.append("skips")
        return super().skips(state, layer)

    def skippable(self, layers: int) -> range:
        return range(layers)

    def describe(self) -> str:
        return "odd"


@dataclass(frozen=True)
class _Sign(BehindLayer, abstract=True):
    """Skips the block behind the one it reads where the first number of the stream is positive."""

    reads: int = 0
    decode_only: bool = False

    def chosen(self, stream: np.ndarray, layers: int) -> np.ndarray:
        ASKED.append("chosen")
        return (np.arange(layers) == self.reads + 1) & (stream[:, :1] > 0)

    def skips(self, state: np.ndarray, layer: int) -> np.ndarray:
        ASKED.append("skips")
        return super().skips(state, layer)

    def describe(self) -> str:
        return "sign"


@pytest.mark.parametrize("policy", [_Odd(sink=1), _Sign(sink=1)])
def test_it_is_asked_once_per_pass(policy):
    ASKED.clear()
    runs = st.generate(build("llama"), Words(), PROMPTS, policy=policy, max_new_tokens=8)
    assert {"chosen"} == set(ASKED) and len(ASKED) == runs.ledger.passes > 4
    assert runs.ledger.skipped.any()


@EVERY_FAMILY
def test_law_4_token_ids_reach_the_policy(family):
    policy = _Odd(sink=1)
    runs = st.generate(build(family), Words(), PROMPTS, policy=policy, max_new_tokens=8)
    tokens, skipped = runs.ledger.tokens, runs.ledger.skipped
    expected = np.arange(LAYERS) == tokens["token_id"].to_numpy()[:, None] % LAYERS
    assert np.array_equal(skipped, expected & (tokens["position"] >= 1).to_numpy()[:, None])
    assert np.array_equal(st.replay(policy, runs.trace).skipped, skipped)
    assert np.array_equal(runs.trace.skipped, skipped) and runs.ledger.probes == 0


@EVERY_FAMILY
@pytest.mark.parametrize("reads", [0, 1])
def test_law_4_a_stream_decides_about_the_blocks_behind_it(family, reads):
    """Nothing was skipped in front of layer 0 or 1, so that the stream of a dense run there is the run's own."""
    model, policy = build(family), _Sign(reads, sink=2)
    texts = [ids(3)[row].tolist() for row in range(3)]
    with torch.no_grad(), st.skip(model, policy, start=0) as ledger:
        model(ids(3))
    stream = st.recording.streams(model, None, texts, reads, batch_size=2)
    trace = st.record(model, Words(), texts)
    assert stream.shape[0] == 3 * TOKENS and stream.dtype == np.float32
    assert np.array_equal(st.replay(policy, trace, stream=stream).skipped, ledger.skipped)
    assert ledger.skipped[:, reads + 1].any() and not ledger.skipped[:, : reads + 1].any()
    assert not ledger.skipped[trace.tokens["position"] < 2].any() and not ledger.skipped.all(axis=0).any()


def test_without_its_stream_nothing_is_replayed():
    trace = st.record(build("llama"), Words(), PROMPTS)
    expected = (
        f"expected stream= beside the trace for 'sign', one row for each of {len(trace)} tokens, got none; give what "
        "recording.streams(model, tokenizer, texts, 1) reads"
    )
    with pytest.raises(ValueError, match=sentence(expected)):
        st.replay(_Sign(1), trace)


def test_a_stream_is_of_a_layer_that_is_there():
    with pytest.raises(ValueError, match=sentence("expected a layer from 0 to 2, got 3; name one of them")):
        st.recording.streams(build("llama"), None, [[1, 2]], 3)


@EVERY_FAMILY
def test_padding_is_no_part_of_a_stream(family):
    texts = [[5, 6, 7, 9, 8], [8, 9]]
    together = st.recording.streams(build(family), None, texts, 1)
    alone = np.concatenate([st.recording.streams(build(family), None, [text], 1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_only_what_can_be_run_is_listed():
    assert not {"AheadOfPass", "BehindLayer", "_AtOnce"} & set(KINDS)
    assert st.StaticFFN.known == st.RandomFFN.known == BEFORE != st.FFNSkip.known
