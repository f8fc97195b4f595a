"""Actions that replace a whole block: a constant, a multiple of the residual stream, or a linear map of it."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from .actions import Action
from .fitted_arrays import Arrays

_BY = "saturation.stand_in"


@dataclass(frozen=True)
class LowRank(Action):
    """Replace the output of a block by a linear map of low rank of its input, fitted by least squares.

    The block's input x is first scaled to a root mean square of 1, as the block's own norm does: u = x / rms(x). The
    output is then mean + left right (u - centre). `saturation.stand_in` fits it.

    Parameters
    ----------
    rank
        Rank of the map. 0 adds the block's mean output on calibration text. A smaller rank than was fitted uses a part
        of the same arrays, and is optimal for its rank too.
    arrays
        For each layer, such as 3: "mean 3" float [hidden], the block's mean output; and where a map was fitted
        "centre 3" float [hidden], the mean of u, "left 3" float [hidden, rank] and "right 3" [rank, hidden].
    model
        Name of the model that they are of.
    """

    rank: int
    arrays: Arrays
    model: str

    measured = "stand-ins"
    by = _BY

    def __post_init__(self) -> None:
        if not isinstance(self.rank, Integral) or isinstance(self.rank, bool) or self.rank < 0:
            raise ValueError(
                f"expected a rank that is a whole number from 0, got {self.rank!r}; 0 adds the mean, 64 is usual"
            )
        if self.rank > (most := min((len(self.arrays[name]) for name in self._rights()), default=0)):
            raise ValueError(
                f"expected a rank of at most {most}, which is what was fitted, got {self.rank}; fit more with {_BY}"
            )

    def _rights(self) -> list[str]:
        return [name for name in self.arrays if name.startswith("right ")]

    def map(self, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Constant [hidden], left [hidden, rank] and right [rank, hidden] of the output constant + left right u."""
        mean = self.arrays[f"mean {layer}"]
        if not self.rank:
            return mean, np.zeros((len(mean), 0), mean.dtype), np.zeros((0, len(mean)), mean.dtype)
        left, right = self.arrays[f"left {layer}"][:, : self.rank], self.arrays[f"right {layer}"][: self.rank]
        return mean - left @ (right @ self.arrays[f"centre {layer}"]), left, right

    def describe(self) -> str:
        """A few words for a legend."""
        return f"rank-{self.rank} map" if self.rank else "calibration mean"


@dataclass(frozen=True)
class Scale(Action):
    """Multiply the residual stream by a number instead of adding the output of a block.

    AdaSkip (He et al. 2025, arXiv 2501.02336): the number is the mean of |h + FFN| / |h| over calibration tokens, with
    h the stream in front of the block. `saturation.stand_in` measures it.

    Parameters
    ----------
    arrays
        For each layer, such as 3: "scale 3" float [1].
    model
        Name of the model that they are of.
    """

    arrays: Arrays
    model: str

    named = "scale"
    measured = "stand-ins"
    by = _BY

    def describe(self) -> str:
        """A few words for a legend."""
        return "scaled stream"
