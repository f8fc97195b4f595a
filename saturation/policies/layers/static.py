"""Layers removed for every token, chosen by ShortGPT's block influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...trace import Trace
from ..fixed import Fixed, lowest
from ..rule import SINK
from .whole import Whole, distances


@dataclass(frozen=True)
class StaticLayers(Whole, Fixed):
    """Leave out the same layers, attention and FFN, at every token; their keys and values are stored nevertheless.

    Past the sink the residual stream passes them as if they were removed from the model. `fit` chooses as ShortGPT
    does (Men et al. 2024, arXiv 2403.03853), `ablation.sleb` as SLEB.

    Parameters
    ----------
    layers
        Numbers of the layers, from 0.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    called: ClassVar[str] = "static removal"

    def skippable(self, layers: int) -> tuple[int, ...]:
        """The layers it leaves out."""
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
    ) -> StaticLayers:
        """The layers of least block influence, 1 - E[cos(x_i, x_i+1)], on a calibration trace.

        Parameters
        ----------
        trace
            A dense trace recorded with ``also=("block",)``; all its tokens past the sink count.
        ratio, count
            How many: a share of all layers, or a number. Give one.
        cold_start, cold_end
            Layers at either end that are never chosen.
        decode_only, sink
            As for `StaticLayers`.

        Returns
        -------
        StaticLayers
        """
        measure, cold = distances(trace, "block"), {"cold_start": cold_start, "cold_end": cold_end}
        layers = lowest(trace, measure, ratio=ratio, count=count, sink=sink, **cold)
        return cls(layers=layers, decode_only=decode_only, sink=sink)
