"""Policies that decide about all layers of a token at once: before its pass, or behind one early layer of it.

No distance is measured on the way. A run asks once per pass, and then knows what to leave out; behind a layer it hands
over the residual stream there, which is read back from the device once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from .policy import ATTENTION, BEFORE, BEHIND, FFN, Policy, Steps


class _AtOnce(Policy, abstract=True):
    """State is what is left out, bool [token, layer].

    Attributes
    ----------
    parts
        What of a layer is left out there: `FFN`, `ATTENTION` or both.
    """

    decode_only: bool
    parts: ClassVar[tuple[str, ...]] = (FFN,)

    def acts_on(self, steps: Steps) -> np.ndarray:
        """Every token, or decoded ones only, bool [token]."""
        return steps.decode if self.decode_only else np.ones(len(steps.sequence), dtype=bool)

    def skips(self, state: np.ndarray, layer: int) -> np.ndarray:
        """Whether the block of this layer is skipped, bool [token]."""
        return self.skipped(state)[:, layer]

    def drops(self, state: np.ndarray, layer: int) -> np.ndarray:
        """Whether the attention of this layer is dropped, bool [token]."""
        return self.dropped(state)[:, layer]

    def skipped(self, state: np.ndarray) -> np.ndarray:
        """All blocks that are skipped, bool [token, layer]."""
        return state if FFN in self.parts else np.zeros_like(state)

    def dropped(self, state: np.ndarray) -> np.ndarray:
        """All attention that is dropped, bool [token, layer]."""
        return state if ATTENTION in self.parts else np.zeros_like(state)


class AheadOfPass(_AtOnce, abstract=True):
    """Decides from counters and token ids alone."""

    known: ClassVar[str] = BEFORE

    @abstractmethod
    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Blocks to skip where the rule acts at all, bool [token, layer]."""

    def start(self, steps: Steps, layers: int) -> np.ndarray:
        """What is skipped, bool [token, layer]."""
        return self.chosen(steps, layers) & self.eligible(steps)[:, None]


class BehindLayer(_AtOnce, abstract=True):
    """Decides from the residual stream in front of the feed-forward block of one layer, about the blocks behind it.

    Attributes
    ----------
    reads
        That layer.
    """

    known: ClassVar[str] = BEHIND
    reads: int

    @abstractmethod
    def chosen(self, stream: np.ndarray, layers: int) -> np.ndarray:
        """Blocks to skip where the rule acts at all, bool [token, layer]; `stream` is [token, hidden]."""

    def start(self, steps: Steps, layers: int) -> np.ndarray:
        """Nothing is skipped before the stream is known, bool [token, layer]."""
        return np.zeros((len(steps.sequence), layers), dtype=bool)

    def route(self, steps: Steps, layers: int, stream: np.ndarray) -> np.ndarray:
        """What is skipped once the stream [token, hidden] is known, bool [token, layer]."""
        return self.chosen(stream, layers) & self.eligible(steps)[:, None]

    def skippable(self, layers: int) -> range:
        """The layers behind the one that is read."""
        return range(self.reads + 1, layers)
