"""The arrays of a fitted policy, held beside its plain options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256

import numpy as np


class Arrays(Mapping[str, np.ndarray]):
    """Frozen named arrays, compared by their numbers.

    Parameters
    ----------
    arrays
        Arrays by name; they are copied and made read-only.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._held = {name: np.array(arrays[name], order="C") for name in sorted(arrays)}
        for array in self._held.values():
            array.flags.writeable = False

    def __getitem__(self, name: str) -> np.ndarray:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arrays) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self._held.items())
        return f"Arrays({shapes if len(self) < 5 else f'{len(self)} of them'})"

    @cached_property
    def digest(self) -> str:
        """Hash of names, types, shapes and numbers; policies are stored and compared by it."""
        found = sha256()
        for name, array in self._held.items():
            found.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
            found.update(array.tobytes())
        return found.hexdigest()
