"""Static layer skipping: the same layers at every token, chosen by ShortGPT's block influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...trace import Trace
from ..token_independent import Fixed
from .layer_policy import Whole, distances


@dataclass(frozen=True)
class StaticLayers(Whole, Fixed):
    """Leave out the same layers (attention and FFN) at every token; their keys and values are still stored.

    Past the sink this equals removing them from the model. `fit` chooses the layers as ShortGPT does (Men et al. 2024,
    arXiv 2403.03853), `ablation.sleb` as SLEB does.

    Parameters
    ----------
    layers
        Numbers of the layers, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "static removal"

    @classmethod
    def measured(cls, trace: Trace) -> np.ndarray:
        """Block influence, 1 - cos(x_i, x_i+1), from a trace recorded with ``also=("block",)``, [token, layer]."""
        return distances(trace, "block")
