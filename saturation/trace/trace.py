"""The trace: distance and growth of every feed-forward block at every token of a run.

`distance` is 1 - cos(h, h + FFN(norm(h))), how far a feed-forward block turns the residual stream that it reads
(Jaiswal et al. 2024, arXiv 2404.03865), and `growth` is rho = |FFN| / |h|. The trace keeps distances, not cosines,
because float32 steps by 6e-8 near a cosine of 1 and by far less near a distance of 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from . import parquet, validation
from .frozen_record import Frozen
from .validation import GROUPS, PHASES, Phase

# Least size of a massive activation, and its least ratio to the median of its hidden state. Sun et al. 2024 give 100
# and "around 1,000" for models from 7 B. In SmolLM2-135M the first token has 22,000, 500 medians; no other reaches 150.
MAGNITUDE, RATIO = 100.0, 300.0


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Frozen):
    """Distance and growth of every token at every layer.

    Arrays are not copied but wrapped in read-only views. The frame is copied; do not write to it.

    Parameters
    ----------
    tokens : pandas.DataFrame, one row per token
        `sequence` and `position` (int32; the position inside its own sequence, from 0, padding not counted),
        `phase` ("prefill" or "decode"), `token_id` (int32) and `text` (str, may be empty).
    distance : float32 [token, layer]
        1 - cos(h, h + FFN(norm(h))), from 0 to 2; NaN exactly where skipped.
    growth : float32 [token, layer]
        |FFN| / |h|; NaN exactly where skipped.
    skipped : bool [token, layer]
        True where the feed-forward block did not run.
    attention_distance, attention_growth, block_distance, block_growth : float32 [token, layer], optional
        The same pair for the attention sublayer and for the whole block.
    naive_cosine : float32 [token, layer], optional
        cos(norm(h), FFN(norm(h))): the classic mistake, kept only to be shown.
    magnitude, median : float32 [token, layer], optional
        The largest and the median |h_i| over the hidden dimension of the residual stream behind each layer, which
        show attention sinks (see `massive`).
    model, revision, dtype : str
        Name and revision of the measured model, and the precision it ran in.
    provenance : dict
        Whatever else JSON can hold. `provenance["complete"]` is False for an interrupted run.
    kept_layers : tuple of int, optional
        The model's own layer numbers, where the trace holds only some layers (see `select`).

    Raises
    ------
    ValueError
        For a wrong shape or dtype, and for an impossible number; the message names its layer and token.
    """

    tokens: pd.DataFrame
    distance: np.ndarray
    growth: np.ndarray
    skipped: np.ndarray
    attention_distance: np.ndarray | None = None
    attention_growth: np.ndarray | None = None
    block_distance: np.ndarray | None = None
    block_growth: np.ndarray | None = None
    naive_cosine: np.ndarray | None = None
    magnitude: np.ndarray | None = None
    median: np.ndarray | None = None
    model: str = ""
    revision: str | None = None
    dtype: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    kept_layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        shape = self._open("distance")
        self._set(kept_layers=validation.layers_of(self.kept_layers, self.layers))
        self._set(skipped=validation.frozen("skipped", self.skipped, shape))
        for name, array in self.groups.items():
            self._set(**{name: validation.frozen(name, array, shape)})
            validation.numbers(self, name)

    def __repr__(self) -> str:
        sequences = self.tokens["sequence"].nunique()
        skipped = f", {self.skipped.mean():.1%} skipped" if self.skipped.any() else ""
        partial = "" if self.provenance.get("complete", True) else ", incomplete"
        name = self.model or "an unnamed model"
        size = f"{len(self)} tokens in {sequences} sequences x {self.layers} layers"
        return f"<Trace of {name}: {size}{skipped}{partial}>"

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.distance.shape[1]

    @property
    def layer_numbers(self) -> np.ndarray:
        """The model's own number of each layer, from 0, int [layer]."""
        return np.arange(self.layers) if self.kept_layers is None else np.array(self.kept_layers)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """The arrays of numbers in this trace by name, each [token, layer]."""
        return {name: array for name in GROUPS if (array := getattr(self, name)) is not None}

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {**self.groups, "skipped": self.skipped}

    @property
    def similarity(self) -> np.ndarray:
        """cos(h, h + FFN(norm(h))), float64 [token, layer]; NaN where skipped."""
        return 1.0 - self.distance.astype(np.float64)

    @cached_property
    def decoding(self) -> np.ndarray:
        """Whether a row belongs to the phase "decode", bool [token]."""
        return (self.tokens["phase"] == "decode").to_numpy(bool)

    @cached_property
    def generated(self) -> np.ndarray:
        """Running number of a decode row inside its sequence, from 1; 0 for prefill rows; int32 [token]."""
        order = np.argsort(self.tokens["sequence"].to_numpy(), kind="stable")
        sequence = self.tokens["sequence"].to_numpy()[order]  # [token], equal ones side by side
        decoding = self.decoding[order]
        total = np.cumsum(decoding)
        first = np.searchsorted(sequence, sequence)  # where each row's sequence begins
        before = total[first] - decoding[first]  # decode rows of earlier sequences
        counted = np.empty(len(self), np.int32)
        counted[order] = np.where(decoding, total - before, 0)
        return counted

    def select(
        self,
        *,
        phase: Phase | None = None,
        sequence: int | Iterable[int] | None = None,
        layers: int | Iterable[int] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Trace:
        """Select tokens by phase, sequence or position, and layers; layers keep their own numbers.

        Parameters
        ----------
        phase
            "prefill" or "decode".
        sequence, layers
            Numbers of the sequences or layers to keep.
        start, stop
            Positions to keep in each sequence: from `start` on and before `stop`. ``start=4`` leaves the attention
            sink out.

        Raises
        ------
        ValueError
            For a phase, sequence or layer that this trace does not have. A phase without tokens is no error.
        """
        keep = np.ones(len(self), bool)  # [token]
        if phase is not None:
            validation.known("phase", phase, PHASES)
            keep &= self.decoding == (phase == "decode")
        if sequence is not None:
            there = self.tokens["sequence"].to_numpy()
            keep &= np.isin(there, validation.known("sequence", sequence, np.unique(there).tolist()))
        if start or stop is not None:
            position = self.tokens["position"].to_numpy()
            keep &= (position >= start) & (position < (np.inf if stop is None else stop))
        kept, arrays = self.kept_layers, {name: array[keep] for name, array in self._arrays.items()}
        if layers is not None:
            kept = tuple(validation.known("layer", layers, self.layer_numbers.tolist()))
            columns = np.searchsorted(self.layer_numbers, kept)
            arrays = {name: array[:, columns] for name, array in arrays.items()}
        changed: dict[str, Any] = {"tokens": self.tokens[keep], "kept_layers": kept, **arrays}
        return replace(self, **changed)

    @classmethod
    def concat(cls, traces: Iterable[Trace], *, renumber: bool = True) -> Trace:
        """Concatenate traces of one model.

        Parameters
        ----------
        traces : iterable of Trace
            At least one; all with the same model, revision, dtype, layers and groups of numbers.
        renumber : bool
            Number the sequences of each trace after those of the one before; False keeps their numbers, for
            parts of the same sequences.

        Returns
        -------
        Trace
            Complete only if all are; `provenance["parts"]` holds their provenances.
        """
        parts = list(traces)
        if not parts:
            raise ValueError("expected at least one trace to concatenate, got none")
        for number, part in enumerate(parts):
            validation.kin(parts[0], part, number)
        frames, offset = [], 0
        for part in parts:
            frames.append(part.tokens.assign(sequence=part.tokens["sequence"] + offset))
            offset = int(frames[-1]["sequence"].max()) + 1 if renumber and len(part) else offset
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0]._arrays}
        complete = all(part.provenance.get("complete", True) for part in parts)
        provenance = {"parts": [part.provenance for part in parts], "complete": complete}
        changed: dict[str, Any] = {"tokens": pd.concat(frames), "provenance": provenance, **arrays}
        return replace(parts[0], **changed)

    def massive(self, *, magnitude: float = MAGNITUDE, ratio: float = RATIO) -> pd.DataFrame:
        """The tokens with massive activations, which serve as attention sinks (Sun et al. 2024, arXiv 2402.17762).

        Parameters
        ----------
        magnitude
            Least |h_i| that counts.
        ratio
            Least multiple of the median |h_i| of the same token and layer that counts; the paper says about 1,000.

        Returns
        -------
        pandas.DataFrame
            One row per token: `sequence`, `position`, `token_id`, `text`; `first` and `last`, the first and last layer
            with the activation; and, where it is largest, its `layer`, `magnitude` and `ratio` to the median.

        Raises
        ------
        ValueError
            For a trace without these numbers.
        """
        if self.magnitude is None or self.median is None:
            raise ValueError(
                "expected a trace with the magnitudes of the residual stream, but this one has none; record it with "
                "also=('magnitude',)"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            multiple = self.magnitude / self.median  # [token, layer]
        found = (self.magnitude >= magnitude) & (multiple >= ratio)
        rows = np.flatnonzero(found.any(axis=1))
        largest = np.where(found, self.magnitude, -1.0)[rows].argmax(axis=1)
        named = self.layer_numbers
        return self.tokens.iloc[rows][["sequence", "position", "token_id", "text"]].assign(
            first=named[found[rows].argmax(axis=1)],
            last=named[self.layers - 1 - found[rows][:, ::-1].argmax(axis=1)],
            layer=named[largest],
            magnitude=self.magnitude[rows, largest],
            ratio=multiple[rows, largest],
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per token and layer (tidy), as seaborn likes it.

        Returns
        -------
        pandas.DataFrame, token x layer rows
            The columns of `tokens`, then `generated`, `layer`, `distance`, `similarity`, `growth`, `skipped`
            and the numbers that were recorded on request.
        """
        tokens = self.tokens.assign(generated=self.generated)
        arrays = {"distance": self.distance, "similarity": self.similarity, "growth": self.growth}
        arrays |= {"skipped": self.skipped, **self.groups}
        return self._long(tokens, arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, whole or not at all.

        One row per token: the columns of `tokens`, then `distance_00`, ..., `growth_00`, ..., `skipped_00`
        and so on by layer number. The other fields are JSON under the key "saturation.trace" of the file's
        metadata. pandas, polars and R can read the file.

        Raises
        ------
        ValueError
            If the path does not end in ".parquet".
        OSError
            If the path cannot be written; nothing is left there.
        """
        parquet.write(self, path, parquet.TRACE)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read a trace that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, no trace, or written by a newer version of the format.
        """
        return cls(**parquet.read(path, parquet.TRACE))
