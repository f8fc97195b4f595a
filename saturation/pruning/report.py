"""The pruning report: a row per matrix, the masks, and the calibration texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

Packed = Mapping[str, tuple[np.ndarray, tuple[int, ...]]]  # matrix -> packed bits and shape of its mask


@dataclass(frozen=True, eq=False)
class Report:
    """The result of `prune`.

    Attributes
    ----------
    table
        One row per matrix: `layer`, `matrix`, `outputs`, `inputs`, `sparsity` (share of zeros), `error` (squared
        error of its outputs on the calibration tokens over their squared size, from the second moments), `dead`
        (inputs that were always zero), `damping` (that the Hessian needed), `tokens` and `seconds`. Of neurons: `width`
        and `kept`, and the error of the whole block.
    settings
        All settings.
    calibration
        Origin of the texts, their number of tokens, and their hash.
    notes
        Sentences for the reader.
    """

    table: pd.DataFrame
    settings: dict[str, Any]
    calibration: dict[str, Any]
    notes: tuple[str, ...] = ()
    packed: Packed = field(default_factory=dict, repr=False)

    @property
    def sparsity(self) -> float:
        """Share of the weights of all matrices that are pruned."""
        weights = self.table["outputs"] * self.table["inputs"]
        return float((self.table["sparsity"] * weights).sum() / weights.sum())

    @property
    def error(self) -> float:
        """Mean of the matrices' relative errors."""
        return float(self.table["error"].mean())

    def mask(self, matrix: str) -> np.ndarray:
        """Mask of the weights that stay in a matrix such as "0.mlp.down_proj", [outputs, inputs] bool.

        Raises
        ------
        ValueError
            For an unknown name; the message lists known ones.
        """
        if matrix not in self.packed:
            some = ", ".join(list(self.packed)[:3]) or "none, since neurons were pruned"
            raise ValueError(f"expected a matrix such as {some}, got {matrix!r}; name one of these")
        bits, shape = self.packed[matrix]
        return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)

    def overlap(self, other: Report) -> float:
        """Jaccard's index with another report: of the weights pruned in either, the share pruned in both.

        Raises
        ------
        ValueError
            For a report of other matrices.
        """
        if set(self.packed) != set(other.packed) or not self.packed:
            raise ValueError(
                f"expected reports of the same matrices, got {len(self.packed)} and {len(other.packed)} masks; prune "
                "one model in two ways"
            )
        one, two = gone(self.packed), gone(other.packed)
        both, either = (int(np.bitwise_count(bits).sum()) for bits in (one & two, one | two))
        return both / either if either else 1.0

    def about(self) -> dict[str, Any]:
        """Settings, calibration and results in a form that JSON can hold."""
        return {**self.settings, "calibration": self.calibration, "reached": self.sparsity, "notes": list(self.notes)}


def gone(masks: Packed) -> np.ndarray:
    """Bits of all pruned weights, matrix by matrix in the order of their names; padding bits are 0."""
    return np.concatenate([_gone(bits, shape) for _, (bits, shape) in sorted(masks.items())])


def _gone(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    lost = ~bits
    if left := int(np.prod(shape)) % 8:
        lost[-1] &= (0xFF << (8 - left)) & 0xFF
    return lost


def packed(stays: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
    """A mask packed into bits, with its shape."""
    return np.packbits(stays.cpu().numpy()), (stays.shape[0], stays.shape[1])
