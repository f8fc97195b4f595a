"""Tiny GGUF files, written as llama.cpp's converter writes them: the model they hold is built beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*LETTERS, "Ġt", "he", "ĠĠ", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġ Ġ"]
END, TURN = TOKENS.index("<|endoftext|>"), TOKENS.index("<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny() -> LlamaForCausalLM:
    """A LLaMA of two layers with grouped key heads, the same at every call."""
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        eos_token_id=END,
        bos_token_id=END,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = LlamaForCausalLM(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval().requires_grad_(False)


def write(
    path: Path,
    *,
    architecture: str = "llama",
    template: str | None = TEMPLATE,
    split: str = "gpt2",
    quantised: bool = False,
    parts: int = 1,
) -> Path:
    """Write `tiny` as a GGUF file."""
    model, writer = tiny(), GGUFWriter(path, architecture)
    config = model.config
    writer.add_name("Tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(END)
    writer.add_bos_token_id(END)
    writer.add_add_bos_token(False)
    if parts > 1:
        writer.add_uint16("split.count", parts)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in model.state_dict().items():
        array = _reordered(name, weight, config.num_attention_heads, config.num_key_value_heads).numpy()
        if quantised and array.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(_renamed(name), quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_renamed(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(name: str) -> str:
    """What llama.cpp calls a weight."""
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _reordered(name: str, weight: torch.Tensor, heads: int, key_heads: int) -> torch.Tensor:
    """Rows of query and key as llama.cpp keeps them: the two halves that turn together become neighbours."""
    count = heads if "q_proj" in name else key_heads if "k_proj" in name else None
    if count is None:
        return weight
    rows, columns = weight.shape
    return weight.view(count, 2, rows // count // 2, columns).transpose(1, 2).reshape(rows, columns)
