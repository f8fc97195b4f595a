"""The base class of Trace and Harm: a frame with one row per token, and arrays [token, layer]."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import validation


class Frozen:
    """Common part of Trace and Harm; the frozen dataclass that inherits it defines the fields."""

    if TYPE_CHECKING:  # fields and properties of the subclasses
        tokens: pd.DataFrame
        provenance: dict[str, Any]

        @property
        def layers(self) -> int: ...  # noqa: D102

        @property
        def layer_numbers(self) -> np.ndarray: ...  # noqa: D102

        @property
        def groups(self) -> dict[str, np.ndarray]: ...  # noqa: D102

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        """Every array [token, layer] by the name of its field."""
        return self.groups

    def _open(self, first: str) -> tuple[int, int]:
        """Check the frame, and return the shape that all arrays must have: that of the first."""
        self._set(tokens=validation.tokens_of(self.tokens), provenance=validation.json_of(self.provenance))
        shape = np.shape(getattr(self, first))
        if len(shape) != 2 or shape[0] != len(self.tokens) or shape[1] == 0:
            raise ValueError(
                f"{first} must be [token, layer] with a row for each of the {len(self.tokens)} rows of tokens and at "
                f"least one layer, but its shape is {shape}"
            )
        return shape

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.tokens)

    def _long(self, tokens: pd.DataFrame, arrays: dict[str, np.ndarray]) -> pd.DataFrame:
        """One row per token and layer."""
        long = tokens.loc[tokens.index.repeat(self.layers)].reset_index(drop=True)
        layer = np.tile(self.layer_numbers.astype(np.int32), len(self))
        return long.assign(layer=layer, **{name: array.ravel() for name, array in arrays.items()})

    def equals(self, other: object) -> bool:
        """Whether the other has the same class, tokens, numbers (NaN equal to NaN) and description."""
        if not isinstance(other, type(self)) or self._arrays.keys() != other._arrays.keys():
            return False
        measured = {*self._arrays, "tokens"}
        described = [item.name for item in fields(self) if item.name not in measured]  # type: ignore[arg-type]
        return (
            all(getattr(self, name) == getattr(other, name) for name in described)
            and self.tokens.equals(other.tokens)
            and all(np.array_equal(array, getattr(other, name), equal_nan=True) for name, array in self._arrays.items())
        )
