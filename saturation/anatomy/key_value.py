"""Find the attention of every decoder layer, and what of it keys and values are made by.

As for the feed-forward blocks there is no table of architectures. That attention can be left out is *proved* on one
tiny forward pass: where all of it returns zeros (and every FFN adds nothing, for whole layers), each layer must hand on
what entered it. Which of its matrices keys and values do not depend on is found by setting the output of each to zero
and comparing keys and values bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..patching import Scope, patched, uncompiled
from .attention import Attention, ended_by, idling
from .attention_finder import mixing_call, refused
from .blocks import Block, given
from .calls import Call, watched
from .ffn_finder import FINDING, find_blocks
from .layers import input_device
from .proof import collapsed
from .unwrapping import unwrapped
from .weight_bytes import weight, weights

_INSTEAD = "leave out feed-forward blocks alone, as FFNSkip, StaticFFN and RandomFFN do"
_Found = tuple[Attention, ...]


def find_attentions(model: PreTrainedModel, *, whole: bool = False) -> _Found:
    """Find the attention beside every feed-forward block, where it can be left out.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one.
    whole
        Prove that attention and FFN can be left out together, so that a layer hands on what enters it.

    Returns
    -------
    tuple of Attention
        One per block of `find_blocks`, in order. Cached for as long as these are.

    Raises
    ------
    UnsupportedModel
        Where a layer has no such part or several, or where more than what it returns is added to the residual stream.
    """
    model = unwrapped(model)
    blocks = find_blocks(model)
    with FINDING, uncompiled():
        known, found = _ATTENTIONS.get(model, ((), {}))
        if known is not blocks:
            found = {}
            _ATTENTIONS[model] = blocks, found
        if whole not in found:
            found[whole] = Context().run(_found, model, blocks, whole)  # nobody watches in an empty context
        return found[whole]


_ATTENTIONS: WeakKeyDictionary[PreTrainedModel, tuple[tuple[Block, ...], dict[bool, _Found]]] = WeakKeyDictionary()


def _found(model: PreTrainedModel, blocks: tuple[Block, ...], whole: bool) -> _Found:
    scope = Scope()
    with scope.entered(), torch.no_grad():
        calls = _calls(model, [child for block in blocks for child in block.layer.children()])
        found = [mixing_call(model, block, calls, _INSTEAD) for block in blocks]
        _prove(model, blocks, found, whole, scope)
        cached = {call.module: call for call in _calls(model, [call.module for call in found], use_cache=True)}
        return tuple(
            _attention(block, call, cached[call.module], scope) for block, call in zip(blocks, found, strict=True)
        )


def _calls(model: PreTrainedModel, modules: Sequence[nn.Module], *, use_cache: bool = False) -> list[Call]:
    ids = torch.tensor([[1, 2, 3, 4]], device=input_device(model)) % model.config.get_text_config().vocab_size
    with watched(list(modules)) as calls:
        model(input_ids=ids, use_cache=use_cache)
    return calls


def _prove(model: PreTrainedModel, blocks: Sequence[Block], found: Sequence[Call], whole: bool, scope: Scope) -> None:
    """Without attention an FFN reads what entered its layer; without both the layer hands that on: bit for bit."""
    alone = not (whole or blocks[0].parallel)
    forwards = {call.module: _silent(call, scope) for call in found}
    if not alone:
        for block in blocks:
            forwards |= collapsed(block, lambda x, *_, block=block, **__: block.nothing(x), scope)
    with patched(forwards):
        calls = _calls(model, [module for block in blocks for module in (block.layer, block.chain[0])])
    for block in blocks:
        layer = next(call for call in calls if call.module is block.layer)
        behind = next(call.input for call in calls if call.module is block.chain[0]) if alone else layer.output
        if not (torch.is_tensor(behind) and torch.equal(behind.reshape(layer.input.shape), layer.input)):
            parts = "attention returns" if alone else "attention and FFN return"
            reason = f"what {parts} is not all that is added to the residual stream"
            raise refused(model, block.number, reason, _INSTEAD)


def _silent(call: Call, scope: Scope) -> Callable[..., Any]:
    """Forward of an attention that adds nothing."""
    original, outputs = call.module.forward, _outputs(call)

    def forward(*args: Any, **named: Any) -> Any:
        if not scope:
            return original(*args, **named)
        zeros = torch.zeros_like(given(args, named))
        return (zeros, *[None] * (outputs - 1)) if outputs else zeros

    return forward


def _outputs(call: Call) -> int:
    return len(call.whole) if isinstance(call.whole, tuple | list) else 0


def _attention(block: Block, call: Call, cached: Call, scope: Scope) -> Attention:
    module = call.module
    parts = [part for part in module.modules() if not list(part.children()) and next(weights(part), None) is not None]
    with watched(parts) as ran:
        stored = _keys_and_values(cached)
    if stored is None:
        return Attention(block, module, _outputs(call), tuple(parts), ())
    free = [(one.module, one.output.shape[-1]) for one in ran if _token_by_token(one)]
    idle = [one for one in free if _independent(stored, cached, [one], scope)]
    idle = idle if _independent(stored, cached, idle, scope) else []
    unread = [part for part, _ in idle]
    keys = tuple(dict.fromkeys(one.module for one in ran if not any(one.module is part for part in unread)))
    return Attention(block, module, _outputs(call), keys, tuple(one for one in idle if weight(one[0])))


def _token_by_token(call: Call) -> bool:
    pair = (call.input, call.output)
    return all(map(torch.is_tensor, pair)) and call.input.shape[:-1] == call.output.shape[:-1]


def _independent(stored: list[Tensor], call: Call, idle: Sequence[tuple[nn.Module, int]], scope: Scope) -> bool:
    """Whether keys and values are the same, bit for bit, where some parts give zeros."""
    with patched(idling(idle, lambda: scope)):
        again = _keys_and_values(call)
    return again is not None and all(map(torch.equal, again, stored))


def _keys_and_values(call: Call) -> list[Tensor] | None:
    """What an attention hands to its cache when it is called again so; None where it hands it nothing."""
    taken: list[Tensor] = []

    def note(keys: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        taken[:] = [keys.clone(), values.clone()]

    return taken if ended_by(note, call.module.forward, call.args, call.named) else None
