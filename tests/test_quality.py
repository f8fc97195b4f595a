"""Losses of given text: against an independent computation, and the intervals."""

from __future__ import annotations

import re
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

import saturation as st
from saturation.quality import losses, mean_loss, rise
from tests.families import build
from tests.tokens import Words

TEXTS = ["a b c d", "e f", "g h i j k l m", "n o p"]


def alone(model, ids: list[int], start: int) -> tuple[int, float]:
    """Loss of one text, unpadded, in float64, token by token."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    picked = [-logits[i - 1].log_softmax(-1)[ids[i]].item() for i in range(max(start, 1), len(ids))]
    return len(picked), sum(picked)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "phi"])
@pytest.mark.parametrize(("start", "batch_size"), [(0, 1), (0, 4), (2, 3)])
def test_losses_equal_one_text_at_a_time(family, start, batch_size):
    model = build(family)
    texts = TEXTS if start == 0 else [TEXTS[0], TEXTS[2], TEXTS[3]]
    table = losses(model, Words(), texts, start=start, batch_size=batch_size)
    expected = [alone(model, Words()(text).input_ids, start) for text in texts]
    assert list(table["tokens"]) == [count for count, _ in expected]
    np.testing.assert_allclose(table["nll"], [total for _, total in expected], rtol=1e-5)
    assert list(table["text"]) == list(range(len(texts))) and (table["skipped"] == 0).all()


def test_of_a_pair_only_the_answer_is_scored():
    table = losses(build("llama"), Words(), [("a b c", " d e"), ("f", " g")])
    expected = [alone(build("llama"), [3, 4, 5, 6, 7], 3), alone(build("llama"), [8, 9], 1)]
    assert list(table["tokens"]) == [2, 1]
    np.testing.assert_allclose(table["nll"], [total for _, total in expected], rtol=1e-5)


def test_a_policy_s_blocks_are_counted_text_by_text():
    policy = st.FFNSkip(threshold=0.6, warmup=1)
    table = losses(build("llama"), Words(), TEXTS, policy=policy, batch_size=3)
    dense = losses(build("llama"), Words(), TEXTS)
    for number, text in enumerate(TEXTS):
        with st.skip(build("llama"), policy, start=0) as ledger, torch.no_grad():
            build("llama")(torch.tensor([Words()(text).input_ids]))
        assert table["skipped"][number] == ledger.skipped.sum()
        assert table["blocks"][number] == ledger.skipped.size
    assert table["skipped"].sum() > 0 and not np.allclose(table["nll"], dense["nll"])


def by_hand(model, ids: list[int], stride: int, width: int, policy=None) -> float:
    """Loss of one text in windows: token i in the first window that reaches it, each window read anew."""
    total = 0.0
    for i in range(1, len(ids)):
        begin = 0
        while begin + width <= i:
            begin += stride
        read = torch.tensor([ids[begin : min(begin + width, len(ids))]])
        with st.skip(model, policy, start=-begin) if policy else nullcontext(), torch.no_grad():
            logits = model(read).logits[0].double()
        total -= logits[i - 1 - begin].log_softmax(-1)[ids[i]].item()
    return total


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("stride", "width"), [(1, 4), (3, 4), (2, 5), (5, 12), (3, 13)])
def test_long_texts_are_read_in_windows(family, stride, width):
    model, texts = build(family), ["a b c d e f g h i j k l m", "n o p", "q"]
    table = losses(model, Words(), texts, stride=stride, window=width, batch_size=3, progress=False)
    assert list(table["tokens"]) == [12, 2, 0], "every token but the first is scored once"
    expected = [by_hand(model, Words()(text).input_ids, stride, width) for text in texts]
    np.testing.assert_allclose(table["nll"], expected, rtol=1e-5)


def test_a_text_longer_than_the_context_needs_a_stride():
    model = build("gpt2")
    text = " ".join("abcdefghij" * 7)  # 70 tokens, where 64 fit
    sentence = "expected prompts that fit into the model's context of 64 tokens, but prompt 1 has 70 tokens"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        losses(model, Words(), [text], progress=False)
    table = losses(model, Words(), [text], stride=32, progress=False)
    assert table["tokens"].item() == 69
    assert table["nll"].item() == pytest.approx(by_hand(model, Words()(text).input_ids, 32, 64), rel=1e-5)


@pytest.mark.parametrize("sink", [0, 1])
def test_a_warm_up_is_counted_once_per_text_not_per_window(sink):
    """A policy that skips every block past its warm-up; the second window begins past it, with a sink of its own."""
    model, policy = build("llama"), st.FFNSkip(threshold=-1.0, cold_start=1, cold_end=1, warmup=3, sink=sink)
    text = "a b c d e f g h i j k l m"
    table = losses(model, Words(), [text], policy=policy, stride=4, window=6, progress=False)
    assert table["nll"].item() == pytest.approx(by_hand(model, Words()(text).input_ids, 4, 6, policy), rel=1e-5)
    assert table["blocks"].item() == 3 * (6 + 6 + 5), "what is read again is counted again"
    warm = 3 + 0 + 0  # tokens inside the warm-up, window by window
    assert table["skippable"].item() == 17 - warm - 2 * sink, "what a window reads first is its attention sink"


def test_of_a_long_pair_only_the_answer_is_scored():
    model = build("llama")
    ids = Words()("a b c d e f g h").input_ids
    table = losses(model, Words(), [(ids[:5], ids[5:])], stride=2, window=4, progress=False)
    whole = [by_hand(model, ids[: n + 1], 2, 4) for n in (4, 7)]
    assert table["tokens"].item() == 3 and table["nll"].item() == pytest.approx(whole[1] - whole[0], rel=1e-5)


@pytest.mark.parametrize("stride", [0, 4])
def test_windows_must_overlap(stride):
    sentence = (
        f"expected a stride of at least 1 and less than the window of 4 tokens, got {stride}; the first token of a "
        "window is predicted by nothing, so windows must overlap"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        losses(build("llama"), Words(), TEXTS, stride=stride, window=4)


def made(n: int, rng: np.random.Generator, mean: float = 2.0) -> pd.DataFrame:
    tokens = rng.integers(5, 50, n)
    return pd.DataFrame({"tokens": tokens, "nll": tokens * rng.normal(mean, 0.5, n)})


def test_the_mean_weighs_tokens_and_its_interval_covers():
    rng = np.random.default_rng(0)
    table = made(40, rng)
    mean, low, high = mean_loss(table)
    assert mean == pytest.approx(table["nll"].sum() / table["tokens"].sum())
    assert low < mean < high
    inside = [low <= 2.0 <= high for _, low, high in (mean_loss(made(40, rng)) for _ in range(100))]
    assert 85 <= sum(inside) <= 100  # nominally 95; seeded


def test_a_rise_is_paired_with_the_dense_run():
    rng = np.random.default_rng(1)
    dense = made(40, rng)
    sparse = dense.assign(nll=dense["nll"] + 0.01 * dense["tokens"])
    mean, low, high = rise(sparse, dense)
    assert mean == pytest.approx(0.01) and high - low < 1e-9  # the texts' own differences cancel
    assert mean_loss(sparse)[2] - mean_loss(sparse)[1] > 0.1


def test_an_interval_needs_two_texts():
    expected = (
        "expected at least 2 texts to estimate an interval from, got 1; score more texts, or take nll / tokens of the "
        "one as it is"
    )
    with pytest.raises(ValueError, match="^" + re.escape(expected) + "$"):
        mean_loss(made(1, np.random.default_rng(0)))
