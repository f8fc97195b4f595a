"""Pruning: `prune` removes weights permanently, block by block."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from ..anatomy import Matrix, find_matrices
from ..patching import restored
from .inputs import before, held_model, opened, shown, told
from .layerwise import Walk
from .moments import Moments, gathered
from .prune_neurons import Neurons, narrow
from .report import Report, packed
from .settings import METHODS, Settings
from .unstructured import Pruned, pruned

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Second moments of the inputs of every matrix of the dense model, gathered once for many prunings.

    Attributes
    ----------
    moments
        By "layer.matrix". Memory: inputs² numbers for each group of matrices with the same input.
    calibration
        Origin of the texts.
    """

    moments: Mapping[str, Moments]
    calibration: dict[str, Any] = field(default_factory=dict)


def gather(
    model: PreTrainedModel, calibration: Any, *, tokenizer: Any = None, batch_size: int = 8, progress: bool = True
) -> Statistics:
    """Gather the input statistics of the dense model, to prune it many times.

    Parameters
    ----------
    model, calibration, tokenizer, batch_size, progress
        As for `prune`.

    Returns
    -------
    Statistics
        Pass it to `prune` as `calibration`. Every matrix is then pruned for its inputs in the dense model; with texts,
        each block gets the output of the pruned blocks before it.

    Raises
    ------
    ValueError, UnsupportedModel, RuntimeError
        As for `prune`.
    """
    with held_model(model):
        matrices = find_matrices(model)
        walk = Walk(model, opened(model, calibration, tokenizer, batch_size), batch_size)
        found: dict[str, Moments] = {}
        for index, layer in enumerate(shown(matrices, "gathering", progress)):
            moments = gathered(walk, index, layer)
            found.update({matrix.key: moments[matrix.name] for matrix in layer})
            walk.step(index)
    return Statistics(found, told(calibration, walk.tokens))


def prune(
    model: PreTrainedModel,
    *,
    calibration: Any = None,
    method: str = "wanda",
    sparsity: float | str = 0.5,
    tokenizer: Any = None,
    update: str | None = None,
    group: str | None = None,
    damping: float = 0.01,
    columns: int = 128,
    widths: str | None = None,
    score: str | None = None,
    mean: bool | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> Report:
    """Prune a model: set weights to zero permanently, or remove whole neurons.

    The matrices of the decoder layers are pruned block by block; each block's inputs come from the pruned blocks before
    it. Embeddings and head stay. The model changes in place, and `save_pretrained` writes it in Hugging Face format.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, on any device.
    calibration
        Result of `saturation.calibration.draw` or of `gather`; or texts (with `tokenizer`), or lists of token ids. It
        may be left out for magnitude; the report then has no errors.
    method
        One of `METHODS`.
    sparsity
        A share of the weights, from 0 to below 1; or N:M such as "2:4", which keeps N of every M consecutive inputs.
    tokenizer
        For texts.
    update
        Update of the weights that stay: one of `UPDATES`. None: SparseGPT's own for "sparsegpt", else "none".
    group
        Weights that are compared: of the whole "matrix" (default for magnitude) or of an output's "row" (for Wanda).
    damping
        For SparseGPT, times the mean of the Hessian's diagonal; raised where needed, and reported.
    columns
        Columns in a block of SparseGPT.
    widths
        For "neurons": "ranked" (the lowest of all blocks together are pruned, so widths differ) or "one" (the same
        width everywhere: an ordinary checkpoint). None: "ranked".
    score
        For "neurons": one of `saturation.pruning.SCORES`. None: "energy".
    mean
        For "neurons": whether the mean output of the pruned neurons is added as a bias. None: where the family has one.
    batch_size
        Texts per pass; the result depends on it only by rounding.
    progress
        Show a bar with the time left where there is a terminal or a notebook.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        For invalid settings, settings that a matrix cannot meet, and no calibration texts; nothing is changed.
    UnsupportedModel
        For quantised, tied or offloaded weights, and for experts that share one tensor.
    RuntimeError
        Where the model is being skipped or watched.
    KeyboardInterrupt
        Raised again, with the report of the pruned blocks as its attribute `report`; the other blocks are unchanged.

    Notes
    -----
    Memory: the residual stream of all calibration texts, and the second moments of one block's inputs. Padding never
    counts.

    N:M weights are saved as ordinary matrices with zeros, which engines read as dense ones. No compressed 2:4 file is
    written, since compressed-tensors 0.20.1 has no compressor for sparse weights any more.
    """
    if method not in METHODS:
        raise ValueError(f"expected a method among {', '.join(METHODS)}, got {method!r}; choose one")
    own: dict[str, Any] = {"widths": widths, "score": score, "mean": mean}
    if method == "neurons":
        _unused(method, {"update": update, "group": group})
        asked = Neurons.read(sparsity, calibration, **own)
        return narrow(model, calibration, tokenizer, asked, batch_size=batch_size, progress=progress)
    _unused(method, own)
    settings = Settings.read(method, sparsity, update, group, damping, columns, calibration is not None)
    with held_model(model):
        matrices = find_matrices(model)
        settings.check(matrices)
        run = _Pruning(model, settings, matrices, before(model, matrices))
        walk = None
        if calibration is not None and not isinstance(calibration, Statistics):
            walk = Walk(model, opened(model, calibration, tokenizer, batch_size), batch_size)
            run.about = told(calibration, walk.tokens)
        elif calibration is not None:
            run.about = calibration.calibration
        try:
            for index, layer in enumerate(shown(matrices, "pruning", progress)):
                run.block(layer, _moments(walk, calibration, index, layer))
                if walk is not None:
                    walk.step(index)
        except KeyboardInterrupt as stop:
            stop.report = run.report()  # type: ignore[attr-defined]
            _LOG.warning(
                "interrupted: %d of %d blocks are pruned, the others are as they were; load the model again for the "
                "dense one",
                run.done,
                len(matrices),
            )
            raise
    report = run.report()
    model.config.pruning = report.about()
    return report


@dataclass(eq=False)
class _Pruning:
    """One pruning run, and what is pruned so far."""

    model: PreTrainedModel
    settings: Settings
    matrices: list[list[Matrix]]
    notes: list[str]
    about: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, Any] = field(default_factory=dict)
    done: int = 0

    def block(self, layer: list[Matrix], moments: Mapping[str, Moments]) -> None:
        """Prune all matrices of a block, or none."""
        found = [pruned(matrix, moments.get(matrix.name), self.settings) for matrix in layer]
        with restored(lambda: self._write(found)):
            pass

    def _write(self, found: list[Pruned]) -> None:
        for one in found:
            one.matrix.write(one.weight)
        new = {one.matrix.key: packed(one.stays) for one in found}
        if not new.keys() <= self.masks.keys():  # an interrupt may call this twice
            self.masks.update(new)
            self.rows += [one.row for one in found]
            self.done += 1

    def report(self) -> Report:
        return Report(pd.DataFrame(self.rows), self.settings.about(), self.about, tuple(self.notes), dict(self.masks))


def _unused(method: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that the method does not use."""
    if said := [f"{name}={value!r}" for name, value in given.items() if value is not None]:
        raise ValueError(f"expected nothing that {method!r} has no use for, got {said[0]}; leave it out")


def _moments(walk: Walk | None, calibration: Any, index: int, layer: list[Matrix]) -> Mapping[str, Moments]:
    if isinstance(calibration, Statistics):
        return {matrix.name: calibration.moments[matrix.key] for matrix in layer}
    return {} if walk is None else gathered(walk, index, layer)
