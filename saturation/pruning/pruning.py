"""Remove weights for good, block by block."""

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
    """Second moments of the inputs of every matrix of the dense model: one gathering for many prunings.

    Attributes
    ----------
    moments
        By "layer.matrix". In memory: inputs² numbers for each group of matrices that read the same.
    calibration
        Where the texts came from.
    """

    moments: Mapping[str, Moments]
    calibration: dict[str, Any] = field(default_factory=dict)


def gather(
    model: PreTrainedModel, calibration: Any, *, tokenizer: Any = None, batch_size: int = 8, progress: bool = True
) -> Statistics:
    """Gather what `prune` needs to know of the dense model, to prune it many times.

    Parameters
    ----------
    model, calibration, tokenizer, batch_size, progress
        As for `prune`.

    Returns
    -------
    Statistics
        To be given to `prune` as `calibration`. Every matrix is then pruned for the inputs it has in the dense model,
        where texts let each block see what the pruned blocks before it give.

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
    """Set weights of a model to zero for good, or take whole neurons out of it.

    The matrices of the decoder layers are pruned block by block: each block's inputs come from the pruned blocks
    before it. Embeddings and head stay. The model is changed in place, and `save_pretrained` writes it in Hugging
    Face format.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode, on any device.
    calibration
        What `saturation.calibration.draw` gives; or texts (with `tokenizer`), or lists of token ids; or what `gather`
        gives. By magnitude it may be left out; the report then has no errors.
    method
        One of `METHODS`.
    sparsity
        A share of the weights, from 0 to below 1; or N:M such as "2:4", which keeps N of every M consecutive inputs.
    tokenizer
        For texts.
    update
        What becomes of the weights that stay: one of `UPDATES`. None: SparseGPT's own for "sparsegpt", else "none".
    group
        Which weights are compared: of the whole "matrix" (magnitude's own) or of an output's "row" (Wanda's own).
    damping
        Of SparseGPT, times the mean of the Hessian's diagonal; more where that is needed, and reported.
    columns
        In a block of SparseGPT.
    widths
        Of "neurons": "ranked" (the lowest of all blocks together go, so that widths differ) or "one" (the same width
        everywhere: an ordinary checkpoint). None: "ranked".
    score
        Of "neurons": one of `saturation.pruning.SCORES`. None: "energy".
    mean
        Of "neurons": whether the mean of what goes is added as a bias. None: where the family has a place for it.
    batch_size
        Texts per pass; the result does not depend on it, but for rounding.
    progress
        Show a bar with the time left where there is a terminal or a notebook.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        For settings that are none or cannot be met by every matrix, and for no calibration texts; nothing is changed.
    UnsupportedModel
        For quantised, tied or offloaded weights, and for experts that share one tensor.
    RuntimeError
        Where somebody skips or watches in the model.
    KeyboardInterrupt
        As it came, with the report of the blocks that are pruned as its attribute `report`; the others are as they
        were.

    Notes
    -----
    Memory: the residual stream of all calibration texts, and of one block the second moments of its inputs.
    Padding is never counted: a batch with it gives the scores of a batch without.

    N:M weights are saved as ordinary matrices that hold zeros, which engines read as dense ones. A file of 2:4 weights
    alone has no reader to be written for: compressed-tensors 0.20.1 has no compressor for sparse weights any more.
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
    """One run: what is pruned so far."""

    model: PreTrainedModel
    settings: Settings
    matrices: list[list[Matrix]]
    notes: list[str]
    about: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, Any] = field(default_factory=dict)
    done: int = 0

    def block(self, layer: list[Matrix], moments: Mapping[str, Moments]) -> None:
        """Prune a block: all of it, or nothing."""
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
    """Refuse what a method has no use for."""
    if said := [f"{name}={value!r}" for name, value in given.items() if value is not None]:
        raise ValueError(f"expected nothing that {method!r} has no use for, got {said[0]}; leave it out")


def _moments(walk: Walk | None, calibration: Any, index: int, layer: list[Matrix]) -> Mapping[str, Moments]:
    if isinstance(calibration, Statistics):
        return {matrix.name: calibration.moments[matrix.key] for matrix in layer}
    return {} if walk is None else gathered(walk, index, layer)
