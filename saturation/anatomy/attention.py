"""The attention of a decoder layer as a part that is left out, while the KV cache stays whole.

Whatever a family's attention looks like, it hands its keys and values to the cache that it was called with. A cache
that ends the call there leaves out all that comes behind: scores, their product with the values, the output matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import Block, first


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of one decoder layer.

    Attributes
    ----------
    block
        The feed-forward block beside it.
    module
        The child of the layer that mixes tokens.
    outputs
        Length of the tuple that it returns (attention weights come second); 0 where it is one tensor.
    keys
        Its parts with weights that keys and values are made by; all of them where it stores none.
    idle
        Its matrices that run before keys and values are stored, and that these do not depend on (the queries', where
        they have one of their own), each with the size of what it gives.
    """

    block: Block
    module: nn.Module
    outputs: int
    keys: tuple[nn.Module, ...]
    idle: tuple[tuple[nn.Module, int], ...]

    def nothing(self, x: Tensor) -> Any:
        """What attention returns when it adds nothing to x [..., hidden], in the form its layer expects."""
        zeros = torch.zeros_like(x)
        return (zeros, *[None] * (self.outputs - 1)) if self.outputs else zeros

    def without(self, output: Any, tokens: Tensor) -> Any:
        """An output of attention with zeros at some tokens of the flattened [batch * width]."""
        whole = first(output)
        left = whole.reshape(-1, whole.shape[-1]).index_fill(0, tokens, 0).reshape(whole.shape)
        return (left, *output[1:]) if self.outputs else left

    def store(self, run: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Compute keys and values alone and store them in the cache that a call is handed; nothing where there is none.

        Parameters
        ----------
        run, args, named
            The forward of attention, and what it is called with.
        """
        if (cache := next(filter(_is_cache, (*args, *named.values())), None)) is None:
            return
        if hasattr(self.module, "_hf_hook"):  # accelerate puts away what it brought only behind a whole run
            run(*args, **named)
        else:
            ended_by(cache.update, run, args, named)


class Stored(Exception):
    """Keys and values are where they belong: the rest of attention is left out."""


class _EndingCache:
    """A KV cache that ends the attention which hands it keys and values, once it has them."""

    def __init__(self, cache: Any, take: Callable[..., Any], end: Stored) -> None:
        self._cache, self._take, self._end = cache, take, end

    @property  # type: ignore[misc]  # the class of an instance can be written
    def __class__(self) -> Any:  # some families ask what kind of cache it is
        return type(self._cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def update(self, *args: Any, **named: Any) -> None:
        """Take keys and values in, and end the call."""
        self._take(*args, **named)
        raise self._end


def ended_by(take: Callable[..., Any], run: Callable[..., Any], args: Iterable[Any], named: dict[str, Any]) -> bool:
    """Call an attention with a cache whose `update` is `take`, and which ends the call; whether it handed it any."""
    end = Stored()

    def ending(argument: Any) -> Any:
        return _EndingCache(argument, take, end) if _is_cache(argument) else argument

    try:
        run(*map(ending, args), **{name: ending(one) for name, one in named.items()})
    except Stored as came:
        if came is not end:
            raise
        return True
    return False


def _is_cache(argument: Any) -> bool:
    return hasattr(argument, "update") and hasattr(argument, "get_seq_length")


def idling(idle: Iterable[tuple[nn.Module, int]], asked: Callable[[], object]) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `patched` of parts that give zeros, of the size named with each, while that is asked for."""

    def stands_in(original: Callable[..., Any], size: int) -> Callable[..., Any]:
        def forward(x: Tensor, *args: Any, **named: Any) -> Any:
            return x.new_zeros(*x.shape[:-1], size) if asked() else original(x, *args, **named)

        return forward

    return {module: stands_in(module.forward, size) for module, size in idle}
