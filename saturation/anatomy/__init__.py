"""Where the feed-forward block sits in a decoder layer, found by tracing one tiny forward pass.

There is no table of architectures. The direct children of a decoder layer are watched while it runs once; a child
that is handed a cache, a mask or positions mixes tokens (attention), the others are linked where one's output is
the next one's input, and the link that carries the most weights is the FFN together with its norms. What was found
is then *proved* on the same tensors: the layer must give the same bits when the FFN is run through one closure, and
must return exactly the residual stream when the FFN adds zero. A layer that fails is refused with the reason.
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
