"""Which token of which text each pass reads: turns of a conversation, chunks, caches of every kind, other arguments."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from transformers import DynamicCache, StaticCache

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
    model = build("llama")
    cache = DynamicCache(config=model.config)
    expected = (
        r"^expected a KV cache that only grows, got one cut from 5 tokens to 3, as assisted and prompt-lookup "
        r"decoding do with tokens that they take back; generate without them, or from a copy of the cache$"
    )
    with torch.no_grad(), st.recording.watch(model):
        model(ids(5), past_key_values=cache)
        cache.crop(-2)
        with pytest.raises(ValueError, match=expected):
            model(ids(1), past_key_values=cache)


@pytest.mark.parametrize("how", [{"prompt_lookup_num_tokens": 3}, {"assistant_model": build("llama")}], ids=repr)
@pytest.mark.parametrize("enter", [st.recording.watch, lambda model: st.skip(model, SKIPS_ALL)])
def test_guessed_tokens_are_refused(how, enter):
    """A model that assists itself guesses right, so that no cache is ever cut."""
    expected = (
        r"^expected passes that read given text or one decoded token, got one on a KV cache that asks for the logits "
        r"of its last \d tokens, as assisted and prompt-lookup decoding do to check guesses; generate without them, or "
        r"read a given text without a cache$"
    )
    with pytest.raises(ValueError, match=expected), enter(build("llama")):
        write(build("llama"), torch.tensor([[5, 6, 7] * 4]), **how)


def test_logits_of_several_tokens_of_a_given_text_are_no_guess():
    with torch.no_grad(), st.recording.watch(build("llama")) as recorder:
        build("llama")(ids(6), logits_to_keep=4)
    assert len(recorder.trace()) == 6


CACHES = {
    "dynamic": lambda model: DynamicCache(config=model.config),
    "static": lambda model: StaticCache(config=model.config, max_cache_len=40),
}


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("width", [1, 2, 9])
def test_the_next_turn_on_a_kept_cache_of_padded_texts(kind, compiles, width, monkeypatch):
    """Filled before anybody looked; where transformers compiles it hands on a mask of four axes."""
    model = build("llama")
    if compiles:
        monkeypatch.setattr(type(model), "_valid_auto_compile_criteria", lambda *_, **__: True)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "disable_compile": True}
    tokens, mask = st.recording.padded([[5, 6, 7], [8, 9, 10, 11, 12]], "left", "cpu")
    cache = CACHES[kind](model)
    written = model.generate(tokens, attention_mask=mask, past_key_values=cache, **options)
    more = torch.randint(3, VOCABULARY, (2, width), generator=torch.Generator().manual_seed(2))
    mask = torch.cat([mask, torch.ones(2, 3 + width, dtype=torch.long)], dim=1)
    with st.recording.watch(model) as recorder, st.skip(model, st.FFNSkip(None)) as ledger:
        model.generate(torch.cat([written, more], dim=1), attention_mask=mask, past_key_values=cache, **options)
    for tokens in (recorder.trace().tokens, ledger.tokens):
        for sequence, begins in ((0, 5), (1, 7)):
            own = tokens[tokens["sequence"] == sequence]
            assert own["position"].tolist() == list(range(begins, begins + width + 3))
            assert own["phase"].tolist() == ["prefill"] * (width + 1) + ["decode"] * 2


@pytest.mark.parametrize("given", ["four axes", "by kind"])
def test_padding_before_a_short_turn_is_seen_in_a_mask_of_four_axes(given):
    """[batch, 1, 2 tokens, 40 keys] behind 7 tokens in a static cache."""
    model, mask = build("llama"), torch.zeros(2, 1, 2, 40, dtype=torch.bool)
    for row, token in ((0, 0), (0, 1), (1, 0), (1, 1)):
        mask[row, 0, token, 2 * (1 - row) : 8 + token] = True
    near = mask.clone()
    near[..., :4] = False
    cache = StaticCache(config=model.config, max_cache_len=40)
    with torch.no_grad():
        model(torch.cat([ids(7), ids(7, seed=2)]), past_key_values=cache)
    shown = mask if given == "four axes" else {"sliding_attention": near, "full_attention": mask}
    stream = st.recording.Stream()
    rows = stream.read({"input_ids": torch.ones(2, 2), "past_key_values": cache, "attention_mask": shown})
    assert rows.position.tolist() == [5, 6, 7, 8] and rows.sequence.tolist() == [0, 0, 1, 1]


def test_the_negative_prompt_of_classifier_free_guidance_is_one_sequence():
    model = build("llama")
    with st.recording.watch(model) as recorder, st.skip(model, SKIPS_ALL) as ledger:
        write(model, ids(5), guidance_scale=1.5, negative_prompt_ids=ids(3, seed=2))
    for tokens in (recorder.trace().tokens, ledger.tokens):
        assert tokens["sequence"].tolist() == [0] * 8 + [1] * 6
        assert tokens["position"].tolist() == [*range(8), *range(6)]
        assert tokens["phase"].tolist() == ["prefill"] * 5 + ["decode"] * 3 + ["prefill"] * 3 + ["decode"] * 3


@pytest.mark.parametrize("named", [True, False])
def test_a_cache_that_the_model_makes_goes_on_with_its_sequence(named):
    model = build("llama")
    with torch.no_grad(), st.recording.watch(model) as recorder:
        caches = []
        for seed in (1, 2):
            output = model(ids(4, seed=seed), use_cache=True, return_dict=named)
            caches.append(output.past_key_values if named else output[1])
        for cache in caches:
            model(ids(1), past_key_values=cache)
    assert recorder.trace().tokens["sequence"].tolist() == [0] * 5 + [1] * 5


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
