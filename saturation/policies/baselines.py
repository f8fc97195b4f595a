"""FFN baselines: blocks left out at random, or the same ones for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..trace import Trace
from .fixed import Drawn, Fixed, lowest
from .rule import SINK


@dataclass(frozen=True)
class RandomFFN(Drawn):
    """Skip blocks drawn at random, by a counter: the draw depends on seed, sequence, position and layer alone.

    Parameters
    ----------
    ratio
        Share of all FFN blocks to skip, so that it compares across policies: round(ratio * layers) of them.
    seed
        Of the draw.
    cold_start, cold_end
        Layers at either end that always run.
    per
        "token" draws anew for each token, "run" once for all.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "random FFN"
    counted: ClassVar[str] = "FFN blocks"

    def skippable(self, layers: int) -> range:
        """Layers between the cold regions."""
        return self.allowed(layers)


@dataclass(frozen=True)
class StaticFFN(Fixed):
    """Skip the same blocks for every token ("no input-adaptivity").

    Parameters
    ----------
    layers
        Numbers of the layers whose FFN is skipped, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "static FFN"

    def skippable(self, layers: int) -> tuple[int, ...]:
        """The layers it skips."""
        return self.layers

    @classmethod
    def fit(
        cls,
        trace: Trace,
        *,
        ratio: float | None = None,
        count: int | None = None,
        cold_start: int = 0,
        cold_end: int = 0,
        decode_only: bool = False,
        sink: int = SINK,
    ) -> StaticFFN:
        """The blocks of highest mean similarity on a calibration trace.

        Parameters
        ----------
        trace
            A dense trace; all its tokens past the sink count.
        ratio, count
            How many: a share of all layers, or a number. Give one.
        cold_start, cold_end
            Layers at either end that are never chosen.
        decode_only, sink
            As for `StaticFFN`.

        Returns
        -------
        StaticFFN
        """
        layers = lowest(
            trace, trace.distance, ratio=ratio, count=count, cold_start=cold_start, cold_end=cold_end, sink=sink
        )
        return cls(layers=layers, decode_only=decode_only, sink=sink)
