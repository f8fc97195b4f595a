"""Drift from the dense run: agreement, divergence and loss, each against an independent computation."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

import saturation as st
from saturation.quality import drift
from saturation.quality.drift_from_dense import agreement
from tests.families import build
from tests.tokens import Words

PROMPTS = ["a b c d", "e f", "g h i"]


def written(model, policy, room: int = 8):
    return st.generate(model, Words(), PROMPTS, policy=policy, max_new_tokens=room, record=False, progress=False).ids


def logits(model, ids: list[int], policy=None, start: int = 0) -> torch.Tensor:
    """Of one text alone, unpadded, [token, vocabulary], float64."""
    with torch.no_grad():
        if policy is None:
            return model(torch.tensor([ids])).logits[0].double()
        with st.skip(model, policy, start=start):
            return model(torch.tensor([ids])).logits[0].double()


@pytest.mark.parametrize(
    ("dense", "sparse", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], (1.0, None)),
        ([1, 2, 3], [1, 5, 3, 4], (2 / 3, 1)),
        ([1, 2, 3], [1, 2], (1.0, 2)),
        ([1, 2], [1, 2, 7], (1.0, 2)),
        ([4], [5], (0.0, 0)),
        ([4], [], (0.0, 0)),
        ([], [], (1.0, None)),
    ],
)
def test_agreement_and_the_first_difference(dense, sparse, expected):
    assert agreement(dense, sparse) == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_divergence_and_loss_equal_one_text_at_a_time(family, batch_size):
    model, policy = build(family), st.FFNSkip(threshold=0.6, warmup=1)
    dense, sparse = written(model, None), written(model, policy)
    table = drift(model, Words(), PROMPTS, dense, sparse, policy=policy, batch_size=batch_size, progress=False)
    assert [*table] == ["agreement", "diverged", "kl", "kl_max", "dense_nll"]
    for i, prompt in enumerate(PROMPTS):
        ids = Words()(prompt).input_ids
        p = logits(model, ids + dense[i])[len(ids) - 1 : -1].log_softmax(-1)  # [new token, vocabulary]
        q = logits(model, ids + dense[i], policy, start=len(ids))[len(ids) - 1 : -1].log_softmax(-1)
        kl = (p.exp() * (p - q)).sum(-1)  # [new token]
        assert table["kl"][i] == pytest.approx(kl.mean().item(), rel=1e-3, abs=1e-6)
        assert table["kl_max"][i] == pytest.approx(kl.max().item(), rel=1e-3, abs=1e-6)
        own = logits(model, ids + sparse[i])[len(ids) - 1 : -1].log_softmax(-1)
        picked = own.gather(-1, torch.tensor(sparse[i])[:, None])
        assert table["dense_nll"][i] == pytest.approx(-picked.mean().item(), rel=1e-4)
    assert table["kl"].max() > 1e-3 and (table["agreement"] < 1).any(), "the policy does something"


def test_the_dense_run_has_not_drifted_from_itself():
    model = build("llama")
    dense = written(model, None)
    for policy in (None, st.FFNSkip(None)):
        table = drift(model, Words(), PROMPTS, dense, dense, policy=policy, progress=False)
        assert (table["agreement"] == 1).all() and table["diverged"].isna().all()
        assert (table[["kl", "kl_max"]] == 0).all(axis=None) and (table["dense_nll"] > 0).all()


def test_the_policy_acts_from_the_end_of_the_prompt_and_counts_its_warm_up_there():
    """With a warm-up as long as the text nothing is skipped, and the first token comes from a dense prefill."""
    model = build("llama")
    dense = [ids[:6] for ids in written(model, None)]

    def kl(**options):
        policy = st.FFNSkip(threshold=-1.0, **options)
        return drift(model, Words(), PROMPTS, dense, dense, policy=policy, progress=False)["kl"]

    assert (kl(warmup=5) < 1e-6).all(), "token 6 is written by the pass that consumes token 5"
    assert (kl(warmup=4) > 1e-4).all()
    first = [ids[:1] for ids in dense]
    policy = st.FFNSkip(threshold=-1.0, warmup=0)
    assert (drift(model, Words(), PROMPTS, first, first, policy=policy, progress=False)["kl"] < 1e-6).all()


def test_what_the_skipping_run_was_given_may_differ():
    """As in a conversation, whose later prompts hold each run's own answers."""
    model = build("llama")
    dense = written(model, None)
    given = [[9, 9, 8], [7], [6, 5]]
    table = drift(model, Words(), PROMPTS, dense, dense, policy=None, sparse_prompts=given, progress=False)
    alone = [st.quality.losses(model, Words(), [pair], progress=False) for pair in zip(given, dense, strict=True)]
    expected = [(one["nll"] / one["tokens"]).item() for one in alone]
    np.testing.assert_allclose(table["dense_nll"], expected, rtol=1e-5)


def test_batches_do_not_change_what_a_random_policy_draws():
    """It draws by the number of the sequence, which must go on from batch to batch."""
    model, policy = build("llama"), st.RandomFFN(0.4, seed=3)
    dense, sparse = written(model, None), written(model, policy)
    whole, one = (
        drift(model, Words(), PROMPTS, dense, sparse, policy=policy, batch_size=size, progress=False) for size in (3, 1)
    )
    pd.testing.assert_frame_equal(whole, one, rtol=1e-3, atol=1e-6)


def test_lists_of_other_lengths_are_refused():
    sentence = "expected prompts, dense and sparse texts of one number, got 3, 2 and 3; give those of the same examples"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        drift(build("llama"), Words(), PROMPTS, [[3]] * 2, [[3]] * 3, policy=None)


def test_nothing_of_the_comparison_stays_on_the_model():
    model = build("llama")
    drift(model, Words(), PROMPTS, [[3, 4]] * 3, [[3, 5]] * 3, policy=st.StaticFFN(layers=(1,)), progress=False)
    assert all("forward" not in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
