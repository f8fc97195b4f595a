"""`prune(method="neurons")`: choose neurons and remove them, all or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..anatomy import FeedForward, feedforwards, find_matrices
from ..anatomy.neurons import WIDTHS, Changes, narrowing
from ..patching import restored
from .inputs import before, held_model, opened, told
from .masks import Pattern
from .neurons import ONE, RANKED, SCORES, Activity, activities, chosen, mean_of_dropped
from .report import Report

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neurons:
    """Settings of neuron pruning."""

    sparsity: float
    widths: str
    score: str
    mean: bool | None

    @classmethod
    def read(
        cls, sparsity: float | str, calibration: Any, *, widths: str | None, score: str | None, mean: bool | None
    ) -> Neurons:
        """Check the settings; ValueError for invalid ones."""
        pattern = Pattern.read(sparsity)
        if pattern.of:
            raise ValueError(f"expected a share of the neurons, such as 0.25, got {str(pattern)!r}; give a number")
        widths, score = widths or RANKED, score or "energy"
        if widths not in (RANKED, ONE):
            raise ValueError(f"expected widths among {RANKED}, {ONE}, got {widths!r}; choose one")
        if score not in SCORES:
            raise ValueError(f"expected a score among {', '.join(SCORES)}, got {score!r}; choose one")
        if calibration is None or hasattr(calibration, "moments"):
            raise ValueError(
                "expected calibration texts for 'neurons', got none; draw some with saturation.calibration.draw"
            )
        return cls(pattern.share, widths, score, mean)


def narrow(
    model: PreTrainedModel, calibration: Any, tokenizer: Any, asked: Neurons, *, batch_size: int, progress: bool
) -> Report:
    """Remove the neurons of least importance on calibration texts, as `prune` describes."""
    with held_model(model):
        matrices = find_matrices(model)
        notes = before(model, matrices)
        blocks = feedforwards(model, matrices)
        rows = opened(model, calibration, tokenizer, batch_size)
        found = activities(model, blocks, rows, score=asked.score, batch_size=batch_size, progress=progress)
        scores = [own.score(one, asked.score) for one, own in zip(blocks, found, strict=True)]
        kept = chosen(scores, asked.sparsity, asked.widths)
        table = pd.DataFrame(map(_row, blocks, found, kept))
        place = _place(model, blocks, asked.mean)
        notes += _notes(model, asked, place)
        biases = [
            None if place == "" else mean_of_dropped(one, own, rest)
            for one, own, rest in zip(blocks, found, kept, strict=True)
        ]
        _take_out(blocks, kept, biases, beside=place == "config")
        _configure(model, blocks, place)
    settings = {"method": "neurons", **asdict(asked), "sparsity": f"{asked.sparsity:g}"}
    report = Report(table, settings, told(calibration, sum(map(len, rows))), tuple(notes))
    model.config.pruning = report.about()
    return report


def _row(one: FeedForward, own: Activity, kept: Tensor) -> dict[str, Any]:
    energy = own.score(one, "energy")
    return {
        "layer": one.block.number,
        "matrix": one.down.name,
        "outputs": one.down.weight.shape[0],
        "inputs": one.width,
        "sparsity": 1 - len(kept) / one.width,
        "error": 1 - float(energy[kept].sum() / energy.sum()) if float(energy.sum()) else 0.0,
        "dead": int((own.squares == 0).sum()),
        "width": one.width,
        "kept": len(kept),
        "tokens": own.tokens,
    }


def _place(model: PreTrainedModel, blocks: Sequence[FeedForward], mean: bool | None) -> str:
    """Where the mean is added: an existing "bias", one that the "config" allows, one "beside" it, or "" for none."""
    if mean is False:
        return ""
    if all(one.down.module.bias is not None for one in blocks):
        return "bias"
    if hasattr(model.config.get_text_config(), "mlp_bias"):
        return "config"
    return "beside" if mean else ""


def _notes(model: PreTrainedModel, asked: Neurons, place: str) -> list[str]:
    """Notes for the report, which are also logged."""
    notes = []
    kind = model.config.model_type
    if place == "" and asked.mean is None:
        notes.append(f"{kind} has no bias in its feed-forward blocks: the mean of what went is left out")
    if place == "beside":
        notes.append(
            f"{kind} has no bias in its feed-forward blocks: the mean of what went is kept as one that transformers "
            "leaves out when it loads the model"
        )
    if asked.widths == RANKED:
        notes.append("widths differ between layers: saturation.load opens the saved model, transformers alone does not")
    elif _width(model) is None:
        notes.append(f"the configuration of {kind} names no width: transformers alone cannot load the saved model")
    for note in notes:
        _LOG.info("%s", note)
    return notes


def _take_out(
    blocks: Sequence[FeedForward], kept: Sequence[Tensor], biases: Sequence[Tensor | None], *, beside: bool
) -> None:
    """Remove the neurons of all blocks, or of none."""
    made = [narrowing(one, rest, bias, beside=beside) for one, rest, bias in zip(blocks, kept, biases, strict=True)]
    every = Changes(tuple(change for one in made for change in one.changes))
    with restored(every.put):
        pass


def _width(model: PreTrainedModel) -> str | None:
    """The configuration's field for the width."""
    config = model.config.get_text_config()
    return next((name for name in WIDTHS if hasattr(config, name)), None)


def _configure(model: PreTrainedModel, blocks: Sequence[FeedForward], place: str) -> None:
    """Update the configuration to the new widths."""
    config = model.config.get_text_config()
    widths = {one.width for one in blocks}
    if place == "config":
        config.mlp_bias = True
    name = _width(model)
    ordinary = len(widths) == 1 and name is not None  # the configuration can express it
    if ordinary:
        setattr(config, str(name), widths.pop())
    names = {id(module): path for path, module in model.named_modules()}
    model.config.matrix_shapes = {
        names[id(matrix.module)]: [*matrix.weight.shape][:: -1 if isinstance(matrix.module, Conv1D) else 1]
        for one in ([] if ordinary else blocks)
        for matrix in (*one.ups, one.down)
    }
