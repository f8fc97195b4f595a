"""`study`: draws texts, prunes or fits, and scores on all tasks; one file per cell, so a study can resume."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from .. import calibration, pruning
from ..atomic import located, writing
from ..calibration import GENERATED, Sample, open_source
from ..policies import Policy
from ..progress import bar
from ..sweeps import cell_keys
from ..sweeps.cells import distinct, kept, read
from ..tasks import Task
from . import scoring
from .cell_recipes import DENSE, SKIPPING, Recipe, fitted

_LOG = logging.getLogger(__name__)


def study(
    model: PreTrainedModel,
    tokenizer: Any,
    recipes: Sequence[Recipe],
    tasks: Sequence[Task],
    *,
    out: str | Path,
    policies: Mapping[str, Policy] | None = None,
    accuracy: bool = True,
    options: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Prune or skip by each recipe and score on all tasks; cells on disk are not run again.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them. The model stays as it is; a copy of it is pruned, so memory must hold two.
    recipes
        As `study.recipes` gives them, or your own. The dense model is always scored beside them.
    tasks
        Each pruned model is scored on all of them.
    out
        Folder for calibration texts, the reports and masks of prunings, and cells, each keyed by a hash of the weights,
        the tokenizer, the device's kind, the texts, the recipe, the examples, and the code and packages.
    policies
        By name: each pruned model, and the dense one, is scored skipping by them too.
    accuracy
        False scores the loss of reference answers alone, several times faster.
    options
        More for `pruning.prune`, such as ``{"update": "least-squares"}``.
    batch_size
        Of passes that score.
    progress
        Show a bar with the time left where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per recipe x policy x task x example: `source`, `format`, `shots`, `method`, `sparsity`, `seed`,
        `budget`, `calibrated` (real tokens drawn), `policy` ("" for none), those of `scoring.scored`, and `key`.

    Raises
    ------
    ValueError
        Before anything is run, for a source that cannot give its texts, tasks of one name or without references; and
        as for `pruning.prune`.
    KeyboardInterrupt
        Raised again; finished cells stay, and the model is restored.
    """
    distinct("tasks", [one.name for one in tasks])
    for task in tasks:
        scoring.check(task)
    place = located(out)
    place.mkdir(parents=True, exist_ok=True)
    run = _Study(model, tokenizer, list(tasks), place, dict(policies or {}), accuracy, dict(options or {}), batch_size)
    asked = [(Recipe(DENSE), None), *run.drawn(recipes)]
    tables: list[pd.DataFrame] = []
    show: dict[str, Any] = {"unit": "recipe", "smoothing": 0, "leave": True, "progress": progress}
    with bar(total=len(asked), desc="study", **show) as going:
        for recipe, sample in asked:
            going.set_postfix_str(f"{recipe.method} on {recipe.name}")
            tables += run.cells(recipe, sample)
            going.update()
    return pd.concat(tables, ignore_index=True)


def masks(out: str | Path, table: pd.DataFrame) -> dict[str, dict[str, tuple[np.ndarray, tuple[int, ...]]]]:
    """Read the masks of the prunings in a study's table, by its column `pruning`: matrix -> bits and shape."""
    found = {}
    for name in table["pruning"].unique():
        path = located(out) / f"{name}.masks.npz"
        if name and path.exists():
            with np.load(path) as held:
                shapes = {key.removesuffix(":shape"): tuple(held[key]) for key in held if key.endswith(":shape")}
                found[name] = {key: (held[key], shape) for key, shape in shapes.items()}
    return found


class _Cell(NamedTuple):
    """One task under one recipe and policy."""

    name: str
    policy: Policy | None
    task: Task
    key: str

    @property
    def rows(self) -> int:
        """One per example."""
        return len(self.task)


@dataclass(eq=False)
class _Study:
    """Runs recipes, or reads their cells from disk."""

    model: PreTrainedModel
    tokenizer: Any
    tasks: list[Task]
    out: Path
    policies: dict[str, Policy]
    accuracy: bool
    options: dict[str, Any]
    batch_size: int

    def __post_init__(self) -> None:
        tokens = cell_keys.tokens(self.tokenizer)
        self.weights = cell_keys.fingerprint(self.model)
        code = cell_keys.code(pruning, calibration, scoring)
        self.common = [self.weights, cell_keys.place(self.model), tokens, code, f"{self.accuracy}"]
        self.written = [tokens, cell_keys.code(calibration)]  # determines the texts of a source

    def drawn(self, recipes: Sequence[Recipe]) -> list[tuple[Recipe, Sample]]:
        """Draw all calibration texts before anything is pruned."""
        sources: dict[str, Any] = {}
        samples: dict[Recipe, Sample] = {}
        found = []
        for recipe in recipes:
            if recipe.name not in sources:
                sources[recipe.name] = open_source(recipe.source)
            source = sources[recipe.name]
            named = replace(recipe, source=recipe.name)
            if named.texts() not in samples:
                samples[named.texts()] = self._sample(named.texts(), source)
            sample = samples[named.texts()]
            found.append((replace(named, format=sample.format, shots=sample.shots), sample))
        return found

    def _sample(self, recipe: Recipe, source: Any) -> Sample:
        """Draw texts of a source; generated texts are stored on disk."""
        how = {name: value for name, value in asdict(recipe).items() if name not in ("source", "method", "sparsity")}
        if source.name != GENERATED:
            return calibration.draw(self.model, self.tokenizer, source, **how)
        key = cell_keys.digest(*self.written, self.weights, repr(sorted(how.items(), key=str)))
        path = self.out / f"{key}.texts.json"
        if not path.exists():
            calibration.draw(self.model, self.tokenizer, source, **how).save(path)
        return Sample.load(path)

    def cells(self, recipe: Recipe, sample: Sample | None) -> Iterator[pd.DataFrame]:
        """Rows of a recipe on every task, with and without the policies."""
        told = [recipe.method, str(recipe.sparsity), repr(sorted(self.options.items()))]
        key = cell_keys.digest(*self.common, *told, sample.digest if sample else "")
        policies: dict[str, Policy | None] = {"": None, **({} if recipe.method in SKIPPING else self.policies)}
        cells = [
            _Cell(name, policy, task, cell_keys.cell(task, policy, key))
            for task in self.tasks
            for name, policy in policies.items()
        ]
        model, own = self.model, None
        if any(read(self._file(cell), cell) is None for cell in cells):
            model, own = self._made(recipe, sample, key)
        columns = {**recipe.columns(), "calibrated": sample.tokens if sample else 0}
        columns["pruning"] = key if recipe.method in pruning.METHODS else ""
        for cell in cells:
            rows = kept(self._file(cell), cell, partial(self._scored, model, cell.task, own or cell.policy))
            yield rows.assign(policy=cell.name, **columns)

    def _made(self, recipe: Recipe, sample: Sample | None, key: str) -> tuple[PreTrainedModel, Policy | None]:
        """The pruned copy, or the model with a policy fitted to the texts."""
        if sample is None:
            return self.model, None
        if recipe.method in SKIPPING:
            return self.model, fitted(self.model, self.tokenizer, recipe, sample, self.batch_size)
        model = copy.deepcopy(self.model)
        report = pruning.prune(
            model, calibration=sample, method=recipe.method, sparsity=recipe.sparsity, progress=False, **self.options
        )
        self._keep(report, key)
        return model, None

    def _keep(self, report: pruning.Report, key: str) -> None:
        """Store the report of a pruning and its masks beside the cells."""
        with writing(self.out / f"{key}.report.parquet", "the report of a pruning") as part:
            report.table.to_parquet(part, index=False)
        held: dict[str, Any] = {name: bits for name, (bits, _) in report.packed.items()}
        held |= {f"{name}:shape": np.array(shape) for name, (_, shape) in report.packed.items()}
        with writing(self.out / f"{key}.masks.npz", "the masks of a pruning") as part, part.open("wb") as file:
            np.savez(file, **held)

    def _scored(self, model: PreTrainedModel, task: Task, policy: Policy | None) -> pd.DataFrame:
        return scoring.scored(
            model, self.tokenizer, task, policy=policy, accuracy=self.accuracy, batch_size=self.batch_size
        )

    def _file(self, cell: _Cell) -> Path:
        return self.out / f"{cell.key}.parquet"
