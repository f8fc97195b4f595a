"""Layers that do not run, stacks beside the text's, and passes that are computed anew: right or refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

import saturation as st
from saturation.anatomy import find_blocks
from tests.families import LAYERS, VOCABULARY, build
from tests.test_quantised import in_float64
from tests.test_recording import forwards_and_hooks, ids, sentence

STATIC = st.StaticFFN((1,), sink=0)
EACH = pytest.mark.parametrize("enter", [st.recording.watch, lambda model: st.skip(model, st.FFNSkip(0.5, warmup=0))])


def not_run(layer: int) -> str:
    return sentence(
        f"expected every decoder layer to run in each pass, but layer {layer} did not; early exit "
        "(assistant_early_exit), LayerDrop and a num_hidden_layers that was changed leave layers out: run without "
        "them, or build the model with the layers that run"
    )


# --- layers that do not run ---------------------------------------------------------------------------------------


@EACH
def test_early_exit_is_refused(enter):
    model = copy.deepcopy(build("llama"))  # transformers leaves its configuration changed
    with pytest.raises(ValueError, match=not_run(2)), enter(model):
        model.generate(ids(), max_new_tokens=4, do_sample=False, pad_token_id=0, assistant_early_exit=2)


@EACH
def test_a_depth_that_was_changed_inside_is_refused(enter):
    model = copy.deepcopy(build("llama"))
    before = forwards_and_hooks(model)
    with pytest.raises(ValueError, match=not_run(2)), enter(model), torch.no_grad():
        model.config.num_hidden_layers = 2
        model(ids())
    assert forwards_and_hooks(model) == before


@EACH
@pytest.mark.parametrize("steps", [0, 1, 20])
def test_a_layer_that_is_dropped_is_refused_in_any_pass(enter, steps):
    model = copy.deepcopy(build("opt"))
    with pytest.raises(ValueError, match=not_run(1)), torch.no_grad(), enter(model) as found:
        cache = model(ids(), use_cache=True).past_key_values if steps else None
        model.model.decoder.layers[1].forward = lambda x, *_, **__: x  # as LayerDrop does
        for _ in range(max(1, steps)):
            model(ids()[:, :1], past_key_values=cache)
        if isinstance(found, st.recording.Recorder):  # decode steps are summed later
            found.trace()


# --- stacks of layers beside the text's ---------------------------------------------------------------------------

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
}
VISION = {  # as deep as the text's and heavier
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}


def llava() -> Any:
    vision, text = CLIPVisionConfig(**VISION), LlamaConfig(**TEXT)
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=98))


def gemma3() -> Any:
    text = {**TEXT, "head_dim": 8}
    marks = {"image_token_index": 98, "boi_token_index": 96, "eoi_token_index": 97, "mm_tokens_per_image": 4}
    return Gemma3ForConditionalGeneration(Gemma3Config(vision_config=VISION, text_config=text, **marks))


@pytest.mark.parametrize("make", [llava, gemma3])
def test_of_a_model_that_sees_the_decoder_of_its_text_is_taken(make):
    torch.manual_seed(0)
    model = make().eval()
    language = model.model.language_model
    assert [block.layer for block in find_blocks(model)] == list(language.layers)
    with st.recording.watch(model) as recorder, torch.no_grad():
        model(input_ids=ids() % 90)
    with st.skip(model, STATIC) as ledger:
        model.generate(ids() % 90, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert ledger.skipped[:, 1].any() and len(ledger.tokens) == 9
    if make is llava:
        text = type("Text", (), {"model": language})
        expected = in_float64(text, lambda: model(input_ids=ids() % 90))
        np.testing.assert_allclose(recorder.trace().distance, expected, rtol=2e-5, atol=1e-7)


# --- passes computed anew -----------------------------------------------------------------------------------------

ANEW = sentence(
    "expected no gradient checkpointing inside skip: the backward pass computes layers anew, where no policy acts, so "
    "that gradients would be those of another run; call model.gradient_checkpointing_disable()"
)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_is_refused_while_skipping(reentrant):
    model = copy.deepcopy(build("llama"))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    with st.skip(model, STATIC):
        model.train()
        with pytest.raises(ValueError, match=ANEW):
            model(ids())
        with torch.no_grad():
            model(ids())


@pytest.mark.parametrize("whole", [True, False])
def test_what_the_backward_pass_computes_anew_is_refused_while_skipping(whole):
    """A checkpoint of one's own, around the model or around a layer."""
    model = copy.deepcopy(build("llama"))
    given = model.get_input_embeddings()(ids()).detach().requires_grad_(True)
    if not whole:
        layer = model.model.layers[1]
        forward = layer.forward
        layer.forward = lambda x, **named: checkpoint(lambda x: forward(x, **named), x, use_reentrant=True)
    with st.skip(model, STATIC):
        if whole:
            logits = checkpoint(lambda x: model(inputs_embeds=x).logits, given, use_reentrant=True)
        else:
            logits = model(inputs_embeds=given).logits
        with pytest.raises(ValueError, match=ANEW):
            logits.sum().backward()


def test_gradients_of_a_skipping_run_are_those_of_a_model_without_the_block():
    model = copy.deepcopy(build("llama"))
    with st.skip(model, STATIC):
        model(ids()).logits.square().sum().backward()
    silent = copy.deepcopy(build("llama"))
    silent.model.layers[1].mlp.forward = torch.zeros_like
    silent(ids()).logits.square().sum().backward()
    assert model.model.layers[1].mlp.up_proj.weight.grad is None
    one, other = (each.model.layers[0].mlp.up_proj.weight.grad for each in (model, silent))
    torch.testing.assert_close(one, other)


def test_what_is_computed_anew_is_recorded_once():
    model = copy.deepcopy(build("llama"))
    given = model.get_input_embeddings()(ids()).detach().requires_grad_(True)
    with st.recording.watch(model) as recorder:
        checkpoint(lambda x: model(inputs_embeds=x).logits, given, use_reentrant=True).sum().backward()
    assert len(recorder.trace()) == ids().numel()
