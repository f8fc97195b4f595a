"""The action `Narrow`: a block runs only its most important neurons."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from .actions import Action
from .fitted_arrays import Arrays


@dataclass(frozen=True)
class Narrow(Action):
    """Run only some neurons of a feed-forward block where a policy would skip the whole block.

    A block is a sum over its neurons, so a narrow block reads fewer bytes. The mean output of the other neurons on
    calibration text can be added at no cost. `saturation.narrow` measures the order of the neurons.

    Parameters
    ----------
    width
        Share of each block's neurons that run, from 0 to 1, rounded to a number of neurons. With no neurons left, the
        block adds its mean output on calibration text; without `mean` it is skipped with its bias.
    arrays
        For each layer, such as 3: "order 3" int [neuron], the most important first, and "mean 3" float [neuron], the
        mean of each activation on calibration text.
    model
        Name of the model that was measured.
    mean
        Whether the mean output of the other neurons is added.
    """

    width: float
    arrays: Arrays
    model: str
    mean: bool = True

    named = "order"
    measured = "neurons"
    by = "saturation.narrow"

    def __post_init__(self) -> None:
        if not isinstance(self.width, Real) or isinstance(self.width, bool) or not 0 <= self.width <= 1:
            raise ValueError(
                f"expected a width from 0 to 1, the share of neurons that run, got {self.width!r}; 0.5 runs half"
            )

    @property
    def skips(self) -> bool:
        """Whether the action runs and adds nothing, so that it is a skip."""
        return self.width == 0 and not self.mean

    def kept(self, layer: int) -> np.ndarray:
        """Numbers of the neurons that run, rising, int [neuron]."""
        order = self.arrays[f"order {layer}"]
        return np.sort(order[: round(self.width * len(order))])

    def dropped_mean(self, layer: int) -> np.ndarray | None:
        """Mean activations of the neurons that do not run, zero for the others, float [neuron]; None without `mean`."""
        if not self.mean:
            return None
        mean = self.arrays[f"mean {layer}"].copy()
        mean[self.kept(layer)] = 0
        return mean

    def describe(self) -> str:
        """A few words for a legend."""
        if self.skips:
            return "skip"
        return f"narrow to {100 * self.width:.3g}%" + ("" if self.mean else " without mean")
