"""The FFN finder: the feed-forward block of every decoder layer, found by tracing one tiny forward pass."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import is_not
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..patching import uncompiled
from .blocks import Block, UnsupportedModel, first, refusal
from .branches import branched
from .calls import Call, same, watched
from .layers import decoder_layers, input_device
from .proof import prove
from .unwrapping import unwrapped
from .weight_bytes import quantised, weight


def find_blocks(model: PreTrainedModel) -> tuple[Block, ...]:
    """Find the feed-forward block of every decoder layer.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one.

    Returns
    -------
    tuple of Block
        One per decoder layer that has one, in order; hybrids such as Nemotron-H have layers without. Cached as long as
        the model keeps the same layers.

    Raises
    ------
    UnsupportedModel
        With the reason: not a causal language model, no decoder layers, or a layer whose FFN is not simply added.
    ValueError
        For a model in training mode.
    """
    model = unwrapped(model)
    layers = decoder_layers(model)
    with FINDING, uncompiled():  # one trace at a time, since two would record each other's calls
        parts = [part for layer in layers for part in layer.modules()]  # an adapter changes them
        known, blocks = _BLOCKS.get(model, ([], ()))
        if len(parts) != len(known) or any(map(is_not, parts, known)):
            blocks = _found(model, layers)
            _BLOCKS[model] = parts, blocks
        return blocks


def _found(model: PreTrainedModel, layers: list[nn.Module]) -> tuple[Block, ...]:
    calls = _calls_of_layers(model, layers)
    found = [_find_block(model, number, *one) for number, one in enumerate(zip(layers, calls, strict=True))]
    blocks = tuple(replace(block, index=index) for index, block in enumerate(filter(None, found)))
    if not blocks:
        raise refusal(model, 0, _NO_PART)
    if len({block.parallel for block in blocks}) > 1:
        odd = next(block.number for block in blocks if block.parallel != blocks[0].parallel)
        raise refusal(model, odd, "it is parallel to attention and others are not, or the other way round")
    return blocks


_BLOCKS: WeakKeyDictionary[PreTrainedModel, tuple[list[nn.Module], tuple[Block, ...]]] = WeakKeyDictionary()
FINDING = threading.RLock()
_NO_PART = "no part of it reads single tokens and carries weights"


def _calls_of_layers(model: PreTrainedModel, layers: list[nn.Module]) -> list[Call]:
    """The call of each decoder layer when the model reads four tokens; refuses a model that is not causal."""
    ids = torch.tensor([[1, 2, 3, 4]], device=input_device(model)) % model.config.get_text_config().vocab_size
    other = torch.cat([ids[:, :3], ids[:, :1]], dim=1)  # the last token differs
    with torch.no_grad():
        with watched(layers) as calls:
            logits = model(input_ids=ids, use_cache=False).logits
        again = model(input_ids=other, use_cache=False).logits
    if not _alike(logits, again):
        raise UnsupportedModel(
            f"expected a causal language model, whose tokens do not depend on later ones, but in "
            f"{type(model).__name__} ({model.config.model_type!r}) they do{_why(model)}"
        )
    by_layer = {id(call.module): call for call in calls}
    if missing := [index for index, layer in enumerate(layers) if id(layer) not in by_layer]:
        raise refusal(model, missing[0], "the forward pass does not call it")
    return [by_layer[id(layer)] for layer in layers]


def _why(model: PreTrainedModel) -> str:
    """The reason why tokens depend on later ones, and the advice, for the error message."""
    if packed := next((part for part in model.modules() if hasattr(part, "_packed_params")), None):
        where = ".".join(type(packed).__module__.split(".")[:-2])
        return (
            f": its linears ({type(packed).__name__} of {where}) round the activations of all tokens of a pass on one "
            "scale; quantise the weights alone, or the activations token by token, as torchao's "
            "Int8DynamicActivationInt8WeightConfig does"
        )
    known = "is_decoder=True where its configuration knows that"
    return f", as in an encoder; load it as a decoder ({known}), or another model"


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether the logits [1, 4, vocabulary] after the first three of four tokens differ by rounding only.

    The limit is relative to the change at the fourth token, which differs: experts round a token differently beside
    other tokens, and depth amplifies that, but a token that attends to later ones changes far more. Infinity and NaN
    are reported later.
    """
    moved = (one - other).abs().float().nan_to_num(0, 0)[0].amax(dim=-1)  # [4]
    return bool(moved[:3].max() <= max(1e-4, 4 * torch.finfo(one.dtype).eps) * moved[3])


def _find_block(model: PreTrainedModel, index: int, layer: nn.Module, call: Call) -> Block | None:
    """Find the block of one decoder layer; None where the layer only mixes tokens."""
    with torch.no_grad(), _by_itself(model, index), watched(list(layer.children())) as calls:
        output = first(layer(*call.args, **call.named)).clone()
    if not bool(output.isfinite().all()):
        raise ValueError(
            f"expected finite activations, but layer {index} of {type(model).__name__} gives infinity or NaN for "
            "token 1 to 4 already; check its weights, and its dtype (float16 overflows where bfloat16 does not)"
        )
    chain = _heaviest_chain(calls)
    if not chain:
        if all(call.mixes or _plain(call.module) for call in calls):
            return None
        raise refusal(model, index, _NO_PART)
    block = Block(index, index, layer, chain, chain[-1])
    try:
        with torch.no_grad(), _by_itself(model, index):
            return prove(model, block, call, output)
    except UnsupportedModel as refused:
        with torch.no_grad(), suppress(UnsupportedModel), _by_itself(model, index):
            if whole := branched(block, calls):
                return prove(model, whole, call, output)
        raise refused


def _plain(module: nn.Module) -> bool:
    """Whether a module has no matrix in any form, such as a norm or a dropout."""
    held = [*module.parameters(), *module.buffers()]
    return not list(module.children()) and not quantised(module) and all(one.ndim < 2 for one in held)


@contextmanager
def _by_itself(model: PreTrainedModel, index: int) -> Iterator[None]:
    """Refuse the model for any error that a layer raises when it runs outside its model."""
    try:
        yield
    except (UnsupportedModel, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise refusal(model, index, f"it cannot be run by itself, as it must be to be proved ({said})") from error


def _heaviest_chain(calls: list[Call]) -> tuple[nn.Module, ...]:
    """The chain of linked calls around the module with the most weights that does not mix tokens."""
    runs = Counter(call.module for call in calls)  # a dropout that attention uses too is not part of the FFN
    free = [c for c in calls if not c.mixes and torch.is_tensor(c.input) and runs[c.module] == 1]
    heaviest = max(free, key=lambda call: weight(call.module), default=None)
    if heaviest is None or weight(heaviest.module) == 0:
        return ()
    chain = [heaviest]
    while (after := _readers(calls, chain[-1])) and len(after) == 1 and after[0] in free:
        chain.append(after[0])
    while (before := _writer(free, chain[0])) and len(_readers(calls, before)) == 1:
        chain.insert(0, before)
    return tuple(call.module for call in chain)


def _readers(calls: list[Call], writer: Call) -> list[Call]:
    return [call for call in calls if call is not writer and same(call.input, writer.output)]


def _writer(calls: list[Call], reader: Call) -> Call | None:
    return next((call for call in calls if call is not reader and same(call.output, reader.input)), None)
