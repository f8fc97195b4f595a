"""Attention dropped for every token in the layers where it hardly turns the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...trace import Trace
from ..fixed import Fixed, lowest
from ..rule import ATTENTION, SINK
from .whole import Beside, distances


@dataclass(frozen=True)
class StaticAttention(Beside, Fixed):
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
        """No feed-forward block."""
        return ()

    def droppable(self, layers: int) -> tuple[int, ...]:
        """The layers whose attention it drops."""
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
    ) -> StaticAttention:
        """The attention of least importance, 1 - E[cos(x, x + attention(norm x))], on a calibration trace.

        Parameters
        ----------
        trace
            A dense trace recorded with ``also=("attention",)``; all its tokens past the sink count.
        ratio, count
            How many: a share of all layers, or a number. Give one.
        cold_start, cold_end
            Layers at either end that are never chosen.
        decode_only, sink
            As for `StaticAttention`.

        Returns
        -------
        StaticAttention
        """
        measure, cold = distances(trace, "attention"), {"cold_start": cold_start, "cold_end": cold_end}
        layers = lowest(trace, measure, ratio=ratio, count=count, sink=sink, **cold)
        return cls(layers=layers, decode_only=decode_only, sink=sink)
