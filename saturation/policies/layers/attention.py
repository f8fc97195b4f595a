"""Attention dropping: a static policy for the layers whose attention hardly turns the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...trace import Trace
from ..policy import ATTENTION
from ..token_independent import Fixed
from .layer_policy import BeyondFFN, distances


@dataclass(frozen=True)
class StaticAttention(BeyondFFN, Fixed):
    """Drop the attention of the same layers at every token; every FFN runs (He et al. 2024, arXiv 2406.15786).

    Parameters
    ----------
    layers
        Numbers of the layers whose attention is dropped, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "static attention"
    parts: ClassVar[tuple[str, ...]] = (ATTENTION,)

    def skippable(self, layers: int) -> tuple[int, ...]:
        """No layer: every feed-forward block runs."""
        return ()

    def droppable(self, layers: int) -> tuple[int, ...]:
        """The layers whose attention is dropped."""
        return self.layers

    @classmethod
    def measured(cls, trace: Trace) -> np.ndarray:
        """1 - cos(x, x + attention(norm x)), of a trace recorded with ``also=("attention",)``, [token, layer]."""
        return distances(trace, "attention")
