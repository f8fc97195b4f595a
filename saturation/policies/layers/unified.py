"""Unified layer skipping: evenly spaced layers run, as many as a target speed-up allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..policy import Steps, always
from .layer_policy import Whole


@dataclass(frozen=True)
class UnifiedLayers(Whole):
    """Unified layer skipping (Liu et al. 2024, arXiv 2404.06954): the same evenly spaced layers run at every token.

    Of L layers, round(L / speedup) run, including the first and the last.

    Parameters
    ----------
    speedup
        Target speed-up, from 1: number of layers over number of layers that run.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    speedup: float
    decode_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.speedup >= 1:
            raise ValueError(
                f"expected a speed-up from 1, which leaves nothing out, got {self.speedup}; 1.5 is a third"
            )

    def check(self, layers: int) -> None:
        """Raise ValueError where fewer than two layers would run."""
        if round(layers / self.speedup) < 2:
            raise ValueError(
                f"expected a speed-up that leaves the first and the last of {layers} layers, got {self.speedup}; make "
                "it smaller"
            )

    def running(self, layers: int) -> np.ndarray:
        """Numbers of the layers that run, rising."""
        return np.rint(np.linspace(0, layers - 1, round(layers / self.speedup))).astype(np.int64)

    def skippable(self, layers: int) -> tuple[int, ...]:
        """The layers between those that run."""
        return tuple(sorted(set(range(layers)) - set(self.running(layers).tolist())))

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """The same layers at every token, bool [token, layer]."""
        return np.tile(np.isin(np.arange(layers), self.skippable(layers)), (len(steps.sequence), 1))

    def describe(self) -> str:
        """A few words for a legend."""
        return f"unified skipping, {self.speedup:g}x" + ", decode only" * self.decode_only + always(self)
