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
        Number of the layer, from 0.
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
    """

    index: int
    layer: nn.Module
    chain: tuple[nn.Module, ...]
    source: nn.Module
    multiplier: float = 1.0
    parallel: bool = False
    adds_residual: bool = False
    overwritten: bool = False
    outputs: int = 0

    def nothing(self, x: Tensor) -> Any:
        """What the FFN returns when it adds nothing to x [..., hidden], in the form its layer expects."""
        output = x.clone() if self.adds_residual else torch.zeros_like(x)
        return (output, *[None] * (self.outputs - 1)) if self.outputs else output


def first(output: Any) -> Any:
    """The tensor of a module's output that goes on (some return tuples: router scores, attention weights)."""
    return output[0] if isinstance(output, tuple | list) else output


def refusal(model: PreTrainedModel, index: int, reason: str) -> UnsupportedModel:
    """The error for one layer of a model."""
    kind = model.config.model_type
    return UnsupportedModel(
        f"expected decoder layers whose feed-forward output is added to the residual stream, but in layer "
        f"{index} of {type(model).__name__} ({kind!r}): {reason}; this family is not supported"
    )
