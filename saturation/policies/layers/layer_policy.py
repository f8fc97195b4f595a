"""Base classes of policies that leave out whole layers or attention."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ...trace import Trace
from ..decided_ahead import AheadOfPass
from ..policy import ATTENTION, FFN, Policy


class BeyondFFN(Policy, abstract=True):
    """A policy that leaves out more than feed-forward blocks; it takes no action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action is not None:
            raise ValueError(
                f"expected {type(self).__name__} without an action, since it leaves out more than feed-forward blocks, "
                f"got one to {self.action.describe()}; give the action to a policy of these, such as StaticFFN"
            )


class Whole(BeyondFFN, AheadOfPass, abstract=True):
    """A policy that decides before the pass which whole layers to leave out; their keys and values are stored."""

    parts: ClassVar[tuple[str, ...]] = (ATTENTION, FFN)

    def droppable(self, layers: int) -> range | tuple[int, ...]:
        """The layers whose FFN may be skipped."""
        return self.skippable(layers)


def distances(trace: Trace, part: str) -> np.ndarray:
    """1 - cosine between input and output of a part of each layer, [token, layer].

    Raises
    ------
    ValueError
        For a trace without these numbers.
    """
    found = trace.attention_distance if part == "attention" else trace.block_distance
    if found is None:
        called = "the attention sublayer" if part == "attention" else "the whole layer"
        raise ValueError(
            f"expected a trace with the distances of {called}, but this one has none; record it with also=({part!r},)"
        )
    return found
