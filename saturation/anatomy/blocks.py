"""The feed-forward block of a decoder layer, and the error for models without one."""

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
        Index among the model's feed-forward blocks, from 0: its column in a trace, its number in a policy.
    number
        Number of its decoder layer, from 0; differs from the index where earlier layers have no such block.
    layer
        The decoder layer.
    chain
        Children of the layer that make up the FFN with its own norms, in the order they run.
    source
        The module whose output the FFN adds (the last of the chain, or a part of it).
    multiplier
        Factor by which the layer scales the source's output before adding it (Granite's residual_multiplier).
    parallel
        True where attention and FFN read the same input and are added together.
    adds_residual
        True where the last module of the chain gets the residual stream and returns the sum (BLOOM).
    overwritten
        True where the layer changes the FFN's output in place afterwards (Falcon).
    outputs
        Length of the tuple that the FFN returns (router scores come second); 0 where it returns one tensor.
    beside
        Children whose branches are added to the chain (experts beside a shared one); empty in most models.
    steps
        For a block with branches: all its modules, in the order they run, with what each reads.
    summed
        The modules of `beside` whose output the layer adds to that of the source.
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
        """The modules whose outputs the FFN adds, in the order they run: the source, or several branches."""
        return tuple(step.module for step in self.steps if step.module in (self.source, *self.summed)) or (self.source,)

    def nothing(self, x: Tensor) -> Any:
        """The return value of an FFN that adds nothing to x [..., hidden], in the form that its layer expects."""
        return self.giving(x, torch.zeros_like(x))

    def giving(self, x: Tensor, delta: Tensor) -> Any:
        """The return value of an FFN that adds delta to x [..., hidden], in the form that its layer expects."""
        output = x + delta if self.adds_residual else delta
        return (output, *[None] * (self.outputs - 1)) if self.outputs else output


def first(output: Any) -> Any:
    """The first tensor of a module's output, which may be a tuple (with router scores or attention weights)."""
    return output[0] if isinstance(output, tuple | list) else output


def given(args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The input tensor of a module's call: its first argument, by position or by name."""
    if args:
        return args[0]
    return named["hidden_states"] if "hidden_states" in named else next(iter(named.values()))


def refusal(model: PreTrainedModel, index: int, reason: str) -> UnsupportedModel:
    """Make the error for an unsupported layer of a model."""
    kind = model.config.model_type
    return UnsupportedModel(
        f"expected decoder layers whose feed-forward output is added to the residual stream, but in layer "
        f"{index} of {type(model).__name__} ({kind!r}): {reason}; this family is not supported"
    )
