"""Models as people have them: adapted, compiled, wrapped, quantised, under autocast. Each is measured right or refused.

Where the weights are those of the plain model the plain model is what is compared with, else a hook that computes in
float64 what the block adds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks
from saturation.sweeps import cell_keys
from tests.families import LAYERS, build
from tests.test_recording import forwards_and_hooks, ids, sentence
from tests.tokens import Words

peft = pytest.importorskip("peft", reason="the extra dev installs peft")

PROMPTS = ["a b c", "d e f g h i j", "k"]
POLICIES = {
    "static": st.StaticFFN((1,)),
    "adaptive": st.FFNSkip(0.7, warmup=1),
}
FAMILIES = ("gpt2", "llama", "opt", "gpt_neox")  # learnt positions, rotary ones, no module for the FFN, parallel


def plain(family: str) -> Any:
    return copy.deepcopy(build(family))


def layers_of(model: Any) -> nn.ModuleList:
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == LAYERS]
    return stacks[0]


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def compiled_and_run(model: Any) -> Any:
    model = compiled(model)
    with torch.no_grad():
        model(ids())
    return model


def compiled_in_place(model: Any) -> Any:
    model.compile(backend="eager")
    with torch.no_grad():
        model(ids())
    return model


def compiled_forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_layers(model: Any) -> Any:
    for layer in layers_of(model):
        layer.compile(backend="eager")
    with torch.no_grad():
        model(ids())
    return model


def layers_replaced(model: Any) -> Any:
    stack = layers_of(model)
    for number, layer in enumerate(stack):
        stack[number] = torch.compile(layer, backend="eager")
    return model


def adapted(model: Any) -> Any:
    """LoRA as it begins: what it adds is zero."""
    conv = model.config.model_type == "gpt2"
    return peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", fan_in_fan_out=conv)).eval()


def known_blocks_adapted(model: Any) -> Any:
    find_blocks(model)  # the modules of the FFN change after they were found
    return adapted(model)


class Scaled(nn.Module):
    """A wrapper that nobody knows, and that hands on what it is given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.held = model

    def forward(self, **named: Any) -> Any:
        return self.held(**named)


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "compiled": compiled,
    "compiled and run": compiled_and_run,
    "compiled in place": compiled_in_place,
    "compiled forward": compiled_forward,
    "compiled layers": compiled_layers,
    "layers replaced": layers_replaced,
    "data parallel": nn.DataParallel,
    "LoRA": adapted,
    "LoRA on known blocks": known_blocks_adapted,
    "compiled LoRA": lambda model: compiled(adapted(model)),
    "LoRA of compiled layers": lambda model: adapted(compiled_layers(model)),
    "data parallel of compiled LoRA": lambda model: nn.DataParallel(compiled(adapted(model))),
    "unknown": Scaled,
}
WRAPPED = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def same(one: st.Trace, other: st.Trace) -> None:
    assert one.tokens.equals(other.tokens)
    np.testing.assert_array_equal(one.skipped, other.skipped)
    for name in other.groups:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=2e-4, atol=1e-6)


def written(model: Any, policy: Any = None) -> tuple[torch.Tensor, st.Trace]:
    """What transformers' generate of a model writes after prompts of several lengths, and its trace."""
    rows, _ = st.recording.encode(model, Words(), PROMPTS)
    tokens, mask = st.recording.padded(rows, "left", "cpu")
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with st.skip(model, policy or st.FFNSkip(None)), st.recording.watch(model, tokenizer=Words()) as recorder:
        generate = model.generate if hasattr(model, "generate") else st.anatomy.unwrapped(model).generate
        out = generate(input_ids=tokens, attention_mask=mask, **options)
    return out, recorder.trace()


# --- wrappers: the same weights, so the same numbers ---------------------------------------------------------------


@FAMILY
@WRAPPED
def test_a_wrapped_model_is_recorded_as_the_plain_one(wrap, family):
    model = wrap(plain(family))
    before = forwards_and_hooks(model)
    for new in (0, 5):
        options = {"max_new_tokens": new, "also": ("attention", "block", "naive"), "progress": False}
        same(
            st.record(model, Words(), PROMPTS, **options),
            st.record(build(family), Words(), PROMPTS, **options),
        )
    assert forwards_and_hooks(model) == before


@FAMILY
@WRAPPED
@pytest.mark.parametrize("name", [None, *POLICIES])
def test_a_wrapped_model_writes_and_skips_as_the_plain_one(wrap, family, name):
    policy = POLICIES.get(name)
    options = {"policy": policy, "max_new_tokens": 6, "progress": False}
    runs = st.generate(wrap(plain(family)), Words(), PROMPTS, **options)
    reference = st.generate(build(family), Words(), PROMPTS, **options)
    assert runs.ids == reference.ids
    same(runs.trace, reference.trace)
    if policy is not None:
        np.testing.assert_array_equal(runs.ledger.skipped, reference.ledger.skipped)
        assert runs.ledger.skipped.any()


@FAMILY
@WRAPPED
@pytest.mark.parametrize("name", [None, *POLICIES])
def test_the_generate_of_transformers_is_seen_through_a_wrapper(wrap, family, name):
    tokens, trace = written(wrap(plain(family)), POLICIES.get(name))
    expected, reference = written(build(family), POLICIES.get(name))
    assert torch.equal(tokens, expected)
    same(trace, reference)
    assert trace.skipped.any() == (name is not None)


def test_an_adapter_is_measured_with_its_own_weights():
    model = peft.get_peft_model(plain("llama"), peft.LoraConfig(target_modules="all-linear", init_lora_weights=False))
    traces = {"adapted": st.record(model.eval(), Words(), PROMPTS, progress=False)}
    merged = copy.deepcopy(model).merge_and_unload().eval()
    traces["merged"] = st.record(merged, Words(), PROMPTS, progress=False)
    np.testing.assert_allclose(traces["adapted"].distance, traces["merged"].distance, rtol=1e-3)
    plain_trace = st.record(build("llama"), Words(), PROMPTS, progress=False)
    assert not np.allclose(traces["adapted"].distance, plain_trace.distance, rtol=1e-2)
    assert traces["adapted"].provenance["wrappers"] == ["PeftModel", "LoraModel"]


def test_blocks_are_found_anew_when_an_adapter_comes_after():
    """OPT's FFN is modules of the layer itself; the one that was its end is now inside another."""
    model = plain("opt")
    find_blocks(model)
    model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["fc1", "fc2"], init_lora_weights=False)).eval()
    assert type(find_blocks(model)[0].chain[-1]).__module__.startswith("peft.")


VIRTUAL = {
    "prompt tuning": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix tuning": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


@pytest.mark.parametrize("kind", VIRTUAL)
def test_virtual_tokens_are_rows_before_the_text(kind):
    torch.manual_seed(0)
    model = peft.get_peft_model(plain("llama"), VIRTUAL[kind]).eval()
    first = 0 if kind == "prompt tuning" else 3  # a prefix is keys and values alone: it reads nothing
    text = st.record(model, Words(), [("a b c", " d e")], progress=False)
    assert text.tokens.position.tolist() == list(range(first, 8))
    assert text.tokens.phase.tolist() == ["prefill"] * (6 - first) + ["decode"] * 2
    tokens = torch.tensor([[3, 4, 5]])
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(input_ids=tokens, **options)[0, -5:].tolist()
    for policy in (None, st.StaticFFN((1,)), st.FFNSkip(0.7, warmup=0)):
        runs = st.generate(model, Words(), "a b c", policy=policy, max_new_tokens=5, progress=False)
        with st.skip(model, policy or st.FFNSkip(None)), st.recording.watch(model, tokenizer=Words()) as recorder:
            out = model.generate(input_ids=tokens, **options)
        assert runs.ids[0] == out[0, -5:].tolist()
        same(runs.trace, recorder.trace())
        assert policy is not None or runs.ids[0] == expected
        assert (runs.trace.tokens.phase == "decode").sum() == 4
    sentence_ = (
        "expected prompts of one length in a batch of a model with 3 virtual tokens before each, since its wrapper "
        "numbers their positions without regard to padding, got several lengths; use batch_size=1"
    )
    with pytest.raises(ValueError, match=sentence(sentence_)):
        st.generate(model, Words(), PROMPTS, max_new_tokens=2, progress=False)


@pytest.mark.parametrize("wrap", [adapted, compiled, nn.DataParallel, Scaled])
def test_the_untrained_model_of_a_wrapped_one_is_that_of_the_plain_one(wrap):
    one, other = st.untrained(wrap(plain("llama")), seed=3), st.untrained(build("llama"), seed=3)
    assert type(one) is type(other)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("wrap", [adapted, nn.DataParallel])
def test_harm_of_a_wrapped_model_is_that_of_the_plain_one(wrap):
    options = {"sink": 1, "progress": False}
    one, other = (st.harm(model, Words(), ["a b c d e"], **options) for model in (wrap(plain("llama")), build("llama")))
    np.testing.assert_allclose(one.kl, other.kl, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["prompt tuning", "prefix tuning"])
def test_harm_behind_virtual_tokens_is_refused(kind):
    model = peft.get_peft_model(plain("llama"), VIRTUAL[kind]).eval()
    expected = (
        "expected a model that reads a text as it is, got one whose wrapper puts 3 virtual tokens before it (prompt or "
        "prefix tuning), which harm does not measure; give the model without them"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        st.harm(model, Words(), ["a b c d e"], sink=1, progress=False)


@pytest.mark.parametrize("wrap", [adapted, compiled, nn.DataParallel, Scaled])
def test_a_sweep_tells_wrapped_models_apart(wrap):
    model = wrap(plain("llama"))
    before = cell_keys.fingerprint(model)
    assert cell_keys.place(model) == cell_keys.place(build("llama"))
    assert cell_keys.fingerprint(model) == before
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert cell_keys.fingerprint(model) != before


# --- wrappers that cannot be seen through --------------------------------------------------------------------------


class LogitsAlone(Scaled):
    def forward(self, **named: Any) -> Any:
        return self.held(**named).logits


class Around(Scaled):
    def forward(self, input_ids: torch.Tensor, **named: Any) -> Any:
        return self.held.model(input_ids)


class Strange(Scaled):
    def forward(self, text: str) -> Any:
        raise NotImplementedError


class Two(Scaled):
    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.other = plain("gpt2")


START = (
    "expected a wrapper that hands each call on to the model inside and its output back, as those of PEFT, "
    f"torch.compile and DataParallel do, but of {__name__}."
)
MIDDLE, END = " around LlamaForCausalLM the passes cannot be seen: ", "; give the model inside and call that one"


@pytest.mark.parametrize("enter", [st.recording.watch, lambda model: st.skip(model, st.StaticFFN((1,)))])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (LogitsAlone, f"LogitsAlone{MIDDLE}it gives Tensor in place of the model's output with .logits{END}"),
        (Around, f"Around{MIDDLE}it does not call it in this thread when it is called with a text{END}"),
        (
            Strange,
            f"Strange{MIDDLE}calling it with a text fails (Strange.forward() got an unexpected keyword argument "
            f"'input_ids'){END}",
        ),
    ],
)
def test_a_wrapper_whose_passes_cannot_be_seen_is_named_before_the_run(make, expected, enter):
    model = make(plain("llama"))
    before = forwards_and_hooks(model)
    with pytest.raises(UnsupportedModel, match=sentence(START + expected)), enter(model):
        pass
    assert forwards_and_hooks(model) == before


def test_a_module_around_two_models_and_what_is_no_module_are_refused():
    expected = (
        f"expected a module around one model of transformers, but {__name__}.Two holds 2: LlamaForCausalLM, "
        "GPT2LMHeadModel; give the one to be measured"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        find_blocks(Two(plain("llama")))
    expected = (
        "expected a causal language model of transformers, or a module around one, got builtins.str; give the model "
        "that it holds"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        find_blocks("llama")


def test_the_tiny_call_of_a_wrapper_is_no_pass_of_those_who_watch():
    model = Scaled(plain("llama"))
    with st.skip(model, st.StaticFFN((1,))) as ledger, st.recording.watch(model) as recorder, torch.no_grad():
        model(input_ids=ids())
    assert len(ledger.tokens) == len(recorder.trace()) == ids().numel()


# --- autocast ------------------------------------------------------------------------------------------------------


def in_float64(model: Any, run: Callable[[], Any]) -> np.ndarray:
    """Distances of a LLaMA's FFNs in one pass of one sequence, from hooks that compute in float64, [token, layer]."""
    distances: list[torch.Tensor] = []
    x: list[torch.Tensor] = []

    def after(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        h, f = x.pop().double()[0], output.double()[0]
        distances.append(1 - torch.cosine_similarity(h, h + f, dim=-1))

    handles = [
        handle
        for layer in model.model.layers
        for handle in (
            layer.post_attention_layernorm.register_forward_pre_hook(lambda module, args: x.append(args[0])),
            layer.mlp.register_forward_hook(after),
        )
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(distances, dim=-1).numpy()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("large", [False, True])
def test_autocast_does_not_touch_the_sums(dtype, large, monkeypatch):
    monkeypatch.setattr("saturation.recording.watching.LARGE", 1 if large else 1 << 16)
    model = plain("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(100)  # a sum of squares above what float16 holds
        model.model.layers[0].mlp.down_proj.weight.mul_(30)
    with torch.autocast("cpu", dtype=dtype):
        expected = in_float64(model, lambda: model(ids()))
        with st.recording.watch(model) as recorder, torch.no_grad():
            model(ids())
        np.testing.assert_allclose(recorder.trace().distance, expected, rtol=2e-5, atol=1e-7)
        threshold = 1 - float(np.median(expected[:, 1]))
        policy = st.FFNSkip(threshold, cold_start=0, cold_end=0, warmup=0, horizon=1)
        with st.skip(model, policy, start=0) as ledger, st.recording.watch(model, start=0) as inside, torch.no_grad():
            model(ids())
    assert np.array_equal(st.replay(policy, inside.trace()).skipped, ledger.skipped) and ledger.skipped.any()
    np.testing.assert_allclose(inside.trace().distance[:, 0], expected[:, 0], rtol=2e-5, atol=1e-7)
