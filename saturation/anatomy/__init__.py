"""The anatomy of a model: its decoder layers, feed-forward blocks and attention, found by tracing one forward pass.

There is no table of architectures. The finder records the calls of a decoder layer's direct children during one run.
A child that gets a cache, a mask or positions mixes tokens (attention). The others are linked where the output of one
is the input of the next, and the chain with the most weights is the FFN with its norms. The result is then *proved*
on the same tensors: the layer must return the same bits when the FFN runs through one closure, and exactly the
residual stream when the FFN adds zero. A layer that fails is refused with the reason.
"""

from __future__ import annotations

from .attention import Attention, idling
from .attention_finder import find_mixers, silenced
from .blocks import Block, UnsupportedModel, first, given
from .ffn_finder import find_blocks
from .key_value import find_attentions
from .layers import decoder_layers, input_device
from .matrices import Matrix, find_matrices
from .neurons import FeedForward, feedforwards, narrowed
from .proof import collapsed
from .unembedding import Reading, find_reading
from .unwrapping import unwrapped, wrappers
from .weight_bytes import held, quantised, stored, weight, weights
from .wrapper_calls import recomputing, running

__all__ = [
    "Attention",
    "Block",
    "FeedForward",
    "Matrix",
    "Reading",
    "UnsupportedModel",
    "collapsed",
    "decoder_layers",
    "feedforwards",
    "find_attentions",
    "find_blocks",
    "find_matrices",
    "find_mixers",
    "find_reading",
    "first",
    "given",
    "held",
    "idling",
    "input_device",
    "narrowed",
    "quantised",
    "recomputing",
    "running",
    "silenced",
    "stored",
    "unwrapped",
    "weight",
    "weights",
    "wrappers",
]
