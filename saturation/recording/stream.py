"""Which token of which sequence each row of a forward pass is: prefill or decode, padding or real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
    """

    ids: Tensor | None
    index: np.ndarray | None
    sequence: np.ndarray
    position: np.ndarray
    generated: np.ndarray
    stepped: bool

    def __len__(self) -> int:
        return len(self.sequence)

    def token_ids(self) -> np.ndarray:
        """Ids of the real tokens, [token]; -1 where the model was given embeddings."""
        if self.ids is None:
            return np.full(len(self), -1)
        flat = self.ids.reshape(-1).cpu().numpy()
        return flat if self.index is None else flat[self.index]


class Stream:
    """Follows the forward passes of one model and numbers what it reads.

    A pass with an empty KV cache begins new sequences; a pass of one token on a filled cache is a decode step.

    Parameters
    ----------
    start
        Position from which given text counts as decode: one for all sequences, or one per sequence in the order
        they are read. None: given text is prefill, and decoding starts with the first decode step.
    """

    def __init__(self, start: int | Sequence[int] | None = None) -> None:
        self._asked = start
        self._begun = self._batch = 0
        self._length = self._start = np.zeros(0, dtype=np.int64)  # [batch]

    def read(self, args: tuple[Any, ...], named: dict[str, Any]) -> Rows:
        """The rows of the pass that is called with these arguments."""
        ids = named.get("input_ids", args[0] if args else None)
        batch, width = (ids if ids is not None else named["inputs_embeds"]).shape[:2]
        cache = named.get("past_key_values")
        past = int(cache.get_seq_length()) if cache is not None else 0
        if past == 0 or batch != self._batch:
            self._begin(batch)
        if past and width == 1:
            return self._step(ids)
        return self._text(ids, real_tokens(named.get("attention_mask"), batch, width, past), width)

    def _begin(self, batch: int) -> None:
        self._begun += self._batch
        self._batch = batch
        self._length = np.zeros(batch, dtype=np.int64)
        asked = _NEVER if self._asked is None else self._asked
        if isinstance(asked, Sequence):
            self._start = np.asarray(asked[self._begun : self._begun + batch], dtype=np.int64)
        else:
            self._start = np.full(batch, asked, dtype=np.int64)

    def _step(self, ids: Tensor | None) -> Rows:
        position = self._length
        self._length = position + 1
        self._start = np.minimum(self._start, position)
        sequence = np.arange(self._begun, self._begun + self._batch)
        return Rows(ids, None, sequence, position, position - self._start + 1, True)

    def _text(self, ids: Tensor | None, real: np.ndarray | None, width: int) -> Rows:
        row = np.repeat(np.arange(self._batch), width)  # [batch * width]
        if real is None:
            position = (self._length[:, None] + np.arange(width)).reshape(-1)
            self._length = self._length + width
            index = None
        else:
            position = (self._length[:, None] + real.cumsum(axis=1) - 1).reshape(-1)
            self._length = self._length + real.sum(axis=1)
            index = np.flatnonzero(real)
            row, position = row[index], position[index]
        start = self._start[row]
        generated = np.where(position >= start, position - start + 1, 0)
        return Rows(ids, index, self._begun + row, position, generated, False)


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
