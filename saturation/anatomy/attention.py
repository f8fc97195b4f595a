"""The attention of a decoder layer, which can be left out while the KV cache stays complete.

The attention of every family passes its keys and values to the cache of the call. A cache that ends the call there
skips the rest: the scores, their product with the values, the output matrix.
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
    """The attention sublayer of one decoder layer.

    Attributes
    ----------
    block
        The feed-forward block beside it.
    module
        The child of the layer that mixes tokens.
    outputs
        Length of the returned tuple (attention weights come second); 0 where it returns one tensor.
    keys
        Its modules with weights that compute keys and values; all of them where it stores none.
    idle
        Its matrices that run before keys and values are stored, but do not affect them (that of the queries, where it
        is separate), each with the size of its output.
    """

    block: Block
    module: nn.Module
    outputs: int
    keys: tuple[nn.Module, ...]
    idle: tuple[tuple[nn.Module, int], ...]

    def nothing(self, x: Tensor) -> Any:
        """The return value of attention that adds nothing to x [..., hidden], in the form that its layer expects."""
        zeros = torch.zeros_like(x)
        return (zeros, *[None] * (self.outputs - 1)) if self.outputs else zeros

    def without(self, output: Any, tokens: Tensor) -> Any:
        """The output of attention with zeros at some tokens of the flattened [batch * width]."""
        whole = first(output)
        left = whole.reshape(-1, whole.shape[-1]).index_fill(0, tokens, 0).reshape(whole.shape)
        return (left, *output[1:]) if self.outputs else left

    def store(self, run: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Compute only keys and values and store them in the cache of a call; do nothing without a cache.

        Parameters
        ----------
        run, args, named
            The forward of attention, and the arguments of its call.
        """
        if (cache := next(filter(_is_cache, (*args, *named.values())), None)) is None:
            return
        if hasattr(self.module, "_hf_hook"):  # accelerate offloads weights again only after a complete run
            run(*args, **named)
        else:
            ended_by(cache.update, run, args, named)


class Stored(Exception):
    """Raised when keys and values are stored, to skip the rest of attention."""


class _EndingCache:
    """A KV cache that ends the attention call once it has stored the keys and values."""

    def __init__(self, cache: Any, take: Callable[..., Any], end: Stored) -> None:
        self._cache, self._take, self._end = cache, take, end

    @property  # type: ignore[misc]  # the class of an instance can be written
    def __class__(self) -> Any:  # some families check the class of the cache
        return type(self._cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def update(self, *args: Any, **named: Any) -> None:
        """Store keys and values, and end the call."""
        self._take(*args, **named)
        raise self._end


def ended_by(take: Callable[..., Any], run: Callable[..., Any], args: Iterable[Any], named: dict[str, Any]) -> bool:
    """Call attention with a cache that runs `take` on update and ends the call; returns whether it was updated."""
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
    """Forwards for `patched` under which modules return zeros of the given size while `asked` is true."""

    def stands_in(original: Callable[..., Any], size: int) -> Callable[..., Any]:
        def forward(x: Tensor, *args: Any, **named: Any) -> Any:
            return x.new_zeros(*x.shape[:-1], size) if asked() else original(x, *args, **named)

        return forward

    return {module: stands_in(module.forward, size) for module, size in idle}
