"""The token stream: sequence, position and phase of each row of a forward pass, and which rows are padding."""

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

from .token_rows import Rows

_LOG = logging.getLogger(__name__)
_NEVER = np.iinfo(np.int64).max


@dataclass(eq=False)
class _Batch:
    """Sequences that are read together, and how far each has been read."""

    begun: int  # number of the first sequence
    length: np.ndarray  # real tokens read so far, [batch]
    start: np.ndarray  # position from which a token counts as decode, [batch]
    filled: int = 0  # tokens in their KV cache, padding included

    def __len__(self) -> int:
        return len(self.length)


class Stream:
    """Follow the forward passes of one model and number the tokens that it reads.

    A pass with an empty or unknown KV cache begins new sequences. A pass of one token on a filled cache is a decode
    step. A pass of several is more given text, such as the next turn of a conversation or a chunk of a long prompt
    (whose last chunk should have more than one token).

    Parameters
    ----------
    start
        Position from which given text counts as decode: one for all sequences, or one per sequence in the order they
        are read; -n where n decoded tokens came before the given ones. None: given text is prefill, and
        decoding starts with the first decode step.
    added
        Virtual tokens that a wrapper puts before each text (prompt tuning); they are rows too, but `start` does not
        count them.
    """

    def __init__(self, start: int | Sequence[int] | None = None, added: int = 0) -> None:
        self._asked, self._added = start, added
        self._begun = 0
        self._now = _Batch(0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._by_cache: WeakKeyDictionary[Any, _Batch] = WeakKeyDictionary()
        self._uncached: Tensor | None = None  # the ids that it read
        self._said = False

    def read(self, named: Mapping[str, Any]) -> Rows:
        """The rows of a pass that is called with these arguments."""
        ids, cache, mask = (named.get(name) for name in ("input_ids", "past_key_values", "attention_mask"))
        batch, width = (ids if ids is not None else named["inputs_embeds"]).shape[:2]
        past = int(cache.get_seq_length()) if cache is not None else 0
        _refuse_guesses(cache, width, named.get("logits_to_keep"))
        self._now = self._batch(cache, batch, past, mask, ids)
        self._now.filled = past + width
        if past and width == 1:
            return self._step(ids)
        return self._text(ids, real_tokens(mask, batch, width, past), width)

    def made(self, output: Any) -> None:
        """Remember the cache that a pass without one made, so that later passes on it continue its sequences."""
        found = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        for one in found:
            if hasattr(one, "get_seq_length"):
                self._by_cache.setdefault(one, self._now)

    def _batch(self, cache: Any, batch: int, past: int, mask: Any, ids: Tensor | None) -> _Batch:
        """The sequences that a pass continues, or new ones."""
        known = self._by_cache.get(cache) if past else None
        if known is not None and len(known) == batch:
            if past < known.filled:
                raise ValueError(
                    f"expected a KV cache that only grows, got one cut from {known.filled} tokens to {past}, as "
                    "assisted and prompt-lookup decoding do with tokens that they take back; generate without them, "
                    "or from a copy of the cache"
                )
            known.length = known.length + (past - known.filled)  # tokens read while nothing was recorded
            return known
        self._say_if_read_again(ids if cache is None else None)
        new = self._begin(batch)
        if past:  # the cache was filled before the recording began
            new.length += past if (real := _real_before(mask, past)) is None else real.sum(axis=1)
        if cache is not None:
            self._by_cache[cache] = new
        return new

    def _begin(self, batch: int) -> _Batch:
        begun, asked = self._begun, self._asked
        self._begun += batch
        length = np.zeros(batch, dtype=np.int64)
        if asked is None or isinstance(asked, int | np.integer):
            return _Batch(
                begun, length, np.full(batch, _NEVER if asked is None else asked + self._added, dtype=np.int64)
            )
        own = np.asarray(asked[begun : begun + batch], dtype=np.int64)
        if len(own) != batch:
            raise ValueError(
                f"expected start= to be one position, or one per sequence, got {len(asked)} and a pass that reads "
                f"sequences {begun} to {begun + batch - 1}; give one for each in the order they are read"
            )
        return _Batch(begun, length, own + self._added)

    def _step(self, ids: Tensor | None) -> Rows:
        now, position = self._now, self._now.length
        now.length = position + 1
        now.start = np.minimum(now.start, position)
        sequence = np.arange(now.begun, now.begun + len(now))
        return Rows(ids, None, sequence, position, position - now.start + 1, True, len(now))

    def _text(self, ids: Tensor | None, real: np.ndarray | None, width: int) -> Rows:
        now = self._now
        if self._asked is None:
            now.start = np.full(len(now), _NEVER)  # given text is prefill again, also after decoding
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
        """Warn where a text grows token by token without a KV cache: every pass then counts as new given text."""
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
    """The arguments of a forward pass by name, also those given by position."""
    if not args:
        return named
    return dict(zip(parameters(model), args, strict=False)) | dict(named)


def parameters(model: nn.Module) -> tuple[str, ...]:
    """Parameter names of a model's forward."""
    return _parameters(type(model).forward)


@cache
def _parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Parameter names of a forward, without self."""
    return tuple(inspect.signature(forward).parameters)[1:]


def real_tokens(mask: Any, batch: int, width: int, past: int) -> np.ndarray | None:
    """Mask of the tokens that are not padding, bool [batch, width]; None when all are real.

    Parameters
    ----------
    mask
        The attention mask of the call: None, [batch, past + width], or the [batch, 1, width, keys] mask (or a dict
        of masks by attention type) that transformers prepares for a static cache.
    batch, width, past
        Sequences, tokens of this pass, and tokens already in the cache.
    """
    mask = _whole_mask(mask)
    if mask is None:
        return None
    if mask.ndim == 4:  # a padded token may not attend to itself
        mask = torch.diagonal(mask[:, 0, :, past : past + width], dim1=1, dim2=2)
        mask = _allowed(mask)
    real = mask[:, -width:].bool().cpu().numpy()
    real = np.broadcast_to(real, (batch, width))
    return None if real.all() else real


def _real_before(mask: Any, past: int) -> np.ndarray | None:
    """Mask of the cached tokens that are not padding, bool [batch, past]; None when all are real."""
    if (mask := _whole_mask(mask)) is None:
        return None
    if mask.ndim == 4:  # the last token may attend to all real tokens before it
        mask = _allowed(mask[:, 0, -1])
    return mask[:, :past].bool().cpu().numpy()


def _whole_mask(mask: Any) -> Tensor | None:
    """The mask of the call as one tensor; of several masks that of full attention."""
    if isinstance(mask, dict):
        mask = next((m for _, m in sorted(mask.items(), key=lambda m: m[0] != "full_attention") if m is not None), None)
    if mask is None or torch.is_tensor(mask):
        return mask
    raise ValueError(
        f"expected an attention mask that is a tensor or None, got {type(mask).__name__}, in which padding "
        "cannot be seen; load the model with attn_implementation='sdpa' or 'eager'"
    )


def _allowed(mask: Tensor) -> Tensor:
    return mask if mask.dtype == torch.bool else mask == 0


def _refuse_guesses(cache: Any, width: int, keep: Any) -> None:
    """Raise ValueError for passes that verify guessed tokens: these may be taken back, so they are no decode steps."""
    if cache is not None and width > 1 and isinstance(keep, int) and keep > 1:
        raise ValueError(
            f"expected passes that read given text or one decoded token, got one on a KV cache that asks for the "
            f"logits of its last {keep} tokens, as assisted and prompt-lookup decoding do to check guesses; generate "
            "without them, or read a given text without a cache"
        )
