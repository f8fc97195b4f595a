"""Which token of which sequence each row of a forward pass is: prefill or decode, padding or real."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..policies import Steps

_LOG = logging.getLogger(__name__)
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Rows:
    """The real tokens of one forward pass.

    Attributes
    ----------
    ids
        Token ids as the model got them, [batch, width]; None for embeddings.
    index
        Where the real tokens stand in the flattened [batch * width], [token]; None when all are real.
    sequence, position
        Number of the sequence, and of the token inside it without padding, [token].
    generated
        n >= 1 where this pass consumes generated token number n, 0 in prefill, [token].
    stepped
        True for a decode step of one token per sequence, False for a pass over given text.
    read
        Tokens of the pass, padding included: batch * width.
    """

    ids: Tensor | None
    index: np.ndarray | None
    sequence: np.ndarray
    position: np.ndarray
    generated: np.ndarray
    stepped: bool
    read: int

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def steps(self) -> Steps:
        """The tokens as a policy sees them."""
        return Steps(self.sequence, self.position, self.generated)

    def token_ids(self) -> np.ndarray:
        """Ids of the real tokens, [token]; -1 where the model was given embeddings."""
        if self.ids is None:
            return np.full(len(self), -1)
        flat = self.ids.reshape(-1).cpu().numpy()
        return flat if self.index is None else flat[self.index]

    def whole(self, x: Tensor) -> bool:
        """Whether x [..., hidden] is of all the tokens."""
        return x.numel() == self.read * x.shape[-1]

    def check(self, x: Tensor, layer: int) -> None:
        """Raise ValueError where a layer's x [..., hidden] is not of all the tokens."""
        if not self.whole(x):
            raise ValueError(
                f"expected every feed-forward block to read all {self.read} tokens of a pass at once, but that of "
                f"layer {layer} reads {x.numel() // x.shape[-1]}; if the model leaves out tokens whose logits are not "
                "asked for, ask for all (logits_to_keep=0, which generate takes too) or use saturation.record and "
                "saturation.generate; if it reads in chunks, load it with chunk_size_feed_forward=0"
            )


@dataclass(eq=False)
class _Batch:
    """Sequences that are read side by side, as far as they have come."""

    begun: int  # number of the first of them
    length: np.ndarray  # real tokens read so far, [batch]
    start: np.ndarray  # position from which a token counts as decode, [batch]
    filled: int = 0  # tokens in their KV cache, padding included

    def __len__(self) -> int:
        return len(self.length)


class Stream:
    """Follows the forward passes of one model and numbers what it reads.

    A pass with an empty KV cache, or with one not seen before, begins new sequences. A pass of one token on a filled
    cache is a decode step; one of several is more of the given text, such as the next turn of a conversation or a
    chunk of a long prompt (whose last chunk should not be of a single token).

    Parameters
    ----------
    start
        Position from which given text counts as decode: one for all sequences, or one per sequence in the order they
        are read; negative where so many decoded tokens came before the given ones. None: given text is prefill, and
        decoding starts with the first decode step.
    """

    def __init__(self, start: int | Sequence[int] | None = None) -> None:
        self._asked = start
        self._begun = 0
        self._now = _Batch(0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._by_cache: WeakKeyDictionary[Any, _Batch] = WeakKeyDictionary()
        self._unowned = False  # whether the last pass was given no cache
        self._uncached: Tensor | None = None  # the ids that it read
        self._said = False

    def read(self, named: Mapping[str, Any]) -> Rows:
        """The rows of the pass that is called with these arguments."""
        ids, cache, mask = (named.get(name) for name in ("input_ids", "past_key_values", "attention_mask"))
        batch, width = (ids if ids is not None else named["inputs_embeds"]).shape[:2]
        past = int(cache.get_seq_length()) if cache is not None else 0
        self._now = self._batch(cache, batch, past, mask, ids)
        self._now.filled = past + width
        if past and width == 1:
            return self._step(ids)
        return self._text(ids, real_tokens(mask, batch, width, past), width)

    def _batch(self, cache: Any, batch: int, past: int, mask: Any, ids: Tensor | None) -> _Batch:
        """The sequences that a pass goes on with, or new ones."""
        known = self._by_cache.get(cache) if past else None
        if past and known is None and self._unowned and past == self._now.filled:
            known = self._by_cache[cache] = self._now  # the model itself made this cache in the pass before
        self._unowned = cache is None
        if known is not None and len(known) == batch:
            if past < known.filled:
                raise ValueError(
                    f"expected a KV cache that only grows, got one cut from {known.filled} tokens to {past}, as "
                    "assisted and prompt-lookup decoding do with tokens that they take back; generate without them, "
                    "or from a copy of the cache"
                )
            known.length = known.length + (past - known.filled)  # read while nobody looked
            return known
        self._say_if_read_again(ids if cache is None else None)
        new = self._begin(batch)
        if past:  # filled before anybody looked
            new.length += past if (real := real_tokens(mask, batch, past, 0)) is None else real.sum(axis=1)
        if cache is not None:
            self._by_cache[cache] = new
        return new

    def _begin(self, batch: int) -> _Batch:
        begun, asked = self._begun, self._asked
        self._begun += batch
        length = np.zeros(batch, dtype=np.int64)
        if asked is None or isinstance(asked, int | np.integer):
            return _Batch(begun, length, np.full(batch, _NEVER if asked is None else asked, dtype=np.int64))
        own = np.asarray(asked[begun : begun + batch], dtype=np.int64)
        if len(own) != batch:
            raise ValueError(
                f"expected start= to be one position, or one per sequence, got {len(asked)} and a pass that reads "
                f"sequences {begun} to {begun + batch - 1}; give one for each in the order they are read"
            )
        return _Batch(begun, length, own)

    def _step(self, ids: Tensor | None) -> Rows:
        now, position = self._now, self._now.length
        now.length = position + 1
        now.start = np.minimum(now.start, position)
        sequence = np.arange(now.begun, now.begun + len(now))
        return Rows(ids, None, sequence, position, position - now.start + 1, True, len(now))

    def _text(self, ids: Tensor | None, real: np.ndarray | None, width: int) -> Rows:
        now = self._now
        if self._asked is None:
            now.start = np.full(len(now), _NEVER)  # what is given is prefill again, also after a text was written
        row = np.repeat(np.arange(len(now)), width)  # [batch * width]
        if real is None:
            position = (now.length[:, None] + np.arange(width)).reshape(-1)
            now.length = now.length + width
            index = None
        else:
            position = (now.length[:, None] + real.cumsum(axis=1) - 1).reshape(-1)
            now.length = now.length + real.sum(axis=1)
            index = np.flatnonzero(real)
            row, position = row[index], position[index]
        start = now.start[row]
        generated = np.where(position >= start, position - start + 1, 0)
        return Rows(ids, index, now.begun + row, position, generated, False, len(now) * width)

    def _say_if_read_again(self, ids: Tensor | None) -> None:
        """Say that a text grows token by token without a KV cache: every pass counts as new given text."""
        before, self._uncached = self._uncached, ids
        if self._said or ids is None or before is None or ids.shape[1] != before.shape[1] + 1:
            return
        if len(ids) == len(before) and torch.equal(ids[:, :-1], before):
            self._said = True
            _LOG.warning(
                "the same text is read again with one more token, as generate(use_cache=False) does: without a KV "
                "cache nothing counts as decoded, and policies that leave prefill alone skip nothing; use the cache"
            )


def by_name(model: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a forward pass by their names, those given by position too."""
    if not args:
        return named
    return dict(zip(parameters(model), args, strict=False)) | dict(named)


def parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of what a model's forward takes."""
    return _parameters(type(model).forward)


@cache
def _parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Names of what a forward takes, itself left out."""
    return tuple(inspect.signature(forward).parameters)[1:]


def real_tokens(mask: Any, batch: int, width: int, past: int) -> np.ndarray | None:
    """Which tokens are not padding, bool [batch, width]; None when all are real.

    Parameters
    ----------
    mask
        What the model was given: None, [batch, past + width], or the [batch, 1, width, keys] mask (or a dict of
        them by attention type) that transformers prepares for a static cache.
    batch, width, past
        Sequences, tokens of this pass, and tokens already in the cache.
    """
    if isinstance(mask, dict):
        mask = next((m for m in mask.values() if m is not None), None)
    if mask is None:
        return None
    if not torch.is_tensor(mask):
        raise ValueError(
            f"expected an attention mask that is a tensor or None, got {type(mask).__name__}, in which padding "
            "cannot be seen; load the model with attn_implementation='sdpa' or 'eager'"
        )
    if mask.ndim == 4:  # a padded token may not look at itself
        mask = torch.diagonal(mask[:, 0, :, past : past + width], dim1=1, dim2=2)
        mask = mask if mask.dtype == torch.bool else mask == 0
    real = mask[:, -width:].bool().cpu().numpy()
    real = np.broadcast_to(real, (batch, width))
    return None if real.all() else real
