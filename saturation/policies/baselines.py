"""FFN baselines: random skipping, and static skipping of the same blocks for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .token_independent import Drawn, Fixed


@dataclass(frozen=True)
class RandomFFN(Drawn):
    """Skip blocks at random; the draw is a function of seed, sequence, position and layer.

    Parameters
    ----------
    ratio
        Share of all FFN blocks to skip, comparable across policies: round(ratio * layers) of them.
    seed
        Seed of the draw.
    cold_start, cold_end
        Layers at either end that always run.
    per
        "token" draws anew for each token, "run" once for all.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "random FFN"
    counted: ClassVar[str] = "FFN blocks"


@dataclass(frozen=True)
class StaticFFN(Fixed):
    """Skip the same blocks for every token ("no input-adaptivity"); `fit` chooses those of highest mean similarity.

    Parameters
    ----------
    layers
        Numbers of the layers whose FFN is skipped, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "static FFN"
