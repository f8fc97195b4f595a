"""Feed-forward blocks of several branches that a layer adds: a shared expert beside others, experts beside an MLP."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks
from saturation.skipping.replacement import cost
from tests.families import FAMILIES, HIDDEN, LAYERS, VOCABULARY, build
from tests.test_recording import forwards_and_hooks, ids, sentence
from tests.tokens import Words

PROMPTS = ["a b c", "d e f g h i j", "k"]


def gemma() -> Any:
    """As the 26B-A4B: experts, with their own norms and router, beside an MLP, and a norm of the sum."""
    experts = {"enable_moe_block": True, "num_experts": 3, "top_k_experts": 2, "moe_intermediate_size": 40}
    return build("gemma4_text", **experts)


def granite() -> Any:
    """As Granite 4 tiny and small, without their Mamba layers."""
    return build("granitemoeshared")


MODELS = {"granite": granite, "gemma": gemma}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def chosen(model: Any, layer: int) -> set[str]:
    block = find_blocks(model)[layer]
    names = {child: name for name, child in block.layer.named_children()}
    return {names[module] for module in block.modules}


def test_all_branches_are_found_with_their_norms():
    assert chosen(granite(), 1) == {"post_attention_layernorm", "block_sparse_moe", "shared_mlp"}
    norms = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
    experts = {"pre_feedforward_layernorm_2", "router", "experts", "post_feedforward_layernorm_2"}
    assert chosen(gemma(), 1) == norms | experts | {"mlp", "post_feedforward_layernorm_1"}


def added(model: Any) -> np.ndarray:
    """Distances in one pass, by hooks in float64 on what the layer adds and to what, [token, layer]."""
    kept: dict[tuple[int, str], torch.Tensor] = {}

    def keep(index: int, name: str, given: bool) -> Any:
        def hook(module: nn.Module, args: Any, *output: Any) -> None:
            kept[index, name] = (args[0] if given else output[0]).detach().double().reshape(-1, HIDDEN)

        return hook

    handles = []
    granite_like = hasattr(model.model.layers[0], "shared_mlp")
    norm = "post_attention_layernorm" if granite_like else "pre_feedforward_layernorm"
    for index, layer in enumerate(model.model.layers):
        handles.append(getattr(layer, norm).register_forward_pre_hook(keep(index, "h", True)))
        for name in ("block_sparse_moe", "shared_mlp") if granite_like else ("post_feedforward_layernorm",):
            handles.append(getattr(layer, name).register_forward_hook(keep(index, name, False)))
    with torch.no_grad():
        model(ids())
    for handle in handles:
        handle.remove()
    columns = []
    for index in range(len(model.model.layers)):
        f = sum(tensor for (layer, name), tensor in kept.items() if layer == index and name != "h")
        f = f * (model.config.residual_multiplier if granite_like else 1)
        columns.append(1 - torch.cosine_similarity(kept[index, "h"], kept[index, "h"] + f, dim=-1))
    return torch.stack(columns, dim=-1).numpy()


@EACH
@pytest.mark.parametrize("large", [False, True])
def test_the_sum_of_the_branches_is_what_is_recorded(make, large, monkeypatch):
    monkeypatch.setattr("saturation.recording.watching.LARGE", 1 if large else 1 << 16)
    model = make()
    before = forwards_and_hooks(model)
    with st.recording.watch(model, also=("attention", "block", "naive")) as recorder, torch.no_grad():
        logits = model(ids()).logits
    assert forwards_and_hooks(model) == before
    with torch.no_grad():
        assert torch.equal(logits, model(ids()).logits)
    np.testing.assert_allclose(recorder.trace().distance, added(model), rtol=2e-5, atol=1e-7)


@EACH
def test_a_skipped_block_adds_nothing_and_runs_no_branch(make):
    model, silent = make(), copy.deepcopy(make())
    layer = silent.model.layers[1]
    for name in ("block_sparse_moe", "shared_mlp", "post_feedforward_layernorm"):
        if hasattr(layer, name):
            getattr(layer, name).forward = torch.zeros_like
    ran: list[nn.Module] = []
    matrices = [module for child in find_blocks(model)[1].modules for module in child.modules()]
    with torch.no_grad():
        expected = silent(ids()).logits
        with st.skip(model, st.StaticFFN((1,), sink=0)):
            handles = [
                module.register_forward_pre_hook(lambda module, _: ran.append(module))
                for module in matrices
                if isinstance(module, nn.Linear)
            ]
            assert torch.equal(model(ids()).logits, expected)
    for handle in handles:
        handle.remove()
    assert not ran


@EACH
@pytest.mark.parametrize("policy", [st.RandomFFN(ratio=1 / 3, seed=3, sink=0), st.FFNSkip(0.9, warmup=0, sink=0)])
def test_some_tokens_of_a_batch_skip_all_branches(make, policy):
    """Prompts of several lengths: tokens that run give the same beside tokens that do not."""
    options = {"policy": policy, "max_new_tokens": 6, "progress": False}
    runs = st.generate(make(), Words(), PROMPTS, **options)
    alone = st.generate(make(), Words(), PROMPTS, batch_size=1, **options)
    assert runs.ids == alone.ids and 0 < runs.trace.skipped.sum() < runs.trace.skipped.size
    np.testing.assert_array_equal(runs.trace.skipped, alone.trace.skipped)
    np.testing.assert_allclose(runs.trace.distance, alone.trace.distance, rtol=2e-3, atol=1e-6)
    np.testing.assert_array_equal(st.replay(policy, runs.trace).skipped, runs.ledger.skipped)


def test_an_estimate_of_harm_takes_the_sum_of_the_branches():
    model = copy.deepcopy(granite())
    for layer in model.model.layers:
        for parameter in layer.block_sparse_moe.parameters():  # its source; all that is added comes from the other
            parameter.data.zero_()
    assert find_blocks(model)[0].source is model.model.layers[0].block_sparse_moe
    found = st.harm(model, Words(), ["a b c d e f g h"], sink=1, estimate=True, progress=False)
    assert (found.kl[found.measured] > 0).any()


POST_NORM = {
    "bloom": {"apply_residual_connection_post_layernorm": True},
    "opt": {"do_layer_norm_before": False},  # opt-350m
    "minimax": {
        "hidden_size": HIDDEN,
        "intermediate_size": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
    },
}


@pytest.mark.parametrize("family", POST_NORM)
def test_a_post_norm_model_is_refused_with_that_reason(family):
    config = {**FAMILIES.get(family, {}), **POST_NORM[family], "vocab_size": VOCABULARY}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config)).eval()
    expected = (
        "expected decoder layers whose feed-forward output is added to the residual stream, but in layer 0 of "
        f"{type(model).__name__} ('{family}'): it is post-norm: its feed-forward output is added to what a norm gave, "
        "not to the residual stream; this family is not supported"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        find_blocks(model)


@EACH
def test_the_bytes_of_all_branches_count(make):
    model = make()
    layer, block = model.model.layers[1], find_blocks(model)[1]
    whole = sum(p.numel() * 4 for module in block.modules for p in module.parameters())
    experts = [p.numel() * 4 for module in block.modules for p in module.parameters() if p.ndim == 3]
    assert experts and cost(model, block.modules).bytes == pytest.approx(whole - sum(experts) / 3)
    names = ("block_sparse_moe", "shared_mlp", "mlp", "experts", "router")
    parts = [getattr(layer, name) for name in names if hasattr(layer, name)]
    assert whole - sum(p.numel() * 4 for part in parts for p in part.parameters()) <= 5 * HIDDEN * 4
    assert len(find_blocks(model)) == LAYERS
