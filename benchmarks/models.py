"""The models that are timed: the bundled one, and random ones of a named size."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

import saturation as st

CPU = torch.device("cpu")


def demo(device: torch.device = CPU) -> PreTrainedModel:
    return st.load("demo", device=str(device))[0]


def random(
    layers: int, hidden: int, inner: float = 8 / 3, vocabulary: int = 4096, device: torch.device = CPU
) -> PreTrainedModel:
    """A random LLaMA in float32, its FFN `inner` times as wide; right for time and bytes, not for decisions."""
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=round(inner * hidden),
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        vocab_size=vocabulary,
        max_position_embeddings=2048,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).to(device).eval().requires_grad_(False)


def prompt(model: PreTrainedModel, tokens: int = 32) -> torch.Tensor:
    """A fixed random prompt, [1, token]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, model.config.vocab_size, (1, tokens), generator=generator).to(model.device)


@torch.no_grad()
def decode(model: PreTrainedModel, ids: torch.Tensor, steps: int) -> torch.Tensor:
    """Prefill, then `steps` greedy tokens in a bare loop; the cache is new each time."""
    out = model(ids, use_cache=True, logits_to_keep=1)
    written = []
    for _ in range(steps):
        token = out.logits[:, -1:].argmax(-1)
        written.append(token)
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
    return torch.cat(written, dim=1)
