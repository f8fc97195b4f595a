"""Base classes of policies that decide about all layers of a token at once: before its pass, or behind one layer.

They measure no distances. A run asks such a policy once per pass; a policy that decides behind a layer gets the
residual stream there, which is copied from the device once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from .policy import ATTENTION, BEFORE, BEHIND, FFN, Policy, Steps


class _AtOnce(Policy, abstract=True):
    """A policy whose state is the mask of what is left out, bool [token, layer].

    Attributes
    ----------
    parts
        The sublayers that are left out there: `FFN`, `ATTENTION` or both.
    """

    decode_only: bool
    parts: ClassVar[tuple[str, ...]] = (FFN,)

    def acts_on(self, steps: Steps) -> np.ndarray:
        """Mask of the tokens that the rule acts on, all or the decoded ones, bool [token]."""
        return steps.decode if self.decode_only else np.ones(len(steps.sequence), dtype=bool)

    def skips(self, state: np.ndarray, layer: int) -> np.ndarray:
        """Whether the block of this layer is skipped, bool [token]."""
        return self.skipped(state)[:, layer]

    def drops(self, state: np.ndarray, layer: int) -> np.ndarray:
        """Whether the attention of this layer is dropped, bool [token]."""
        return self.dropped(state)[:, layer]

    def skipped(self, state: np.ndarray) -> np.ndarray:
        """Skip mask of the feed-forward blocks, bool [token, layer]."""
        return state if FFN in self.parts else np.zeros_like(state)

    def dropped(self, state: np.ndarray) -> np.ndarray:
        """Mask of the dropped attention, bool [token, layer]."""
        return state if ATTENTION in self.parts else np.zeros_like(state)


class AheadOfPass(_AtOnce, abstract=True):
    """A policy that decides before the pass, from counters and token ids."""

    known: ClassVar[str] = BEFORE

    @abstractmethod
    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Blocks to skip where the rule acts at all, bool [token, layer]."""

    def start(self, steps: Steps, layers: int) -> np.ndarray:
        """The skip mask, bool [token, layer]."""
        return self.chosen(steps, layers) & self.eligible(steps)[:, None]


class BehindLayer(_AtOnce, abstract=True):
    """A policy that reads the residual stream in front of one FFN block and decides about the blocks behind it.

    Attributes
    ----------
    reads
        Number of the layer in front of whose block the stream is read.
    """

    known: ClassVar[str] = BEHIND
    reads: int

    @abstractmethod
    def chosen(self, stream: np.ndarray, layers: int) -> np.ndarray:
        """Blocks to skip where the rule acts at all, bool [token, layer]; `stream` is [token, hidden]."""

    def start(self, steps: Steps, layers: int) -> np.ndarray:
        """The skip mask before the stream is known: nothing is skipped, bool [token, layer]."""
        return np.zeros((len(steps.sequence), layers), dtype=bool)

    def route(self, steps: Steps, layers: int, stream: np.ndarray) -> np.ndarray:
        """The skip mask once the stream [token, hidden] is known, bool [token, layer]."""
        return self.chosen(stream, layers) & self.eligible(steps)[:, None]

    def skippable(self, layers: int) -> range:
        """The layers behind `reads`."""
        return range(self.reads + 1, layers)
