"""Many runs, one table: policies x tasks x seeds, each cell kept on disk, so that a killed sweep goes on."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from . import quality
from .policies import Policy
from .tasks import Task, task
from .trace.files import writing

_LOG = logging.getLogger(__name__)


class Cell(NamedTuple):
    """One run of a sweep: what it is called, what it does, and the key under which its rows are kept."""

    name: str
    policy: Policy | None
    task: Task
    seed: int | None
    key: str


def sweep(
    model: PreTrainedModel,
    tokenizer: Any,
    policies: Mapping[str, Policy | None] | Sequence[Policy | None],
    tasks: Sequence[Task],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate policies on tasks, a file per cell; what is on disk already is not run again.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    policies
        By the name that tables and figures show, or as a sequence, named by `describe()`. None is the dense model.
    tasks
        As `tasks.bundled`, `tasks.read` or `tasks.published` gives them.
    out
        Folder for the cells. Each is keyed by a hash of the weights, the tokenizer, the examples, the policy and the
        code of the scores, so that results of another model or another version are never mixed in.
    seeds
        For policies that draw: each is run once with each of these seeds. Others are run once.
    batch_size
        Examples per batch; halved, with a warning, where memory runs out.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        The rows of `quality.evaluate` of every cell in order, and `seed` (empty where nothing is drawn), `seconds`
        (of the whole cell) and `key`.

    Raises
    ------
    ValueError
        For no policies, no tasks, or two of one name; and as for `quality.evaluate`.
    OSError
        Where `out` cannot be written; finished cells stay.
    """
    named = _named(policies)
    _check(named, tasks)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cells = list(_cells(named, tasks, seeds, common=[fingerprint(model), _tokens(tokenizer), _code()]))
    tables = []
    with tqdm(cells, desc="sweep", unit="cell", disable=None if progress else True) as bar:
        for cell in bar:
            bar.set_postfix_str(f"{cell.name} on {cell.task.name}")
            path = out / f"{cell.key}.parquet"
            if not path.exists():
                rows = _run(model, tokenizer, cell, batch_size, progress)
                with writing(path, "a cell of the sweep") as part:
                    rows.to_parquet(part, index=False)
            tables.append(pd.read_parquet(path).assign(policy=cell.name))
    return pd.concat(tables, ignore_index=True)


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of all weights and buffers of a model, their names and types, and its configuration.

    Every byte is read: a second or so per gigabyte.
    """
    found = hashlib.blake2b(model.config.to_json_string(use_diff=False).encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _named(policies: Mapping[str, Policy | None] | Sequence[Policy | None]) -> list[tuple[str, Policy | None]]:
    if isinstance(policies, Mapping):
        return list(policies.items())
    return [("dense" if policy is None else policy.describe(), policy) for policy in policies]


def _check(named: list[tuple[str, Policy | None]], tasks: Sequence[Task]) -> None:
    for what, names in (("policies", [name for name, _ in named]), ("tasks", [given.name for given in tasks])):
        if not names:
            raise ValueError(f"expected at least one of the {what}, got none; name what to run")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"expected {what} with a name each, got {twice[0]!r} twice; rename one or leave it out")


def _cells(
    named: list[tuple[str, Policy | None]], tasks: Sequence[Task], seeds: Sequence[int], common: list[str]
) -> Iterator[Cell]:
    for given in tasks:
        examples = json.dumps(asdict(replace(given, source="")), ensure_ascii=False)
        for name, policy in named:
            for drawn, seed in _seeded(policy, seeds):
                rule = "dense" if drawn is None else drawn.to_json()
                yield Cell(name, drawn, given, seed, _hash(*common, examples, rule))


def _seeded(policy: Policy | None, seeds: Sequence[int]) -> Iterator[tuple[Policy | None, int | None]]:
    """A policy with each seed, or as it is where it draws nothing."""
    if policy is not None and "seed" in {option.name for option in fields(policy)}:  # type: ignore[arg-type]
        yield from ((replace(policy, seed=seed), seed) for seed in seeds)  # type: ignore[type-var]
    else:
        yield policy, None


def _run(model: Any, tokenizer: Any, cell: Cell, batch_size: int, progress: bool) -> pd.DataFrame:
    began = time.perf_counter()
    while True:
        try:
            options: dict[str, Any] = {"policy": cell.policy, "batch_size": batch_size, "progress": progress}
            table = quality.evaluate(model, tokenizer, cell.task, **options)
            break
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            _LOG.warning("out of memory: %s on %s goes on with batches of %d", cell.name, cell.task.name, batch_size)
    seed = pd.array([cell.seed] * len(table), dtype="Int64")
    return table.assign(seed=seed, seconds=time.perf_counter() - began, key=cell.key)


def _tokens(tokenizer: Any) -> str:
    """What decides how a tokenizer reads and writes, wherever it was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        own = {"vocab": tokenizer.get_vocab(), "class": type(tokenizer).__name__}
    else:
        own = json.loads(backend.to_str())
        own = {part: own[part] for part in own if part not in ("padding", "truncation")}  # set anew by every call
    return _hash(json.dumps(own, sort_keys=True), str(tokenizer.chat_template))


def _code() -> str:
    """The source of the scores: rows of another version are not this version's."""
    rooms = (quality.evaluating, quality.likelihood, quality.matching, task)
    return _hash(*(inspect.getsource(room) for room in rooms))


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
