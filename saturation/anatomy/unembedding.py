"""The unembedding: the last norm and the output embedding, which turn the residual stream into logits."""

from __future__ import annotations

from contextvars import Context
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..patching import uncompiled
from .blocks import Block, UnsupportedModel, first
from .calls import Call, same, watched
from .ffn_finder import FINDING, find_blocks
from .layers import decoder_layers, input_device
from .unwrapping import unwrapped


@dataclass(frozen=True, eq=False)
class Reading:
    """The modules from the last layer's residual stream to the logits, in the order in which they run."""

    modules: tuple[nn.Module, ...]

    def logits(self, stream: Tensor) -> Tensor:
        """Logits [token, vocabulary] of a residual stream [token, hidden], of any layer."""
        for module in self.modules:
            stream = first(module(stream))
        return stream


def find_reading(model: PreTrainedModel) -> Reading:
    """Find the modules that compute logits, proved on one tiny forward pass.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, or a wrapper of one.

    Returns
    -------
    Reading
        Cached as long as the blocks of `find_blocks`.

    Raises
    ------
    UnsupportedModel
        Where these modules alone do not give the logits, as where logits are scaled or capped.
    """
    model = unwrapped(model)
    blocks = find_blocks(model)
    with FINDING, uncompiled(), torch.no_grad():
        known, found = _READINGS.get(model, ((), None))
        if found is None or known is not blocks:
            found = Context().run(_found, model)  # an empty context has no recorders
            _READINGS[model] = blocks, found
        return found


_READINGS: WeakKeyDictionary[PreTrainedModel, tuple[tuple[Block, ...], Reading]] = WeakKeyDictionary()


def _found(model: PreTrainedModel) -> Reading:
    layers = decoder_layers(model)
    inside = {id(part) for layer in layers for part in layer.modules()}
    around = [part for part in model.modules() if id(part) not in inside and part is not model]
    ids = torch.tensor([[1, 2, 3, 4]], device=input_device(model)) % model.config.get_text_config().vocab_size
    with watched([layers[-1], *around]) as calls:
        logits = model(input_ids=ids, use_cache=False).logits
    stream = next(call for call in calls if call.module is layers[-1]).output
    found = Reading(tuple(_chain(calls, stream)))
    if not found.modules or not _near(found.logits(stream[0]), logits[0]):
        raise UnsupportedModel(
            "expected a model whose logits its last norm and its output embedding make of the residual stream, but "
            f"those of {type(model).__name__} ({model.config.model_type!r}) are changed on the way, as by scaling or "
            "capping, so that early logits are not known; leave out layers that are known before the pass, as "
            "StaticLayers, SkipDecode and UnifiedLayers do"
        )
    return found


def _chain(calls: list[Call], stream: Tensor) -> list[nn.Module]:
    """The chain of modules, from the stream on, in which each reads the output of the one before."""
    chain: list[nn.Module] = []
    while reader := next((call for call in calls if call.module not in chain and same(call.input, stream)), None):
        chain.append(reader.module)
        stream = reader.output
    return chain


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether logits are equal up to rounding: a product with other rows is summed in another order."""
    slack = 64 * torch.finfo(other.dtype).eps * float(other.abs().max())
    return one.shape == other.shape and float((one.double() - other.double()).abs().max()) <= slack
