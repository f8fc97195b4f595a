"""The stack of decoder layers, and where a model wants its tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .blocks import UnsupportedModel


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers of a causal language model, in order; raises UnsupportedModel where there are none."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if config is None or config.is_encoder_decoder or not model.can_generate():
        raise UnsupportedModel(
            f"expected a causal language model (a decoder, as AutoModelForCausalLM loads it), got {kind!r} "
            f"({type(model).__name__}), which does not generate token by token from its own past; "
            "load a decoder such as a Llama, Qwen or GPT model"
        )
    if model.training:
        raise ValueError(
            "expected a model in eval mode, got one in training mode, where dropout would make every "
            "measurement random; call model.eval() first"
        )
    depth = getattr(config.get_text_config(), "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    stacks = [stack for stack in lists if len(stack) == depth]
    if not stacks:
        raise UnsupportedModel(
            f"expected a stack of {depth} decoder layers (one nn.ModuleList, as config.num_hidden_layers "
            f"says), found none in {type(model).__name__} ({kind!r}); this model cannot be watched or skipped"
        )
    return list(max(stacks, key=lambda stack: sum(map(weight, stack))))


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model expects its token ids, also when it is spread over devices."""
    table: Any = model.get_input_embeddings()
    device = next(table.parameters()).device
    if device.type == "meta":  # offloaded: accelerate brings the weights to its execution device
        device = torch.device(table._hf_hook.execution_device)
    return device


def weight(module: nn.Module) -> int:
    """Entries of its matrices: norms and biases weigh nothing."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
