"""Which token of which text each pass reads: turns of a conversation, chunks, caches of every kind, other arguments."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import saturation as st
from tests.families import LAYERS, VOCABULARY, build

SKIPS_ALL = st.FFNSkip(threshold=-1.0, cold_start=1, warmup=0)


def ids(width: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (1, width), generator=torch.Generator().manual_seed(seed))


def write(model, tokens: torch.Tensor, **options) -> torch.Tensor:
    return model.generate(tokens, max_new_tokens=4, do_sample=False, pad_token_id=0, **options)


def test_the_next_turn_of_a_conversation_is_prefill_again():
    model = build("llama")
    cache = DynamicCache(config=model.config)
    with st.skip(model, SKIPS_ALL) as ledger, st.recording.watch(model) as recorder:
        first = write(model, ids(5), past_key_values=cache)
        second = write(model, torch.cat([first, ids(3, seed=2)], dim=1), past_key_values=cache)
    tokens = recorder.trace().tokens
    assert tokens["sequence"].eq(0).all() and tokens["position"].tolist() == list(range(second.shape[1] - 1))
    assert tokens["phase"].tolist() == ["prefill"] * 5 + ["decode"] * 3 + ["prefill"] * 4 + ["decode"] * 3
    np.testing.assert_array_equal(ledger.skipped.any(axis=1), tokens["phase"] == "decode")
    assert ledger.tokens["generated"].tolist() == [0] * 5 + [1, 2, 3] + [0] * 4 + [1, 2, 3]


def test_a_long_prompt_in_chunks_is_prefill():
    model = build("llama")
    whole, chunked = (st.recording.watch(model) for _ in range(2))
    with whole as one:
        write(model, ids(8))
    with chunked as other:
        write(model, ids(8), prefill_chunk_size=3)
    assert other.trace().tokens.equals(one.trace().tokens)
    np.testing.assert_allclose(other.trace().distance, one.trace().distance, rtol=1e-3)


def test_a_cache_that_was_filled_before_gives_its_place():
    model = build("llama")
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids(5), past_key_values=cache)
        with st.recording.watch(model) as recorder:
            for seed in (2, 3):  # two texts go on from the same beginning
                model(ids(2, seed=seed), past_key_values=copy.deepcopy(cache))
    tokens = recorder.trace().tokens
    assert tokens["position"].tolist() == [5, 6, 5, 6] and tokens["sequence"].tolist() == [0, 0, 1, 1]


def test_two_conversations_take_turns():
    model = build("llama")
    with torch.no_grad(), st.recording.watch(model) as recorder:
        caches = [DynamicCache(config=model.config) for _ in range(2)]
        for step in range(3):
            for number, cache in enumerate(caches):
                model(ids(4 if step == 0 else 1, seed=10 * number + step), past_key_values=cache)
    tokens = recorder.trace().tokens
    assert tokens["position"].tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert tokens["sequence"].tolist() == [0] * 6 + [1] * 6


def test_a_cache_that_is_cut_is_refused():
    repeated = torch.tensor([[5, 6, 7] * 4])
    expected = (
        r"^expected a KV cache that only grows, got one cut from \d+ tokens to \d+, as assisted and prompt-lookup "
        r"decoding do with tokens that they take back; generate without them, or from a copy of the cache$"
    )
    with pytest.raises(ValueError, match=expected), st.recording.watch(build("llama")):
        write(build("llama"), repeated, prompt_lookup_num_tokens=3)


def test_without_a_cache_it_is_said_that_nothing_is_decoded(caplog):
    with caplog.at_level(logging.WARNING), st.skip(build("llama"), SKIPS_ALL) as ledger:
        write(build("llama"), ids(5), use_cache=False)
    assert not ledger.skipped.any()
    assert caplog.messages[0] == (
        "the same text is read again with one more token, as generate(use_cache=False) does: without a KV cache "
        "nothing counts as decoded, and policies that leave prefill alone skip nothing; use the cache"
    )
    assert "nothing was skipped: of the 26 tokens read none was decoded" in caplog.messages[1]


def test_arguments_by_position_are_seen():
    tokens, mask = st.recording.padded([[5, 6, 7], [8, 9, 10, 11, 12]], "left", "cpu")
    with torch.no_grad(), st.recording.watch(build("llama")) as recorder:
        build("llama")(tokens, mask)
    assert recorder.trace().tokens["token_id"].tolist() == [5, 6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("start", [2, np.int64(2), [2, 2], (2, 2), np.array([2, 2])], ids=repr)
def test_a_start_is_one_position_or_one_for_each(start):
    with torch.no_grad(), st.skip(build("llama"), SKIPS_ALL, start=start) as ledger:
        build("llama")(torch.cat([ids(4), ids(4, seed=2)]))
    assert ledger.tokens["generated"].tolist() == [0, 0, 1, 2] * 2


@pytest.mark.parametrize("start", [[2], np.array([], dtype=int)], ids=repr)
def test_too_few_starts_are_refused(start):
    expected = (
        rf"^expected start= to be one position, or one per sequence, got {len(start)} and a pass that reads "
        r"sequences 0 to 1; give one for each in the order they are read$"
    )
    with pytest.raises(ValueError, match=expected), st.skip(build("llama"), SKIPS_ALL, start=start):
        build("llama")(torch.cat([ids(4), ids(4, seed=2)]))


def test_a_model_with_gradients_is_watched_and_skipped():
    model = copy.deepcopy(build("llama")).requires_grad_(True)
    with st.recording.watch(model) as recorder, st.skip(model, st.FFNSkip(0.5, warmup=0), start=0):
        model(ids(4))
    assert recorder.trace().distance.shape == (4, LAYERS)


def test_a_model_that_nobody_calls_inside_is_said(caplog):
    with st.skip(build("llama"), SKIPS_ALL), torch.no_grad():
        build("llama").forward(ids(4))
    assert caplog.messages == [
        "no forward pass was seen while skipping: the model was not called, or was called in another thread or as "
        "model.forward(...), where it runs dense; call model(...) or model.generate(...) inside the block"
    ]


def test_what_is_recorded_is_greedy_whatever_the_generation_config_says():
    model = copy.deepcopy(build("llama"))
    plain = st.record(model, None, [[5, 6, 7]], max_new_tokens=6, progress=False)
    model.generation_config.num_beams, model.generation_config.repetition_penalty = 3, 5.0
    assert st.record(model, None, [[5, 6, 7]], max_new_tokens=6, progress=False).tokens.equals(plain.tokens)
