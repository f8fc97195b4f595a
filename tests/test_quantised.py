"""Quantised models: recorded as hooks in float64 say, skipped as a policy says, counted in the bytes they take."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks, held, quantised, stored, weight, weights
from saturation.sweeps import cell_keys
from tests.families import LAYERS, build
from tests.test_recording import forwards_and_hooks, ids, sentence
from tests.test_wrapped import POLICIES, PROMPTS, compiled_layers, in_float64, written
from tests.tokens import Words

HIDDEN, INNER = 64, 128  # what the kernels can pack


def plain(family: str = "llama") -> Any:
    return copy.deepcopy(build(family, hidden_size=HIDDEN, intermediate_size=INNER))


# --- linears that keep their weights in buffers, after the formats of GPTQ, AWQ and BitNet --------------------------


class FourBits(nn.Module):
    """A linear in groups of 32 inputs, 4 bits an entry, eight of them in an int32; buffers as GPTQ names them."""

    GROUP, ORDER = 32, (0, 1, 2, 3, 4, 5, 6, 7)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        grouped = linear.weight.detach().reshape(linear.out_features, -1, self.GROUP)  # [out, group, 32]
        scales = grouped.abs().amax(dim=-1) / 7  # [out, group]
        steps = (grouped / scales[..., None]).round().add(8).clamp(0, 15).to(torch.int32).flatten(1)  # [out, in]
        self.register_buffer("qweight", self.packed(steps))
        self.register_buffer("scales", scales.t().contiguous())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def packed(self, steps: Tensor) -> Tensor:
        """[in / 8, out] int32, packed along the inputs."""
        eight = steps.t().reshape(-1, 8, len(steps))
        return sum(eight[:, place] << 4 * number for number, place in enumerate(self.ORDER))

    def steps(self) -> Tensor:
        eight = torch.stack([self.qweight >> 4 * number & 15 for number in range(8)], dim=1)
        return eight[:, list(self.ORDER)].flatten(0, 1)  # [in, out]

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.steps() - 8) * self.scales.repeat_interleave(self.GROUP, dim=0)  # [in, out]
        out = x @ weight.to(x.dtype)
        return out if self.bias is None else out + self.bias


class AwqLike(FourBits):
    """The same packed along the outputs in AWQ's order."""

    ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

    def packed(self, steps: Tensor) -> Tensor:
        """[in, out / 8] int32."""
        eight = steps.t().reshape(steps.shape[1], -1, 8)
        return sum(eight[..., place] << 4 * number for number, place in enumerate(self.ORDER))

    def steps(self) -> Tensor:
        eight = torch.stack([self.qweight >> 4 * number & 15 for number in range(8)], dim=-1)
        return eight[..., list(np.argsort(self.ORDER))].flatten(1)


def bit_linear(linear: nn.Linear) -> nn.Module:
    """BitNet's, three values an entry, as transformers makes it."""
    from transformers.integrations.bitnet import BitLinear, pack_weights

    made = BitLinear(linear.in_features, linear.out_features, bias=linear.bias is not None, dtype=torch.float32)
    scale = linear.weight.detach().abs().mean()
    made.weight = pack_weights((linear.weight.detach() / scale).round().clamp(-1, 1))
    made.weight_scale = 1 / scale[None]
    return made


def four_bit(linear: nn.Linear) -> nn.Module:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra dev installs bitsandbytes")
    made = bitsandbytes.nn.Linear4bit(
        linear.in_features, linear.out_features, linear.bias is not None, quant_type="nf4", compute_dtype=torch.float32
    )
    made.load_state_dict(linear.state_dict())
    return made.to("cpu")


def eight_bit(linear: nn.Linear) -> nn.Module:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra dev installs bitsandbytes")
    made = bitsandbytes.nn.Linear8bitLt(
        linear.in_features, linear.out_features, linear.bias is not None, has_fp16_weights=False
    )
    made.load_state_dict(linear.state_dict())
    return made.to("cpu")


def replaced(make: Callable[[nn.Linear], nn.Module]) -> Callable[[Any], Any]:
    """Every linear but the head, which quantisers leave alone."""

    def quantise(model: Any) -> Any:
        for part in [*model.modules()]:
            for name, child in [*part.named_children()]:
                if type(child) is nn.Linear and name != "lm_head":
                    setattr(part, name, make(child))
        return model.eval().requires_grad_(False)

    return quantise


def quanto(bits: str) -> Callable[[Any], Any]:
    def quantise(model: Any) -> Any:
        quanto = pytest.importorskip("optimum.quanto", reason="the extra dev installs optimum-quanto")
        quanto.quantize(model, weights=getattr(quanto, bits), exclude="lm_head")
        quanto.freeze(model)
        return model

    return quantise


def torchao(config: str) -> Callable[[Any], Any]:
    def quantise(model: Any) -> Any:
        quantization = pytest.importorskip("torchao.quantization", reason="the extra dev installs torchao")
        quantization.quantize_(model.model, getattr(quantization, config)())
        return model

    return quantise


def compressed(model: Any) -> Any:
    """Four bits in one word of eight, as compressed-tensors writes a checkpoint and transformers loads it."""
    tensors = pytest.importorskip("compressed_tensors", reason="the extra dev installs compressed-tensors")
    plan = tensors.quantization
    four = plan.QuantizationArgs(num_bits=4, type="int", strategy="channel", symmetric=True)
    groups = {"all": plan.QuantizationScheme(targets=["Linear"], weights=four)}
    config = plan.QuantizationConfig(config_groups=groups, ignore=["lm_head"], format="pack-quantized")
    plan.apply_quantization_config(model, config)
    for part in model.modules():
        if hasattr(part, "weight_scale"):
            part.weight_scale.data = part.weight.abs().amax(dim=1, keepdim=True) / 7
    compressor = tensors.ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
    compressor.compress_model(model)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        compressor.update_config(folder)
        return AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)


ENTRIES = HIDDEN * INNER
QUANTISERS: dict[str, tuple[Callable[[Any], Any], int]] = {  # how, and bytes of one FFN matrix
    "GPTQ": (replaced(FourBits), ENTRIES // 2 + ENTRIES // 32 * 4),
    "AWQ": (replaced(AwqLike), ENTRIES // 2 + ENTRIES // 32 * 4),
    "BitNet": (replaced(bit_linear), ENTRIES // 4 + 4),
    "quanto int8": (quanto("qint8"), ENTRIES + 8),
    "torchao int8": (torchao("Int8WeightOnlyConfig"), ENTRIES),
    "torchao int8 dynamic": (torchao("Int8DynamicActivationInt8WeightConfig"), ENTRIES),
    "compressed-tensors": (compressed, ENTRIES // 2),  # until its first pass, which unpacks them
    "bitsandbytes 4 bit": (replaced(four_bit), ENTRIES // 2 + ENTRIES // 64 * 4 + 16 * 4),
    "bitsandbytes 8 bit": (replaced(eight_bit), ENTRIES),
}
ROUNDED = ("BitNet", "torchao int8 dynamic")  # their activations are rounded too, so that rounding moves by whole steps
EACH = pytest.mark.parametrize("name", QUANTISERS)


def quantise(name: str) -> Any:
    return QUANTISERS[name][0](plain())


@EACH
def test_a_quantised_model_is_recorded_as_float64_hooks_say(name):
    model = quantise(name)
    with torch.no_grad():
        dense = model(ids()).logits
    before = forwards_and_hooks(model)
    with st.recording.watch(model, also=("attention", "block", "naive")) as recorder, torch.no_grad():
        assert torch.equal(model(ids()).logits, dense)
    expected = in_float64(model, lambda: model(ids()))
    np.testing.assert_allclose(recorder.trace().distance, expected, rtol=2e-5, atol=1e-7)
    assert forwards_and_hooks(model) == before


@EACH
@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_a_quantised_model_writes_and_skips_alike_in_every_way(name, policy):
    """Our loop in a ragged batch, one by one, and transformers' generate."""
    model, rule = quantise(name), POLICIES.get(policy)
    options = {"policy": rule, "max_new_tokens": 5, "progress": False}
    runs = st.generate(model, Words(), PROMPTS, **options)
    alone = st.generate(model, Words(), PROMPTS, batch_size=1, **options)
    tokens, trace = written(model, rule)
    assert runs.ids == [row[-5:].tolist() for row in tokens]
    compared = [trace, alone.trace][: 1 if name in ROUNDED else 2]
    for other in compared:
        assert runs.trace.tokens.equals(other.tokens)
        np.testing.assert_array_equal(runs.trace.skipped, other.skipped)
        np.testing.assert_allclose(runs.trace.distance, other.distance, rtol=1e-3, atol=1e-6)
    if rule is not None:
        assert runs.ledger.skipped.any()
        np.testing.assert_array_equal(st.replay(rule, runs.trace).skipped, runs.ledger.skipped)


@EACH
def test_a_skipped_block_of_a_quantised_model_adds_nothing(name):
    model, silent = quantise(name), quantise(name)
    silent.model.layers[1].mlp.forward = torch.zeros_like
    with torch.no_grad():
        expected = silent(ids()).logits
        with st.skip(model, st.StaticFFN((1,), sink=0)):
            assert torch.equal(model(ids()).logits, expected)


@EACH
def test_weights_count_in_the_bytes_in_which_they_are_stored(name):
    model, matrix = quantise(name), QUANTISERS[name][1]
    mlp = model.model.layers[0].mlp
    kept = sum(map(stored, weights(mlp)))
    assert 3 * matrix <= kept <= 3 * (matrix + 8 * INNER)  # scales and zero points of rows
    assert weight(mlp) >= 3 * ENTRIES // 8  # packed at most eight in one
    norm, policy = HIDDEN * 4, st.StaticFFN((0, 1), decode_only=True, sink=0)
    ledger = st.generate(model, Words(), "a b c", policy=policy, max_new_tokens=5, progress=False).ledger
    kept = sum(map(stored, weights(mlp)))  # bitsandbytes packs anew in its first pass, compressed-tensors unpacks
    attention = sum(map(stored, weights(model.model.layers[0].self_attn)))
    head = sum(map(stored, weights(model.lm_head)))
    rest = LAYERS * (attention + norm) + norm + head
    assert ledger.ideal == pytest.approx((rest + LAYERS * (kept + norm)) / (rest + (LAYERS - 2) * (kept + norm)))


@EACH
def test_a_sweep_tells_quantised_models_apart(name):
    model = quantise(name)
    before = cell_keys.fingerprint(model)
    assert cell_keys.fingerprint(model) == before != cell_keys.fingerprint(plain())
    torch.manual_seed(1)
    for part in (part for part in model.model.layers[0].mlp.modules() if next(part.children(), None) is None):
        for whole in weights(part):
            for tensor in held(whole):
                tensor.data.copy_(tensor.data.flatten().roll(1).reshape(tensor.shape))
    assert cell_keys.fingerprint(model) != before


def test_a_plain_model_counts_as_before():
    model = build("gpt_neo")  # its masks are buffers, and no weights
    assert sum(map(stored, weights(model))) == sum(p.numel() * p.element_size() for p in model.parameters())
    assert not quantised(model)


def test_quantised_parts_are_named():
    assert quantised(quantise("GPTQ")) == {"FourBits": 7 * LAYERS}
    assert quantised(quantise("torchao int8")) == {"Linear of Int8Tensor": 7 * LAYERS}


def test_a_quantised_model_may_be_wrapped_and_compiled_too():
    peft = pytest.importorskip("peft", reason="the extra dev installs peft")
    base = quantise("quanto int8")
    expected = st.generate(base, Words(), PROMPTS, policy=POLICIES["adaptive"], max_new_tokens=4, progress=False)
    model = peft.PeftModel(compiled_layers(quantise("quanto int8")), peft.LoraConfig(target_modules=["q_proj"]))
    runs = st.generate(model.eval(), Words(), PROMPTS, policy=POLICIES["adaptive"], max_new_tokens=4, progress=False)
    assert runs.ids == expected.ids and np.array_equal(runs.trace.skipped, expected.trace.skipped)
    assert len(find_blocks(model)) == LAYERS


def test_dynamic_quantisation_over_all_tokens_is_refused_with_its_reason():
    model = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.qint8)
    expected = (
        "expected a causal language model, whose tokens do not depend on later ones, but in LlamaForCausalLM "
        "('llama') they do: its linears (Linear of torch.ao.nn.quantized.dynamic) round the activations of all "
        "tokens of a pass on one scale; quantise the weights alone, or the activations token by token, as torchao's "
        "Int8DynamicActivationInt8WeightConfig does"
    )
    with pytest.raises(UnsupportedModel, match=sentence(expected)):
        find_blocks(model)


def test_torchao_says_nothing_of_its_kernels_when_a_model_is_loaded():
    pytest.importorskip("torchao", reason="the extra dev installs torchao")
    ran = "import sys, saturation; saturation.load('demo'); print('torchao' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ran], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
