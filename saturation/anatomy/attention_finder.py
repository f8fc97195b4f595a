"""The attention finder: the child of each decoder layer that mixes tokens, proved on one tiny forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..patching import patched
from .blocks import Block, UnsupportedModel
from .calls import Call, watched
from .ffn_finder import find_blocks
from .layers import input_device
from .unwrapping import unwrapped

_INSTEAD = "measure the FFN alone (attention=False)"


def find_mixers(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """Find the attention of every decoder layer, where it can be left out by itself.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one.

    Returns
    -------
    tuple of torch.nn.Module
        One per decoder layer, in order. Where all of them return zeros, the FFN of a layer reads the input of the
        layer.

    Raises
    ------
    UnsupportedModel
        Where a layer has no such child or several, where attention and FFN are parallel, or where the output of
        attention is not simply added.
    """
    blocks, model = find_blocks(model), unwrapped(model)
    if blocks[0].parallel:
        raise refused(model, 0, "attention and FFN read the same input and are added together", _INSTEAD)
    ids = torch.tensor([[1, 2, 3, 4]], device=input_device(model)) % model.config.get_text_config().vocab_size
    with torch.no_grad():
        calls = _calls(model, ids, [child for block in blocks for child in block.layer.children()])
        mixers = tuple(mixing_call(model, block, calls, _INSTEAD).module for block in blocks)
        with patched({mixer: silenced(mixer) for mixer in mixers}):
            silent = _calls(model, ids, [module for block in blocks for module in (block.layer, block.chain[0])])
    for block in blocks:
        entered, read = (next(call for call in silent if call.module is m) for m in (block.layer, block.chain[0]))
        if not (torch.is_tensor(read.input) and torch.equal(read.input.reshape(entered.input.shape), entered.input)):
            reason = "what attention returns is not simply added to the residual stream"
            raise refused(model, block.number, reason, _INSTEAD)
    return mixers


def silenced(mixer: nn.Module, begin: int = 0, scope: object = True) -> Callable[..., Any]:
    """A forward for `patched` under which attention returns zeros from a position on.

    Parameters
    ----------
    mixer
        As `find_mixers` returns it.
    begin
        First position in the pass at which it adds nothing.
    scope
        While it is false the module runs unchanged.
    """
    original = mixer.forward

    def forward(*args: Any, **named: Any) -> Any:
        output = original(*args, **named)
        if not scope:
            return output
        return (_blank(output[0], begin), *output[1:]) if isinstance(output, tuple) else _blank(output, begin)

    return forward


def _blank(output: Tensor, begin: int) -> Tensor:
    """A copy of [batch, width, hidden] with zeros from a position on."""
    output = output.clone()
    output[:, begin:] = 0
    return output


def _calls(model: PreTrainedModel, ids: Tensor, modules: list[nn.Module]) -> list[Call]:
    with watched(modules) as calls:
        model(input_ids=ids, use_cache=False)
    return calls


def mixing_call(model: PreTrainedModel, block: Block, calls: list[Call], instead: str) -> Call:
    """The one call among a layer's children that gets a mask, positions or a cache; refuses none or several."""
    children = set(block.layer.children())
    found = [call for call in calls if call.module in children and call.mixes]
    if len(found) != 1 or not torch.is_tensor(found[0].output) or found[0].output.ndim != 3:
        raise refused(model, block.number, f"{len(found)} parts of it are handed a mask, positions or a cache", instead)
    return found[0]


def refused(model: PreTrainedModel, index: int, reason: str, instead: str) -> UnsupportedModel:
    """The error for a layer whose attention cannot be left out, with what to do instead."""
    return UnsupportedModel(
        f"expected decoder layers whose attention can be left out by itself, but in layer {index} of "
        f"{type(model).__name__} ({model.config.model_type!r}) {reason}; {instead}"
    )
