"""SkipDecode: the number of layers that run falls with the position; the upper layers run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..policy import Steps, always
from .layer_policy import Whole


@dataclass(frozen=True)
class SkipDecode(Whole):
    """The policy of SkipDecode (Del Corro et al. 2023, arXiv 2307.02628).

    The budget of layers falls linearly from `most` at position 0 to `least` at position `length` - 1 and stays there.
    Layer 0 and the upper layers run, so the layers of a later token are among those of an earlier one. All sequences of
    a batch have the same budget at a position.

    Parameters
    ----------
    most, least
        Layers that run at the first and at the last position.
    length
        Positions over which the budget falls.
    decode_only
        True leaves prefill alone; as a baseline it acts on every token.
    """

    most: int
    least: int
    length: int
    decode_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.least <= self.most or self.length < 1:
            raise ValueError(
                f"expected a budget of layers that falls from most to at least 1 over some positions, got most="
                f"{self.most}, least={self.least} and length={self.length}; correct them"
            )

    def check(self, layers: int) -> None:
        """Raise ValueError where the budget has more layers than the model."""
        if self.most > layers:
            raise ValueError(
                f"expected a budget of at most {layers} layers, which is all of the model's, got most={self.most}; "
                "make it smaller"
            )

    def budget(self, position: np.ndarray) -> np.ndarray:
        """Number of layers that run at each position, int [token]."""
        way = np.minimum(position / max(self.length - 1, 1), 1.0) if self.length > 1 else np.ones(len(position))
        return np.rint(self.most + (self.least - self.most) * way).astype(np.int64)

    def skippable(self, layers: int) -> range:
        """The layers that are left out at the smallest budget."""
        return range(1, layers - self.least + 1)

    def chosen(self, steps: Steps, layers: int) -> np.ndarray:
        """Mask of the layers to leave out, from layer 1 up to the first that runs, bool [token, layer]."""
        number = np.arange(layers)
        return (number >= 1) & (number <= layers - self.budget(steps.position)[:, None])

    def describe(self) -> str:
        """A few words for a legend."""
        rule = f"SkipDecode, {self.most} to {self.least} layers over {self.length} positions"
        return rule + ", decode only" * self.decode_only + always(self)
