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
    seed, cold_start, cold_end, per, decode_only
        As for `RandomFFN`.
    """

    called: ClassVar[str] = "random layers"
    counted: ClassVar[str] = "layers"
