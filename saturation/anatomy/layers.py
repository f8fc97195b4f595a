"""The stack of decoder layers, and the input device of a model."""

from __future__ import annotations

from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from ..patching import Hooks, uncompiled
from .blocks import UnsupportedModel
from .unwrapping import unwrapped
from .weight_bytes import weight


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
    text = config.get_text_config()
    depth = getattr(text, "decoder_layers", None) or getattr(text, "num_hidden_layers", None)
    stacks = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if not stacks:
        raise UnsupportedModel(
            f"expected a stack of {depth} decoder layers (one nn.ModuleList, as config.num_hidden_layers "
            f"says), found none in {type(model).__name__} ({kind!r}); this model cannot be watched or skipped"
        )
    return list(map(_bare, stacks[0] if len(stacks) == 1 else _that_runs(model, stacks)))


_STACKS: WeakKeyDictionary[PreTrainedModel, nn.ModuleList] = WeakKeyDictionary()  # for models with several stacks


def _that_runs(model: PreTrainedModel, stacks: list[nn.ModuleList]) -> nn.ModuleList:
    """Of stacks of equal depth the one that runs on text, not a vision tower; of two such stacks the heavier."""
    if not any(stack is _STACKS.get(model) for stack in stacks):
        run: set[nn.Module] = set()
        hooks = Hooks()
        with hooks.held(), uncompiled(), torch.no_grad():
            for layer in (layer for stack in stacks for layer in stack):
                hooks.before(layer, lambda module, *_: run.add(module))
            model(input_ids=torch.ones(1, 1, dtype=torch.long, device=input_device(model)), use_cache=False)
        _STACKS[model] = max(stacks, key=lambda stack: (len(run.intersection(stack)), weight(stack)))
    return _STACKS[model]


def _bare(layer: nn.Module) -> nn.Module:
    """The layer inside wrappers around it (torch.compile): modules with the layer as their only child."""
    while len(parts := list(layer.children())) == 1 and not list(layer.parameters(recurse=False)):
        layer = parts[0]
    return layer


def input_device(model: PreTrainedModel) -> torch.device:
    """The device on which the model expects token ids, also when it is wrapped, quantised or spread over devices."""
    table: Any = unwrapped(model).get_input_embeddings()
    device = next(chain(table.parameters(), table.buffers())).device
    if device.type == "meta":  # offloaded: accelerate moves the weights to its execution device
        device = torch.device(table._hf_hook.execution_device)
    return device
