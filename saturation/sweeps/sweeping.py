"""`sweep`: runs policies on tasks, cell by cell, with the model loaded once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from .. import quality
from ..anatomy import find_blocks, running
from ..atomic import located
from ..policies import Policy
from ..progress import bar
from ..skipping import suited
from ..tasks import Example, Task
from . import cell_keys
from .cells import Cell, cells_of, distinct, kept, read, write

_LOG = logging.getLogger(__name__)


def sweep(
    model: PreTrainedModel,
    tokenizer: Any,
    policies: Mapping[str, Policy | None] | Sequence[Policy | None],
    tasks: Sequence[Task],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    judge: Callable[[Example, str], float | None] | None = None,
    chat: bool | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate policies on tasks, one file per cell; cells on disk are not run again.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    policies
        By the name that tables and figures show, or as a sequence, named by `describe()`. None is the dense model;
        with it among them every row also says how far it drifted from the dense run, as for `quality.against`.
    tasks
        As `tasks.bundled`, `tasks.read`, `tasks.published` or `tasks.hub` gives them.
    out
        Folder for the cells. Each is keyed by a hash of the weights, the kind of device, the tokenizer, the examples,
        the policy, and the code and packages that decide a row, so that results of another model or another version
        are never mixed in.
    seeds
        For policies that draw: each is run once with each of these seeds. Others are run once.
    judge
        As for `quality.evaluate`. What it could not rate is marked, and asked again when the sweep is repeated.
        Ratings of different judges are never mixed, as far as they differ in code, settings or what they read by
        name (`judge_keys.told`); what a client, a model or a service does is not seen: give such a judge an `out`
        of its own.
    chat, stride
        As for `quality.evaluate`.
    batch_size
        Examples per batch; halved, with a warning, where memory runs out.
    progress
        Show a bar with the time left where there is a terminal or a notebook; a terminal shows one of the run that is
        going on as well.

    Returns
    -------
    DataFrame
        The rows of `quality.evaluate` of every cell in order, and `seed` (empty where nothing is drawn), `seconds`
        (of the whole run) and `key`.

    Raises
    ------
    ValueError
        For no policies, no tasks, or two of one name; for a policy, its table or its action, that does not fit the
        model, before anything runs; and as for
        `quality.evaluate`.
    OSError
        Where `out` cannot be written; finished cells stay.
    """
    named = _named(policies)
    _check(model, named, tasks, seeds)  # runs a pass, in which compressed weights are unpacked
    common = [
        cell_keys.fingerprint(model),
        cell_keys.place(model),
        cell_keys.tokens(tokenizer),
        cell_keys.code(),
        f"{chat} {stride}",
    ]
    cells = list(cells_of(dict(named), tasks, seeds, common))
    run = _Sweep(model, tokenizer, cells, _folder(out), judge, {"chat": chat, "stride": stride}, batch_size, progress)
    done = [run.last_file(cell).exists() for cell in cells]
    sizes = [len(cell.task) for cell in cells]
    known = sum(size for size, there in zip(sizes, done, strict=True) if there)
    tables: list[pd.DataFrame] = []
    show: dict[str, Any] = {"unit": "example", "smoothing": 0, "leave": True, "progress": progress}
    with bar(total=sum(sizes), initial=known, desc="sweep", **show) as going:
        run.progress = progress and not hasattr(going, "container")  # each bar in a notebook leaves an empty output
        for cell, size, there in zip(cells, sizes, done, strict=True):
            going.set_postfix_str(f"{cell.name} on {cell.task.name}")
            try:
                tables.append(run.rows(cell).assign(policy=cell.name))
            except OSError as error:
                raise type(error)(
                    f"{error}; {len(tables)} of {len(cells)} cells are finished and stay in {out}, run the same sweep "
                    "again to go on"
                ) from error
            going.update(0 if there else size)
    return pd.concat(tables, ignore_index=True)


@dataclass
class _Sweep:
    """Runs or reads cells in stages: evaluation, comparison with the dense run, a judge's ratings."""

    model: PreTrainedModel
    tokenizer: Any
    cells: list[Cell]
    out: Path
    judge: Callable[[Example, str], float | None] | None
    options: dict[str, Any]
    batch_size: int
    progress: bool

    def rows(self, cell: Cell) -> pd.DataFrame:
        """The complete rows of a cell."""
        rows = self._written(cell) if self._dense(cell) is None else self._beside_dense(cell)
        return self._judged(cell, rows, self.judge) if self.judge and cell.task.score in quality.JUDGED else rows

    def last_file(self, cell: Cell) -> Path:
        """Path of the cell's last stage."""
        if self.judge and cell.task.score in quality.JUDGED:
            return self._file(cell, f"judge-{self._judge_key}")
        return self._file(cell, "against" if self._dense(cell) else "")

    @cached_property
    def _judge_key(self) -> str:
        return cell_keys.of_judge(self.judge)[:12] if self.judge else ""

    def _file(self, cell: Cell, stage: str = "") -> Path:
        return self.out / ".".join(filter(None, (cell.key, stage, "parquet")))

    def _dense(self, cell: Cell) -> Cell | None:
        """The dense cell on the same task, where the sweep has one."""
        return next((one for one in self.cells if one.policy is None and one.task is cell.task), None)

    def _written(self, cell: Cell) -> pd.DataFrame:
        return kept(self._file(cell), cell, lambda: self._evaluated(cell))

    def _beside_dense(self, cell: Cell) -> pd.DataFrame:
        return kept(self._file(cell, "against"), cell, lambda: self._against(cell))

    def _judged(self, cell: Cell, rows: pd.DataFrame, judge: Callable[..., Any]) -> pd.DataFrame:
        """Add the judge's ratings; earlier failures are rated again."""
        path = self.last_file(cell)
        before = read(path, cell)
        if before is not None:
            rows = rows.assign(judge=before["judge"], judge_error=before["judge_error"])
        if before is None or rows["judge"].isna().any():
            rows = quality.rated(cell.task, rows, judge)
            write(path, rows[["judge", "judge_error", "key"]])
        return rows

    def _evaluated(self, cell: Cell) -> pd.DataFrame:
        began = time.perf_counter()
        table = self._fitting(cell, lambda **how: quality.evaluate(self.model, self.tokenizer, cell.task, **how))
        seed = pd.array([cell.seed] * len(table), dtype="Int64")
        return table.assign(seed=seed, seconds=time.perf_counter() - began)

    def _against(self, cell: Cell) -> pd.DataFrame:
        dense = self._dense(cell) or cell
        given = (self.model, self.tokenizer, cell.task, self._written(cell), self._written(dense))
        return self._fitting(cell, lambda **how: quality.against(*given, **how))

    def _fitting(self, cell: Cell, run: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        """Run with the largest batches that fit into memory."""
        size = self.batch_size
        while True:
            try:
                return run(policy=cell.policy, batch_size=size, progress=self.progress, **self.options)
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not _out_of_memory(error):
                    raise
            size //= 2
            _LOG.warning("out of memory: %s on %s goes on with batches of %d", cell.name, cell.task.name, size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    """Whether an error is out of memory: a class for GPUs, only a message for the CPU's allocator."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _named(policies: Mapping[str, Policy | None] | Sequence[Policy | None]) -> list[tuple[str, Policy | None]]:
    if isinstance(policies, Mapping):
        return list(policies.items())
    return [("dense" if policy is None else policy.describe(), policy) for policy in policies]


def _check(
    model: PreTrainedModel, named: list[tuple[str, Policy | None]], tasks: Sequence[Task], seeds: Sequence[int]
) -> None:
    """Raise before the run for what would fail in the middle."""
    if strange := [given for given in tasks if not isinstance(given, Task)]:
        raise ValueError(
            f"expected a list of tasks as saturation.tasks.bundled or read gives them, got {strange[0]!r} in it; give "
            "such as [saturation.tasks.bundled('factoid')]"
        )
    if not len(seeds):
        raise ValueError("expected at least one seed for policies that draw, got none; leave seeds= out to take 0")
    for what, names in (("policies", [name for name, _ in named]), ("tasks", [given.name for given in tasks])):
        if not names:
            raise ValueError(f"expected at least one of the {what}, got none; name what to run")
        distinct(what, names)
    layers = len(find_blocks(model))
    for _, policy in named:
        if policy is not None:
            suited(running(model)[0], layers, policy)


def _folder(out: str | Path) -> Path:
    out = located(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"expected a folder for the cells of a sweep, but {out} is a file; name another place")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"expected a folder for the cells of a sweep, but {out} cannot be made: {error.strerror}; name another "
            "place"
        ) from error
    return out
