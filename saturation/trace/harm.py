"""Harm: the frozen record of how leaving out one block changes the next-token distribution."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from . import parquet, validation
from .frozen_record import Frozen
from .trace import Trace

_SAME = ("sequence", "position", "token_id")  # equal in two rows of the same token
_GROUPS = ("kl", "attention_kl")


@dataclass(frozen=True, eq=False, repr=False)
class Harm(Frozen):
    """KL(dense || the model without one block) of every token's next-token distribution, layer by layer.

    Its rows match those of a `Trace` of the same texts (`aligned`). As there, arrays are not copied but wrapped in
    read-only views; do not write to the frame.

    Parameters
    ----------
    tokens : pandas.DataFrame, one row per token
        As a trace's: `sequence`, `position`, `phase`, `token_id` and `text`.
    kl : float32 [token, layer]
        Nats, from 0, with the feed-forward block of the layer left out; a whole row of NaN where nothing was
        measured: the tokens of the attention sink.
    attention_kl : float32 [token, layer], optional
        The same with the attention sublayer left out.
    model, revision, dtype : str
        Name and revision of the measured model, and the precision it ran in.
    provenance : dict
        Whatever else JSON can hold; `provenance["sink"]` and `provenance["estimate"]` say how it was measured.

    Raises
    ------
    ValueError
        For a wrong shape or dtype, and for an impossible number; the message names its layer and token.
    """

    tokens: pd.DataFrame
    kl: np.ndarray
    attention_kl: np.ndarray | None = None
    model: str = ""
    revision: str | None = None
    dtype: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self._open("kl")
        for name, array in self.groups.items():
            self._set(**{name: validation.frozen(name, array, shape)})
            self._check(name)

    def _check(self, name: str) -> None:
        array = getattr(self, name)
        bad = ~(array >= 0) & self.measured[:, None] | ~np.isnan(array) & ~self.measured[:, None] | np.isinf(array)
        if bad.any():
            token, layer = (int(index) for index in np.unravel_index(np.argmax(bad), bad.shape))
            row = self.tokens.iloc[token]
            raise ValueError(
                f"impossible {name} at layer {layer}, token {token} (sequence {row['sequence']}, position "
                f"{row['position']}, {row['text']!r}): expected a finite number of nats from 0, or NaN at every layer "
                f"of a token that was not measured, got {array[token, layer]}"
            )

    def __repr__(self) -> str:
        estimated = ", estimated" if self.provenance.get("estimate") else ""
        return (
            f"<Harm in {self.model or 'an unnamed model'}: {len(self)} tokens in {self.tokens['sequence'].nunique()} "
            f"sequences x {self.layers} layers, {int(self.measured.sum())} measured{estimated}>"
        )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.kl.shape[1]

    @property
    def layer_numbers(self) -> np.ndarray:
        """The model's own number of each layer, from 0, int [layer]."""
        return np.arange(self.layers)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """The measured arrays by name, each [token, layer]."""
        return {name: array for name in _GROUPS if (array := getattr(self, name)) is not None}

    @cached_property
    def measured(self) -> np.ndarray:
        """Mask of the measured tokens, bool [token]; the attention sink is not measured."""
        return ~np.isnan(self.kl).all(axis=1)

    def aligned(self, trace: Trace) -> Trace:
        """Return the trace, after checking that it has the same model and, row by row, the same tokens.

        Raises
        ------
        ValueError
            If it has not; the message names both models.
        """
        names = f"the harm is of {self.model!r} and the trace of {trace.model!r}"
        ours, theirs = (len(self), self.layers), (len(trace), trace.layers)
        if self.model != trace.model or ours != theirs or trace.kept_layers is not None:
            raise ValueError(
                f"expected a trace of what the harm was measured on, but {names}, with {ours[0]} tokens x {ours[1]} "
                f"layers and {theirs[0]} x {theirs[1]}; record the same texts with the same model"
            )
        differ = (self.tokens[[*_SAME]].to_numpy() != trace.tokens[[*_SAME]].to_numpy()).any(axis=1)
        if differ.any():
            row = int(np.argmax(differ))
            one, other = (tokens["text"].iloc[row] for tokens in (self.tokens, trace.tokens))
            raise ValueError(
                f"expected a trace of what the harm was measured on, but {names}, and row {row} is {one!r} in the one "
                f"and {other!r} in the other; record the same texts in the same order"
            )
        return trace

    def to_frame(self) -> pd.DataFrame:
        """One row per token and layer (tidy), as seaborn likes it.

        Returns
        -------
        pandas.DataFrame, token x layer rows
            The columns of `tokens`, then `layer`, `kl` and, where measured, `attention_kl`.
        """
        return self._long(self.tokens, self.groups)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, whole or not at all, laid out like that of a trace: `kl_00`, `kl_01` and so on.

        Raises
        ------
        ValueError
            If the path does not end in ".parquet".
        OSError
            If the path cannot be written; nothing is left there.
        """
        parquet.write(self, path, parquet.HARM)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Harm:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, no record of harm, or written by a newer version of the format.
        """
        return cls(**parquet.read(path, parquet.HARM))
