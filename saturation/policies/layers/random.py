"""Random layer skipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..token_independent import Drawn
from .layer_policy import Whole


@dataclass(frozen=True)
class RandomLayers(Whole, Drawn):
    """Leave out whole layers (attention and FFN), drawn as `RandomFFN` draws its blocks.

    Parameters
    ----------
    ratio
        Share of all layers to leave out: round(ratio * layers) of them.
    seed
        Seed of the draw.
    cold_start, cold_end
        Layers at either end that always run.
    per
        "token" draws anew for each token, "run" once for all.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "random layers"
    counted: ClassVar[str] = "layers"
