"""Cells of a sweep on disk: written whole, and checked when read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd
from pyarrow import ArrowException

from ..atomic import writing
from ..policies import Policy
from ..tasks import Task
from . import cell_keys

_LOG = logging.getLogger(__name__)


class Kept(Protocol):
    """A table stored on disk under a key, with a known number of rows."""

    @property
    def key(self) -> str:
        """Hash of everything that affects the rows."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...


class Cell(NamedTuple):
    """One run of a sweep: its name, task and policy, and the key of its rows."""

    name: str
    policy: Policy | None
    task: Task
    seed: int | None
    key: str

    @property
    def rows(self) -> int:
        """Number of rows: one per example, or per turn of a conversation."""
        return len(self.task) + sum(len(example.turns) for example in self.task)


def cells_of(
    policies: Mapping[str, Policy | None], tasks: Sequence[Task], seeds: Sequence[int], common: Sequence[str]
) -> Iterator[Cell]:
    """All cells, task by task, in the order of the policies."""
    for task in tasks:
        for name, policy in policies.items():
            for drawn, seed in _seeded(policy, seeds):
                yield Cell(name, drawn, task, seed, cell_keys.cell(task, drawn, *common))


def _seeded(policy: Policy | None, seeds: Sequence[int]) -> Iterator[tuple[Policy | None, int | None]]:
    """A policy with each seed, or unchanged where it draws nothing."""
    if policy is not None and "seed" in {option.name for option in fields(policy)}:
        yield from ((replace(policy, seed=seed), seed) for seed in seeds)  # type: ignore[call-arg]
    else:
        yield policy, None


def distinct(what: str, names: Sequence[str]) -> None:
    """Raise ValueError for duplicate names, whose rows could not be told apart."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"expected {what} with a name each, got {twice[0]!r} twice; rename one or leave it out")


def kept(path: Path, cell: Kept, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read the rows at a path; where they are missing, make and store them."""
    table = read(path, cell)
    return write(path, make().assign(key=cell.key)) if table is None else table


def write(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Write rows to disk, and return them as they will be read."""
    with writing(path, "a cell of the sweep") as part:
        table.to_parquet(part, index=False)
    return pd.read_parquet(path)


def read(path: Path, cell: Kept) -> pd.DataFrame | None:
    """Read the rows of a cell; None where there is no file, or (with a warning) a damaged or wrong one."""
    if not path.exists():
        return None
    try:
        table = pd.read_parquet(path)
        if len(table) == cell.rows and set(table["key"]) == {cell.key}:
            return table
        reason = f"it holds {len(table)} rows where {cell.rows} of this cell belong"
    except (ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
    _LOG.warning("%s is damaged and made again: %s", path, reason)
    return None
