"""The model of `configuration_decilm` for transformers: a LLaMA, its feed-forward blocks as wide as the layer says."""

import copy
from typing import Any

import torch
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from .configuration_decilm import DeciLMConfig


class Nothing(torch.nn.Module):
    """A feed-forward block that adds nothing."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Zeros [..., hidden]."""
        return torch.zeros_like(hidden_states)


class DeciLMForCausalLM(LlamaForCausalLM):
    """A LLaMA in which each feed-forward block has its own width, or is absent."""

    config_class = DeciLMConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for layer, block in zip(self.model.layers, config.block_configs, strict=True):
            if block.ffn.no_op:
                layer.post_attention_layernorm, layer.mlp = torch.nn.Identity(), Nothing()
            elif block.ffn.intermediate_size != config.intermediate_size:
                narrow = copy.copy(config)
                narrow.intermediate_size = block.ffn.intermediate_size
                layer.mlp = LlamaMLP(narrow)
