"""Comparison of a skipping run's rows with the dense run: drift and failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..policies import Policy
from ..tasks import Task
from .answers import by_length, prompt_ids, read_ids
from .collapse import outcome, runaway
from .conversations import asked, histories, uses_chat
from .drift_from_dense import divergences, drift, mean_and_max
from .likelihood import windows


def against(
    model: PreTrainedModel,
    tokenizer: Any,
    task: Task,
    rows: pd.DataFrame,
    dense: pd.DataFrame,
    *,
    policy: Policy | None,
    chat: bool | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Add columns that compare rows of `evaluate` with the dense run; the dense text is not generated again.

    Parameters
    ----------
    model, tokenizer, task
        As for `evaluate`.
    rows, dense
        Rows of `evaluate` for the policy and for the dense model; they may be the same.
    policy
        The policy that gave `rows`.
    chat, stride, batch_size, progress
        As for `evaluate`, and the same as there.

    Returns
    -------
    DataFrame
        `rows` with further columns. For generated text those of `drift` (`agreement`, `diverged`, `kl`, `kl_max`,
        `dense_nll`), over the tokens in `ids`, up to the end or the example's stop; and `runaway` (it reached the limit
        without an end, where the dense text ended within half of it), which counts as `collapsed` and in `outcome`. For
        a multiple choice `agreement`: 1 where the dense model makes the same choice, else 0. For plain text `kl` and
        `kl_max` over its tokens.

    Raises
    ------
    ValueError
        Where the two are not of the same examples.
    """
    dense = _aligned(rows, dense)
    if task.score == "choice":
        return rows.assign(agreement=(rows["answer"] == dense["answer"]).astype(float))
    options: dict[str, Any] = {"policy": policy, "batch_size": batch_size, "progress": progress}
    if task.score == "text":
        texts = {example.id: example.text for example in task}
        found = _read(model, tokenizer, [texts[name] for name in rows["example"]], stride, options)
        return rows.join(found.set_axis(rows.index))
    wrapped = uses_chat(tokenizer, task, chat)
    found = rows.join(_drifts(model, tokenizer, task, rows, dense, wrapped, options))
    found["runaway"] = runaway(found, dense)
    found["collapsed"] = found["collapsed"].astype(bool) | found["runaway"]
    return found.assign(outcome=outcome(found)) if "correct" in found else found


def _aligned(rows: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    """The dense rows in the order of the others."""
    ours, theirs = rows["example"], dense["example"]
    if sorted(ours) != sorted(theirs):
        raise ValueError(
            f"expected rows of the dense model on the same examples, got {len(theirs)} rows with "
            f"{len(set(ours) & set(theirs))} of {len(ours)} examples in common; evaluate both on one task"
        )
    return dense.set_index("example", drop=False).loc[ours].set_axis(rows.index)


def _drifts(
    model: Any, tokenizer: Any, task: Task, rows: pd.DataFrame, dense: pd.DataFrame, chat: bool, options: dict[str, Any]
) -> pd.DataFrame:
    """Drift of each row, in the order in which the rows were generated, so that a random policy draws the same."""
    ours, theirs = (_prompts(model, tokenizer, task, table, chat) for table in (rows, dense))
    turns = rows["turn"] if "turn" in rows else pd.Series(1, index=rows.index)
    new, old = read_ids(rows["ids"]), read_ids(dense["ids"])
    tables = []
    for turn in turns.unique():
        places = np.flatnonzero(turns == turn)
        order = places[by_length([ours[i] for i in places])]
        given = ([column[i] for i in order] for column in (theirs, old, new))
        table = drift(model, tokenizer, *given, sparse_prompts=[ours[i] for i in order], **options)
        tables.append(table.set_axis(rows.index[order]))
    return pd.concat(tables)


def _prompts(model: Any, tokenizer: Any, task: Task, rows: pd.DataFrame, chat: bool) -> list[list[int]]:
    """Token ids of the prompt of each row."""
    if task.score == "conversation":
        return [asked(tokenizer, example, replies, chat) for example, replies in histories(task, rows)]
    ids = prompt_ids(model, tokenizer, task, chat)
    given = {example.id: own for example, own in zip(task, ids, strict=True)}
    return [given[name] for name in rows["example"]]


def _read(model: Any, tokenizer: Any, texts: list[str], stride: int | None, options: dict[str, Any]) -> pd.DataFrame:
    """KL over the tokens of given texts, each in the window that scores it."""
    order = by_length(texts)
    given = windows(model, tokenizer, [texts[i] for i in order], stride=stride)
    found = divergences(model, [one.ids for one in given], [one.start for one in given], **options)
    kl: list[list[Tensor]] = [[] for _ in texts]
    for one, values in zip(given, found, strict=True):
        kl[one.text].append(values[one.first - max(one.start, 1) :])
    return pd.DataFrame(mean_and_max([torch.cat(parts) for parts in kl]), index=order).sort_index()
