"""Hybrids: models of which only some decoder layers have a feed-forward block (Nemotron-H)."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import saturation as st
from saturation.anatomy import UnsupportedModel, decoder_layers, find_blocks
from saturation.cli import doctor
from tests.families import HIDDEN, INNER, VOCABULARY, build
from tests.test_cli import run
from tests.test_recording import ids, relative
from tests.tokens import Words

LAYERS = ["linear_attention", "mlp", "full_attention", "moe", "linear_attention", "mlp"]
WITH_FFN = [1, 3, 5]


@cache
def nemotron() -> Any:
    config = AutoConfig.for_model(
        "nemotron_h",
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        layer_types=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=16,
        n_groups=1,
        n_routed_experts=4,
        moe_intermediate_size=24,
        moe_shared_expert_intermediate_size=24,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.6 / parameter.shape[-1] ** 0.5)
    return model


def test_only_layers_with_a_feed_forward_block_are_blocks():
    blocks = find_blocks(nemotron())
    assert [(block.index, block.number) for block in blocks] == list(enumerate(WITH_FFN))
    layers = decoder_layers(nemotron())
    assert [block.layer for block in blocks] == [layers[number] for number in WITH_FFN]


def test_their_distances_are_those_of_float64_hooks_and_the_trace_names_their_layers():
    model, kept = nemotron(), []
    handles = [
        model.model.layers[number].register_forward_hook(
            lambda _, args, output: kept.append(1 - torch.cosine_similarity(args[0].double(), output.double(), dim=-1))
        )
        for number in WITH_FFN
    ]
    logits = model(ids()).logits
    for handle in handles:
        handle.remove()
    with st.recording.watch(model) as recorder:
        assert torch.equal(model(ids()).logits, logits)
    trace = recorder.trace()
    assert trace.distance.shape == (ids().numel(), len(WITH_FFN))
    assert relative(trace.distance, torch.stack(kept, -1)[0].numpy()) < 1e-5
    assert trace.provenance["ffn_layers"] == WITH_FFN
    assert "ffn_layers" not in st.record(build("llama"), Words(), ["a b c"], progress=False).provenance


@pytest.mark.parametrize("index", range(len(WITH_FFN)))
def test_skipping_equals_a_block_that_adds_zero(index):
    silent = copy.deepcopy(nemotron())
    for parameter in silent.model.layers[WITH_FFN[index]].mixer.parameters():
        parameter.zero_()
    with st.skip(nemotron(), st.StaticFFN((index,), sink=0)) as ledger:
        found = nemotron()(ids()).logits
    assert torch.allclose(found, silent(ids()).logits, rtol=1e-4, atol=1e-5)
    assert ledger.skipped[:, index].all() and ledger.skipped.sum() == ids().numel()


def test_a_policy_that_adapts_is_replayed_from_its_trace():
    policy = st.FFNSkip(0.7, cold_start=1, cold_end=0, warmup=1)
    prompts = ["a b c d e", "f g h i j"]  # of one length: its Mamba layers read padding
    runs = st.generate(nemotron(), Words(), prompts, policy=policy, max_new_tokens=8, progress=False)
    assert runs.ledger.skipped.any()
    np.testing.assert_array_equal(st.replay(policy, runs.trace).skipped, runs.ledger.skipped)


def test_harm_has_a_column_for_each_block():
    harm = st.harm(nemotron(), Words(), ["a b c d e f g h i j"], progress=False)
    assert harm.kl.shape[1] == len(WITH_FFN) and (np.nanmean(harm.kl, axis=0) > 0).all()
    assert harm.provenance["ffn_layers"] == WITH_FFN


def test_the_doctor_names_the_layers(monkeypatch):
    monkeypatch.setattr(doctor, "open_model", lambda *options: (nemotron(), None))
    code, out, _ = run("doctor", "nemotron")
    assert code == 0, out
    assert "model.layers: 6 NemotronHBlock\n" in out
    assert "3 found (layers 1, 3, 5), behind attention" in out


class Packed(nn.Module):
    """A feed-forward block whose weights are where nobody finds them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.hidden = (inner,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden[0](x)


def test_a_block_whose_weights_cannot_be_seen_is_not_taken_for_none():
    model = copy.deepcopy(build("llama"))
    model.model.layers[1].mlp = Packed(model.model.layers[1].mlp)
    with pytest.raises(UnsupportedModel, match=r"in layer 1 of LlamaForCausalLM .*: no part of it reads single tokens"):
        find_blocks(model)
