"""The key-value finder: the attention of every decoder layer, and its modules that compute keys and values.

There is no table of architectures, as for feed-forward blocks. One tiny forward pass *proves* that attention can be
left out: where all attention returns zeros (and for whole layers every FFN adds nothing), each layer must return its
input. To find the matrices that do not affect keys and values, the output of each is set to zero, and keys and values
are compared bit for bit.
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
    """Find the attention beside every feed-forward block, and prove that it can be left out.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one.
    whole
        Prove that attention and FFN can be left out together, so that a layer returns its input.

    Returns
    -------
    tuple of Attention
        One per block of `find_blocks`, in order. Cached for as long as these are.

    Raises
    ------
    UnsupportedModel
        Where a layer has no such module or several, or where more than its output is added to the residual stream.
    """
    model = unwrapped(model)
    blocks = find_blocks(model)
    with FINDING, uncompiled():
        known, found = _ATTENTIONS.get(model, ((), {}))
        if known is not blocks:
            found = {}
            _ATTENTIONS[model] = blocks, found
        if whole not in found:
            found[whole] = Context().run(_found, model, blocks, whole)  # an empty context has no recorders
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
    """Check bit for bit: without attention an FFN reads its layer's input; without both the layer returns it."""
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
    """A forward of attention that adds nothing."""
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
    """Whether keys and values are the same, bit for bit, when some modules return zeros."""
    with patched(idling(idle, lambda: scope)):
        again = _keys_and_values(call)
    return again is not None and all(map(torch.equal, again, stored))


def _keys_and_values(call: Call) -> list[Tensor] | None:
    """Keys and values that attention stores in its cache when the call is repeated; None where it stores none."""
    taken: list[Tensor] = []

    def note(keys: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        taken[:] = [keys.clone(), values.clone()]

    return taken if ended_by(note, call.module.forward, call.args, call.named) else None
