"""Tiny random models of many families; all sizes unequal, so that a mixed-up axis cannot pass by luck."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

LAYERS, HIDDEN, INNER, VOCABULARY, TOKENS = 3, 32, 37, 99, 7

_LLAMA = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_PLAIN = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_GPT = {"n_embd": HIDDEN, "n_inner": INNER, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}

FAMILIES: dict[str, dict] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "gemma2": {**_LLAMA, "head_dim": 8, "sliding_window": 16},
    "gemma4_text": {  # reads the sum of stream and FFN on inside the layer, and scales it at the end
        **_LLAMA,
        "head_dim": 8,
        "global_head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 6,
    },
    "phi": _LLAMA,
    "phi3": {**_LLAMA, "pad_token_id": 0},
    "gpt2": _GPT,
    "gpt_neo": {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_layers": LAYERS,
        "num_heads": 4,
        "attention_types": [[["global", "local", "global"], 1]],
        "max_position_embeddings": 64,
    },
    "gpt_neox": _PLAIN,
    "gptj": {**_GPT, "rotary_dim": 4},
    "opt": {
        "hidden_size": HIDDEN,
        "word_embed_proj_dim": HIDDEN,
        "ffn_dim": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
    },
    "bloom": {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": 4},
    "falcon": {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4},
    "olmo2": _LLAMA,
    "cohere": _LLAMA,
    "granite": {**_LLAMA, "residual_multiplier": 0.22},
    "mixtral": {**_LLAMA, "intermediate_size": 40, "num_local_experts": 3, "num_experts_per_tok": 2},
    "granitemoeshared": {  # experts beside a shared one, whose outputs the layer adds
        **_LLAMA,
        "intermediate_size": 40,
        "shared_intermediate_size": 24,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
        "residual_multiplier": 0.7,
    },
}

OTHERS: dict[str, dict] = {  # where a test asks for them by name
    "gemma3_text": {**_LLAMA, "head_dim": 8, "sliding_window": 4, "sliding_window_pattern": 2},
}


@cache
def build(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changed: Any) -> PreTrainedModel:
    """A tiny random model in eval mode; shared between tests, so leave it as it was."""
    config = AutoConfig.for_model(
        family,
        **{"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, **(FAMILIES | OTHERS)[family], **changed},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # larger than usual weights: every layer must matter
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3 / parameter.shape[-1] ** 0.5 * 2)
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.fill_(0.7)
    return model.to(dtype).eval()
