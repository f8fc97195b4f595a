"""Evaluation by lm-evaluation-harness, with skip ratios."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from ..policies import Policy

if TYPE_CHECKING:
    from .adapter import SkippingLM


def lm(
    model: PreTrainedModel,
    tokenizer: Any,
    policy: Policy | None = None,
    *,
    batch_size: int | str = 8,
    progress: bool = True,
) -> SkippingLM:
    """Wrap a loaded model for `lm_eval.simple_evaluate`, dense or skipping.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them; neither is changed.
    policy
        Which blocks to skip; None is the dense model, whose numbers are those of lm-eval's own `HFLM`.
    batch_size
        Requests per batch; "auto", or "auto:4" for several searches, finds the largest that fits, as in the harness.
    progress
        Show bars where the harness answers requests.

    Returns
    -------
    SkippingLM
        The policy acts only while the harness's requests are answered; `ratios` gives the skip ratios.

    Raises
    ------
    ImportError
        Where the package lm-eval is not installed.
    ValueError
        For another batch size, and where the policy does not fit the model, at the first request.
    """
    installed()
    _check_batch_size(batch_size)
    from .adapter import SkippingLM

    return SkippingLM(model, tokenizer, policy, batch_size=batch_size, progress=progress)


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: str | Sequence[str],
    *,
    policy: Policy | None = None,
    include_path: str | Path | None = None,
    batch_size: int | str = 8,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Run tasks of lm-evaluation-harness on a model, dense or skipping.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    tasks
        Names of tasks, groups or tags of the harness.
    policy
        Which blocks to skip; None is the dense model.
    include_path
        Folder of your own task files (YAML). Where it holds all requested tasks, the harness's index is not read.
    batch_size
        As for `lm`.
    progress
        Show bars where the harness answers requests.
    options
        More for `lm_eval.simple_evaluate`, such as ``limit=100``, ``num_fewshot=5`` or ``apply_chat_template=True``.

    Returns
    -------
    DataFrame
        One row per task, filter and metric: `task`, `policy`, `metric`, `filter`, `n` (examples), the harness's
        `value` and its standard error `stderr` (NaN where it gives none), and the skip ratios `nominal`, `decode` (on
        what was scored) and `total`. A group has a row of its own.

    Raises
    ------
    ImportError
        Where the package lm-eval is not installed.
    ValueError
        For an unknown task, an option that this function sets, an invalid option, or a policy that does not fit the
        model.

    Notes
    -----
    Biderman et al., "Lessons from the Trenches on Reproducible Evaluation of Language Models", 2024. What counts as
    decode, so that policies which leave prefill alone act on it: a continuation from its first token, a text whose
    whole likelihood is asked from its start, new text as it is generated.
    """
    installed()
    import lm_eval

    _check_batch_size(batch_size)
    _check(options)
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    manager = _manager(names, include_path)
    asked = lm(model, tokenizer, policy, batch_size=batch_size, progress=progress)
    with _seeds_kept(), _explained(options):
        found: Any = lm_eval.simple_evaluate(asked, tasks=names, task_manager=manager, log_samples=False, **options)
    rows = [
        {"task": task, "policy": "dense" if policy is None else policy.describe()}
        | metric
        | asked.ratios(*_leaves(task, found))._asdict()
        for task, own in found["results"].items()
        for metric in _metrics(own, sum(found["n-samples"][leaf]["effective"] for leaf in _leaves(task, found)))
    ]
    return pd.DataFrame(rows)


def installed() -> None:
    """Raise ImportError where the package lm-eval is missing."""
    try:
        import lm_eval  # noqa: F401
    except ModuleNotFoundError as missing:
        if missing.name != "lm_eval":
            raise
        raise ImportError(
            "expected the package lm-eval (lm-evaluation-harness), but it is not installed; install it with "
            "'pip install lm-eval'"
        ) from missing


def _check_batch_size(given: Any) -> None:
    """Raise ValueError for a batch size that is neither a number of requests nor "auto"."""
    number = isinstance(given, int) and not isinstance(given, bool) and given >= 1
    if not number and not (isinstance(given, str) and re.fullmatch(r"auto(:[1-9]\d*)?", given)):
        raise ValueError(
            f"expected batch_size to be a whole number from 1, 'auto' or such as 'auto:4', got {given!r}; name one"
        )


def _check(options: dict[str, Any]) -> None:
    """Raise ValueError for harness options that this module sets, and for invalid ones."""
    for name, instead in _SET.items():
        if name in options:
            raise ValueError(
                f"expected options of lm_eval.simple_evaluate that are not set here, got {name}={options[name]!r}; "
                f"{instead}"
            )
    limit, shots = options.get("limit"), options.get("num_fewshot")
    if limit is not None and not limit > 0:
        raise ValueError(f"expected limit to be more than 0, got {limit!r}; leave it out for all examples")
    if shots is not None and not (isinstance(shots, int) and shots >= 0):
        raise ValueError(
            f"expected num_fewshot to be a whole number from 0, got {shots!r}; leave it out for the task's own"
        )


_SET = {
    "log_samples": "for samples call lm_eval.simple_evaluate with the model that saturation.harness.lm gives",
    "model": "it is the first argument",
    "tasks": "they are the third argument",
    "task_manager": "name a folder of tasks with include_path=",
}


@contextmanager
def _explained(options: dict[str, Any]) -> Iterator[None]:
    """Turn the harness's error for too many few-shot examples into a readable message."""
    try:
        yield
    except Exception as error:
        shots = options.get("num_fewshot") or 0
        if not shots or not (isinstance(error, TypeError) or "larger than population" in str(error)):
            raise
        raise ValueError(
            f"expected tasks with at least num_fewshot={shots} examples to put before a question, but lm-eval said: "
            f"{error}; ask for fewer"
        ) from error


def _manager(names: list[str], include_path: str | Path | None) -> Any:
    """The harness's index of tasks; only of the folder where that is enough, since the full index loads slowly."""
    from lm_eval.tasks import TaskManager

    if include_path is not None:
        if not Path(include_path).is_dir():
            raise ValueError(f"expected a folder of task files, but {include_path} is none; correct the path")
        own = TaskManager(include_path=str(include_path), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    everything = TaskManager(include_path=None if include_path is None else str(include_path))
    if unknown := [name for name in names if name not in everything.all_tasks]:
        raise ValueError(
            f"expected tasks that lm-evaluation-harness knows, got {unknown[0]!r}; 'lm_eval ls tasks' lists them, and "
            "include_path= adds a folder of your own"
        )
    return everything


def _leaves(task: str, found: Any) -> list[str]:
    """The tasks of a group, or the task itself."""
    parts = found["group_subtasks"].get(task)
    return [leaf for part in parts for leaf in _leaves(part, found)] if parts else [task]


def _metrics(own: dict[str, Any], n: int) -> Iterator[dict[str, Any]]:
    """A row per metric of one task; the harness names them "metric,filter" and "metric_stderr,filter"."""
    for name, value in own.items():
        metric, comma, kind = name.partition(",")
        if comma and not metric.endswith("_stderr"):
            error = pd.to_numeric(own.get(f"{metric}_stderr,{kind}"), errors="coerce")  # "N/A" where there is none
            stderr = float("nan") if error is None else float(error)
            yield {"metric": metric, "filter": kind, "n": n, "value": float(value), "stderr": stderr}


@contextmanager
def _seeds_kept() -> Iterator[None]:
    """Restore the states of the global random generators, which the harness seeds."""
    before, before_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)  # noqa: NPY002
