"""What must hold wherever a model lies: the same tests on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import saturation as st

PROMPTS = [example.prompt for example in st.tasks.bundled("stories").head(3)]
RULE = st.FFNSkip(0.995, cold_start=3, cold_end=1, warmup=2)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here: unmeasured")
ON = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])


def ids(tokenizer, device: str) -> torch.Tensor:
    return torch.tensor([tokenizer(PROMPTS[0]).input_ids], device=device)


@ON
def test_distances_are_those_of_double_precision(device):
    model, tokenizer = st.load("demo", device=device, dtype=torch.float32)
    found = st.record(model, tokenizer, PROMPTS, progress=False)
    exact = st.record(st.load("demo", device="cpu")[0].double(), tokenizer, PROMPTS, progress=False)
    np.testing.assert_allclose(found.distance, exact.distance, rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(found.growth, exact.growth, rtol=1e-3)
    assert np.ptp(exact.distance.mean(axis=0)) > 0.1, "layers differ, so something was compared"


@ON
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_policy_that_never_skips_is_dense_to_the_bit(device, dtype):
    model, tokenizer = st.load("demo", device=device, dtype=dtype)
    with torch.no_grad():
        dense = model(ids(tokenizer, device)).logits
        with st.skip(model, st.FFNSkip(None, warmup=0, prefill=True)) as ledger:
            skipping = model(ids(tokenizer, device)).logits
        with st.recording.watch(model) as recorder:
            watched = model(ids(tokenizer, device)).logits
    assert torch.equal(dense, skipping) and torch.equal(dense, watched)
    assert not ledger.skipped.any()
    assert np.isfinite(recorder.trace().distance).all() and (recorder.trace().distance >= 0).all()


@ON
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_rule_writes_the_same_in_our_loop_and_in_generate(device, dtype):
    model, tokenizer = st.load("demo", device=device, dtype=dtype)
    runs = st.generate(model, tokenizer, PROMPTS[:1], policy=RULE, max_new_tokens=24, progress=False)
    with st.skip(model, RULE) as ledger:
        written = model.generate(ids(tokenizer, device), max_new_tokens=24, do_sample=False)
    theirs = written[0, ids(tokenizer, device).shape[1] :].tolist()
    assert runs.ids[0] == theirs[: len(runs.ids[0])]
    both = min(len(ledger.skipped), len(runs.ledger.skipped))  # one of them may pass on the last token too
    np.testing.assert_array_equal(runs.ledger.skipped[:both], ledger.skipped[:both])
    np.testing.assert_array_equal(runs.trace.skipped, np.isnan(runs.trace.distance))
    assert 0 < runs.ledger.ratios.decode < 1


@ON
def test_a_skipped_block_leaves_its_input_as_it_is(device):
    model, tokenizer = st.load("demo", device=device, dtype=torch.float32)
    layer = 5
    with torch.no_grad():
        with st.skip(model, st.StaticFFN((layer,), sink=0)):
            skipping = model(ids(tokenizer, device)).logits
        for weight in model.model.layers[layer].mlp.down_proj.parameters():
            weight.zero_()  # an FFN that adds nothing
        assert torch.equal(model(ids(tokenizer, device)).logits, skipping)
