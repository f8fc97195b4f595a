"""Checkpoints without the skipped blocks: what vLLM's layout says, and what llama.cpp writes from a GGUF file."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from torch.nn.functional import silu
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks
from tests import ggufs
from tests.families import LAYERS, build
from tests.test_cli import run
from tests.test_recording import ids
from tests.tokens import Words

STATIC = st.StaticFFN((1,), sink=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    st.export(build("llama"), STATIC, tmp_path / "served")
    return tmp_path / "served"


def skipped(model: Any, policy: st.StaticFFN = STATIC) -> torch.Tensor:
    with torch.no_grad(), st.skip(model, policy):
        return model(ids()).logits


# --- the layout that vLLM reads -----------------------------------------------------------------------------------


def read_as_vllm_does(folder: Path) -> LlamaForCausalLM:
    """A LLaMA from the folder by the rules of vLLM's reader alone: each layer has what its `block_configs` says."""
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["DeciLMForCausalLM"]
    weights = load_file(folder / "model.safetensors")
    plain = {key: config[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    plain |= {key: config[key] for key in ("rms_norm_eps", "rope_parameters", "max_position_embeddings", "head_dim")}
    heads = {
        config["num_attention_heads"] // block["attention"]["n_heads_in_group"] for block in config["block_configs"]
    }
    (key_heads,) = heads
    model = LlamaForCausalLM(
        type(build("llama").config)(**plain, num_key_value_heads=key_heads, intermediate_size=1, hidden_act="silu")
    )
    for number, (layer, block) in enumerate(zip(model.model.layers, config["block_configs"], strict=True)):
        assert not block["attention"]["no_op"]
        own = {name.split(".mlp.")[1]: weights.pop(name) for name in [*weights] if f".{number}.mlp." in name}
        if block["ffn"]["no_op"]:
            assert not own and not weights.get(f"model.layers.{number}.post_attention_layernorm.weight")
            layer.mlp.forward = torch.zeros_like
            continue
        assert own["down_proj.weight"].shape[1] == block["ffn"]["intermediate_size"]

        def forward(x: torch.Tensor, own: dict[str, torch.Tensor] = own) -> torch.Tensor:
            gate, up, down = (own[f"{name}_proj.weight"] for name in ("gate", "up", "down"))
            return (silu(x @ gate.T) * (x @ up.T)) @ down.T

        layer.mlp.forward = forward
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    return model.eval()


def test_a_reader_of_vllms_rules_computes_what_skipping_computes(folder):
    with torch.no_grad():
        found = read_as_vllm_does(folder)(ids()).logits
    torch.testing.assert_close(found, skipped(build("llama")), rtol=1e-5, atol=1e-6)


def test_transformers_opens_it_and_its_layers_without_ffn_are_no_blocks(folder):
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids()).logits, skipped(build("llama")), rtol=0, atol=0)
    assert [block.number for block in find_blocks(model)] == [number for number in range(LAYERS) if number != 1]
    assert not any("layers.1.mlp" in name for name in load_file(folder / "model.safetensors"))


def test_what_was_opened_can_be_saved_and_opened_again(folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True).eval()
    assert torch.equal(model(ids()).logits, again(ids()).logits)


def test_widths_of_pruned_neurons_are_written_layer_by_layer(tmp_path):
    model = copy.deepcopy(build("llama"))
    texts = ["a b c d e f g h i j k l m n o p"] * 4
    st.prune(model, method="neurons", sparsity=0.4, widths="ranked", tokenizer=Words(), calibration=texts, mean=False)
    widths = [layer.mlp.down_proj.weight.shape[1] for layer in model.model.layers]
    assert len(set(widths)) > 1
    done = st.export(model, None, tmp_path / "narrow")
    config = json.loads((done.path / "config.json").read_text())
    assert [block["ffn"]["intermediate_size"] for block in config["block_configs"]] == widths
    with torch.no_grad():
        expected = model(ids()).logits
        torch.testing.assert_close(read_as_vllm_does(done.path)(ids()).logits, expected, rtol=1e-5, atol=1e-6)
        opened = AutoModelForCausalLM.from_pretrained(done.path, trust_remote_code=True).eval()
        torch.testing.assert_close(opened(ids()).logits, expected, rtol=0, atol=0)


def test_one_width_is_an_ordinary_checkpoint(tmp_path):
    model = copy.deepcopy(build("llama"))
    texts = ["a b c d e f g h i j k l m n o p"] * 4
    st.prune(model, method="neurons", sparsity=0.4, widths="one", tokenizer=Words(), calibration=texts, mean=False)
    done = st.export(model, None, tmp_path / "narrow")
    opened = AutoModelForCausalLM.from_pretrained(done.path).eval()
    assert type(opened) is LlamaForCausalLM and done.before == done.after
    with torch.no_grad():
        assert torch.equal(opened(ids()).logits, model(ids()).logits)


def test_tied_embeddings_are_written_once_and_bytes_are_counted(tmp_path):
    model = build("llama", tie_word_embeddings=True)
    done = st.export(model, STATIC, tmp_path / "served")
    weights = load_file(done.path / "model.safetensors")
    assert "lm_head.weight" not in weights
    opened = AutoModelForCausalLM.from_pretrained(done.path, trust_remote_code=True).eval()
    with torch.no_grad():
        assert torch.equal(opened(ids()).logits, skipped(model))
    gone = sum(p.numel() * 4 for n, p in model.named_parameters() if "layers.1.mlp" in n or "layers.1.post" in n)
    assert done.before - done.after == gone
    assert done.after == sum(tensor.numel() * 4 for tensor in weights.values())


# --- llama.cpp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantised", [False, True])
def test_a_gguf_file_keeps_what_stays_byte_for_byte(tmp_path, quantised):
    source = ggufs.write(tmp_path / "tiny.gguf", quantised=quantised)
    done = st.export(source, STATIC, tmp_path / "out.gguf")
    before, after = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (source, done.path))
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        if name.startswith(("blk.1.ffn_gate", "blk.1.ffn_up", "blk.1.ffn_down")):
            assert 32 in tensor.shape.tolist() and not tensor.data.any()
        else:
            assert np.array_equal(tensor.data, before[name].data) and tensor.tensor_type == before[name].tensor_type
    keys, old = GGUFReader(done.path).fields, GGUFReader(source).fields
    assert keys["general.architecture"].contents() == "deci"
    assert keys["deci.feed_forward_length"].contents() == [64, 32]
    assert keys["deci.attention.head_count_kv"].contents() == [2, 2]
    assert keys["tokenizer.ggml.tokens"].contents() == old["tokenizer.ggml.tokens"].contents()
    assert keys["deci.rope.freq_base"].contents() == old["llama.rope.freq_base"].contents()


def served(path: Path) -> Callable[[str], str]:
    """llama.cpp itself, on one thread, in floats wherever the file is."""
    engine = pytest.importorskip("xllamacpp", reason="the extra dev installs xllamacpp, which is llama.cpp")
    given = engine.CommonParams()
    given.model.path, given.n_ctx, given.n_parallel, given.verbosity = str(path), 128, 1, 0
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    given.cache_type_k = given.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    server = engine.Server(given)

    def write(prompt: str) -> str:
        asked = {"prompt": prompt, "n_predict": NEW, "temperature": 0}
        return str(server.handle_completions(asked)["choices"][0]["text"])

    return write


NEW = 16


@pytest.mark.parametrize("policy", [None, STATIC], ids=["dense", "skipping"])
def test_llama_cpp_writes_what_skipping_writes(policy, tmp_path):
    source = ggufs.write(tmp_path / "tiny.gguf", split="gpt-2")
    done = st.export(source, policy, tmp_path / "out.gguf")
    model, tokenizer = st.load(source)
    prompts = ["the cat sat on the mat", "hello the", "a b c"]
    runs = st.generate(model, tokenizer, prompts, policy=policy, max_new_tokens=NEW, chat=False, progress=False)
    write = served(done.path)
    assert [write(prompt) for prompt in prompts] == runs.texts


def test_llama_cpp_writes_it_with_a_real_quantised_model_too(fetched, fetched_gguf, tmp_path):
    """It rounds activations to 8 bits, and texts part where two tokens are nearly as likely: not in these."""
    policy = st.StaticFFN((12, 13, 14, 16, 17), sink=0)
    done = st.export(fetched_gguf, policy, tmp_path / "out.gguf")
    assert 0.90 < done.after / done.before < 0.93
    model, tokenizer = st.load(fetched)
    prompts = ["The capital of France is", "My favourite colour is"]
    runs = st.generate(model, tokenizer, prompts, policy=policy, max_new_tokens=NEW, chat=False, progress=False)
    write = served(done.path)
    assert [write(prompt) for prompt in prompts] == runs.texts


# --- what cannot be exported --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (st.FFNSkip(0.9), "which decides while the model runs; a checkpoint cannot: fit a StaticFFN"),
        (st.RandomFFN(0.2), "which decides while the model runs"),
        (st.StaticFFN((1,)), "which spares the first 4 tokens of every text; a checkpoint cannot: measure and export"),
        (st.StaticFFN((1,), sink=0, decode_only=True), "which spares prefill; a checkpoint cannot"),
        (st.StaticFFN((7,), sink=0), f"expected layers of a model with {LAYERS}, numbered from 0, got 7"),
    ],
)
def test_policies_that_no_checkpoint_can_hold(policy, said, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)):
        st.export(build("llama"), policy, tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_models_that_the_layout_cannot_hold(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"got GPT2LMHeadModel \('gpt2'\): DeciLM's layers are LLaMA's"):
        st.export(build("gpt2"), STATIC, tmp_path / "served")
    source = ggufs.write(tmp_path / "tiny.gguf", architecture="gemma3")
    with pytest.raises(UnsupportedModel, match="got 'gemma3'"):
        st.export(source, STATIC, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="expected the name of a new folder"):
        st.export(build("llama"), STATIC, tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="expected a folder to write x into"):
        st.export(build("llama"), STATIC, tmp_path / "no" / "x")
    with pytest.raises(ValueError, match=r"expected a name that ends in \.gguf"):
        st.export(tmp_path / "a.gguf", STATIC, tmp_path / "b")
    with pytest.raises(ValueError, match="expected a folder for a model of transformers"):
        st.export(build("llama"), STATIC, tmp_path / "b.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saturation.serving.decilm.save_torch_state_dict", full)
    with pytest.raises(OSError, match="No space left"):
        st.export(build("llama"), STATIC, tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path):
    source = ggufs.write(tmp_path / "tiny.gguf")
    rule = '{"policy": "StaticFFN", "layers": [1], "sink": 0}'
    code, out, _ = run("export", source, "--policy", rule, "-o", tmp_path / "out.gguf")
    assert code == 0 and "layers without FFN: 1" in out and f"llama-server -m {tmp_path / 'out.gguf'}" in out
    code, _, err = run(
        "export", source, "--policy", '{"policy": "FFNSkip", "threshold": 0.9}', "-o", tmp_path / "no.gguf"
    )
    assert code == 1 and "decides while the model runs" in err and not (tmp_path / "no.gguf").exists()
