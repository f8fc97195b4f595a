"""Actions: what runs in place of a block that a policy would skip; None runs nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .fitted_arrays import Arrays

ACTIONS: dict[str, type[Action]] = {}  # every action by its name


class Action(ABC):
    """Base class of actions: something cheaper runs in place of a block that a policy would skip.

    Attributes
    ----------
    arrays
        Arrays measured on calibration text, under "name layer", such as "mean 3".
    model
        Name of the model that was measured.
    named
        Name of an array that every layer has.
    measured, by
        For error messages: what was measured, and by which function.
    """

    arrays: Arrays
    model: str

    named: ClassVar[str] = "mean"
    measured: ClassVar[str]
    by: ClassVar[str]

    def __init_subclass__(cls) -> None:
        ACTIONS[cls.__name__] = cls

    @property
    def skips(self) -> bool:
        """Whether the action runs and adds nothing, so that it is a skip."""
        return False

    @property
    def layers(self) -> int:
        """Number of layers of the model that was measured."""
        return sum(name.startswith(f"{self.named} ") for name in self.arrays)

    def check(self, layers: int) -> None:
        """Raise ValueError where the action was measured on a model with another number of layers."""
        if self.layers != layers:
            raise ValueError(
                f"expected {self.measured} of a model with {layers} layers, got those of {self.model!r} with "
                f"{self.layers}; measure them on this model with {self.by}"
            )

    def fits(self, model: str) -> None:
        """Raise ValueError where the action was measured on another model."""
        if self.model != model:
            raise ValueError(
                f"expected an action whose {self.measured} were measured on {model!r}, got one of {self.model!r}; "
                f"measure them on this model with {self.by}"
            )

    @abstractmethod
    def describe(self) -> str:
        """A few words for a legend."""
