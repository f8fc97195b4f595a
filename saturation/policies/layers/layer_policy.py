"""What policies of whole layers share: attention is dropped where the FFN is skipped."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ...trace import Trace
from ..decided_ahead import AheadOfPass
from ..policy import ATTENTION, FFN, Policy


class Beside(Policy, abstract=True):
    """A policy of more than feed-forward blocks: what is left out is left out whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action is not None:
            raise ValueError(
                f"expected {type(self).__name__} without an action, since it leaves out more than feed-forward blocks, "
                f"got one to {self.action.describe()}; give the action to a policy of these, such as StaticFFN"
            )


class Whole(Beside, AheadOfPass, abstract=True):
    """Decides before the pass which layers hand the residual stream on as it is, but for keys and values."""

    parts: ClassVar[tuple[str, ...]] = (ATTENTION, FFN)

    def droppable(self, layers: int) -> range | tuple[int, ...]:
        """The layers whose FFN may be skipped."""
        return self.skippable(layers)


def distances(trace: Trace, part: str) -> np.ndarray:
    """1 - cosine of what enters and what leaves a part of each layer, [token, layer].

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
