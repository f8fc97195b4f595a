"""A decoder layer's feed-forward block, and how a model that has none is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class UnsupportedModel(ValueError):
    """The model has no feed-forward block that can be watched and skipped; the message says why."""


@dataclass(frozen=True, eq=False)
class Block:
    """The feed-forward block of one decoder layer.

    Attributes
    ----------
    index
        Place among the model's feed-forward blocks, from 0: its column in a trace, its number in a policy.
    number
        Number of its decoder layer, from 0: the index too, unless layers without such a block stand between.
    layer
        The decoder layer.
    chain
        Children of the layer that make up the FFN with its own norms, in the order they run.
    source
        The module whose output is what the FFN adds (the last of the chain, or a part of it).
    multiplier
        Factor between the source's output and what reaches the residual stream (Granite's residual_multiplier).
    parallel
        True where attention and FFN read the same input and are added together.
    adds_residual
        True where the last module of the chain is handed the residual stream and returns the sum (BLOOM).
    overwritten
        True where the layer changes the FFN's output in place after it was returned (Falcon).
    outputs
        Length of the tuple that the FFN returns (router scores come second); 0 where it is one tensor.
    beside
        Children whose branches are added to the chain (experts beside a shared one); empty in most models.
    steps
        Of a block with branches: all its modules, in the order they run, with what each reads.
    summed
        Of the modules beside those whose output the layer adds to that of the source.
    """

    index: int
    number: int
    layer: nn.Module
    chain: tuple[nn.Module, ...]
    source: nn.Module
    multiplier: float = 1.0
    parallel: bool = False
    adds_residual: bool = False
    overwritten: bool = False
    outputs: int = 0
    beside: tuple[nn.Module, ...] = ()
    steps: tuple[Any, ...] = ()
    summed: tuple[nn.Module, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All children of the layer that make up the FFN with its own norms."""
        return tuple(step.module for step in self.steps) or self.chain

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are what the FFN adds, in the order they run: the source, or several branches."""
        return tuple(step.module for step in self.steps if step.module in (self.source, *self.summed)) or (self.source,)

    def nothing(self, x: Tensor) -> Any:
        """What the FFN returns when it adds nothing to x [..., hidden], in the form its layer expects."""
        return self.giving(x, torch.zeros_like(x))

    def giving(self, x: Tensor, delta: Tensor) -> Any:
        """What the FFN returns when it adds delta to x [..., hidden], in the form its layer expects."""
        output = x + delta if self.adds_residual else delta
        return (output, *[None] * (self.outputs - 1)) if self.outputs else output


def first(output: Any) -> Any:
    """The tensor of a module's output that goes on (some return tuples: router scores, attention weights)."""
    return output[0] if isinstance(output, tuple | list) else output


def given(args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The tensor that a call of a module reads: its first argument, by position or by name."""
    if args:
        return args[0]
    return named["hidden_states"] if "hidden_states" in named else next(iter(named.values()))


def refusal(model: PreTrainedModel, index: int, reason: str) -> UnsupportedModel:
    """The error for one layer of a model."""
    kind = model.config.model_type
    return UnsupportedModel(
        f"expected decoder layers whose feed-forward output is added to the residual stream, but in layer "
        f"{index} of {type(model).__name__} ({kind!r}): {reason}; this family is not supported"
    )
