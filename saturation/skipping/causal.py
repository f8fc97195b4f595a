"""Causal policies: they read the distances of the previous token, which are known when a pass begins.

So the skip mask of a decode step is known before its first layer. The measurements of a pass stay on the device until
the next pass begins, and are then moved in one copy. In given text, where one pass reads consecutive tokens, the policy
is asked layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..policies import Policy, previous_token
from ..recording import Rows
from .token_subset import Sums, distances


class Decisions(NamedTuple):
    """The decisions of a pass before it runs: the skip mask, bool [token, layer], and the layers to measure."""

    skipped: np.ndarray
    needs: set[int]


class PreviousDistances:
    """The distances of the last token of each sequence, by layer, for a causal policy."""

    def __init__(self, policy: Policy, layers: Sequence[int]) -> None:
        self._policy, self._layers = policy, layers
        self._last: dict[int, dict[int, Any]] = {layer: {} for layer in layers}  # sequence -> distance
        self._measuring: dict[int, tuple[np.ndarray, Sums]] = {}  # mask and sums of the current pass, by layer
        self._foreseen = False  # whether the current pass was decided before it ran
        self._ended: tuple[Rows, dict[int, tuple[np.ndarray, Sums]]] | None = None

    def foresee(self, rows: Rows, state: Any, layers: int) -> Decisions | None:
        """The decisions of a pass; None where its tokens depend on each other."""
        self._bring()
        self._measuring, self._foreseen = {}, False
        if not rows.stepped and self._policy.eligible(rows.steps).any():
            return None
        found = Decisions(np.zeros((len(rows), layers), dtype=bool), set())
        for layer in self._layers:
            found.skipped[:, layer] = self._policy.skips(state, layer)
            if self._policy.needs(state, layer):
                found.needs.add(layer)
            last = self._last[layer]
            before = [last.get(number, np.nan) for number in rows.sequence.tolist()]
            state = self._policy.step(state, layer, np.array(before, dtype=np.float32))
        self._foreseen = True
        return found

    def measured(self, layer: int, mask: np.ndarray, abcp: Sums) -> None:
        """Store a layer's sums until the next pass begins."""
        self._measuring[layer] = mask, abcp

    def moved_on(self, layer: int, rows: Rows, distance: np.ndarray) -> np.ndarray:
        """The distances of the previous tokens for the tokens of the current pass, [token]."""
        return previous_token(distance, rows.sequence, self._last[layer])

    def end(self, rows: Rows) -> None:
        """End a pass."""
        if self._foreseen:
            self._ended = rows, self._measuring

    def _bring(self) -> None:
        """Move the measurements of the previous pass from the device."""
        if self._ended is None:
            return
        (rows, measured), self._ended = self._ended, None
        found = {layer: distances(abcp) for layer, (_, abcp) in measured.items() if not torch.is_tensor(abcp)}
        if far := {layer: abcp for layer, (_, abcp) in measured.items() if torch.is_tensor(abcp)}:
            device = next(iter(far.values())).device
            joined = torch.stack([abcp.to(device) for abcp in far.values()], dim=1)  # [4, layer, token]
            found.update(zip(far, distances(joined), strict=True))
        for layer in self._layers:
            distance = found.get(layer)
            if distance is None:
                distance = np.full(len(rows), np.nan, dtype=np.float32)
            else:
                distance[measured[layer][0]] = np.nan
            previous_token(distance, rows.sequence, self._last[layer])
