"""Evaluation of one model and policy on one task, one row per example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from ..policies import Policy
from ..tasks import Example, Task
from .answers import written
from .conversations import at_turn, conversed, histories, transcript, uses_chat
from .dense_comparison import against
from .judge_endpoint import judged
from .likelihood import losses, losses_by_length
from .skip_counts import COUNTS

JUDGED = ("conversation", "summary")  # scores of tasks that a judge rates; the others have exact answers


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    task: Task,
    *,
    policy: Policy | None = None,
    dense: pd.DataFrame | None = None,
    judge: Callable[[Example, str], float | None] | None = None,
    chat: bool | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Score a model, dense or skipping, on a task.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    task
        As `tasks.bundled`, `tasks.read`, `tasks.published` or `tasks.hub` gives it.
    policy
        Which blocks to skip; None is the dense model.
    dense
        Rows of this function for the dense model on the same task; then `against` adds its columns.
    judge
        Rates answers of conversations and summaries; a `Judge`, or any function of example and answer.
    chat
        True wraps each prompt as a user's turn in the tokenizer's chat template, False takes it as it stands. None
        wraps conversations where the tokenizer has a template and leaves other prompts alone, since those are
        written to be continued, as base models are asked.
    stride
        Of a sliding window over plain texts longer than the model's context, as for `losses`.
    batch_size
        Examples per batch; they are batched by length, and the order of the rows is the task's.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per example: `task`, `example`, `kind`, `policy`; the scores; and what was skipped, as counts of
        FFN blocks: over all decode tokens of the example `skipped` of `blocks`, and of the `skippable` (layers that
        the policy may skip x tokens past its warm-up); over all tokens `all_skipped` of `all_blocks`;
        `answer_skipped` of `answer_blocks` over those tokens that wrote the scored answer; and the bytes of the blocks
        that decode tokens left unread, `unread_bytes` of `ffn_bytes`.

        Scores of generated text (greedy, the new text only): `text`, `answer`, `new_tokens`, `answer_tokens` (up to
        the end token or the example's stop), `ids` (those and the token that ended them), `correct` or `rouge_1`,
        `rouge_2`, `rouge_L` and `chrf`, `repetition` (share of repeated 4-grams), `distinct_1` and `distinct_2`
        (share of different tokens and pairs), `ended` (by itself or at the example's stop), `collapsed` (it loops;
        with `dense` also a runaway) and, where answers are right or wrong, `outcome`: "right", or "collapsed", or
        "wrong".
        Of conversations the same, a row per turn: `conversation` and `turn` name it, and `example` joins both;
        `rouge_1` and so on where there is a reference reply.
        Of a multiple choice: `correct` and `correct_norm` (by summed log-likelihood, and per character of the choice;
        lm-eval's `acc` and `acc_norm`).
        Of plain text: `nll` (sum, nats) and `tokens`.
        With a judge: `judge` and `judge_error` (why there is no rating, or "").

    Raises
    ------
    ValueError
        As for `generate` and `against`.

    Notes
    -----
    Conversations are decoded turn by turn, greedily, with the run's own earlier answers before each turn. Without a
    chat template they are written as lines of ``User:`` and ``Assistant:``, and an answer is cut where the model
    begins the user's next line.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}; 1 takes one example at a time")
    wrapped = uses_chat(tokenizer, task, chat)
    if task.score == "conversation":
        table = conversed(model, tokenizer, task, policy, wrapped, batch_size, progress)
    elif task.score == "choice":
        table = _chosen(model, tokenizer, task, policy, batch_size, progress)
    elif task.score == "text":
        table = _read(model, tokenizer, task, policy, stride, batch_size, progress)
    else:
        table = written(model, tokenizer, task, policy, wrapped, batch_size, progress)
    table = _named(task, policy, table)
    if dense is not None:
        how: dict[str, Any] = {"chat": chat, "stride": stride, "batch_size": batch_size, "progress": progress}
        table = against(model, tokenizer, task, table, dense, policy=policy, **how)
    return table if judge is None else rated(task, table, judge)


def rated(task: Task, rows: pd.DataFrame, judge: Callable[[Example, str], float | None]) -> pd.DataFrame:
    """Add a judge's ratings to rows of conversations and summaries; other rows do not change.

    Existing ratings stay, so only failures are rated again.
    """
    if task.score not in JUDGED:
        return rows
    if task.score == "conversation":
        told = [(at_turn(one, len(replies), True), transcript(one, replies)) for one, replies in histories(task, rows)]
        examples = [replace(example, prompt=prompt) for example, prompt in told]
    else:
        given = {example.id: example for example in task}
        examples = [given[name] for name in rows["example"]]
    rows = rows.copy() if "judge" in rows else rows.assign(judge=float("nan"), judge_error="")
    open_ = rows["judge"].isna().to_numpy()
    asked = [example for example, ask in zip(examples, open_, strict=True) if ask]
    rows.loc[open_, ["judge", "judge_error"]] = judged(judge, asked, rows.loc[open_, "answer"].tolist()).to_numpy()
    return rows.astype({"judge": float})


def _named(task: Task, policy: Policy | None, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that name task and policy, before the others."""
    rows = table.get("conversation", pd.Series([example.id for example in task]))
    kinds = {example.id: example.kind for example in task}
    turns = "/" + table["turn"].astype(str) if "turn" in table else ""
    what = {"task": task.name, "example": rows + turns, "kind": rows.map(kinds)}
    policy_name = "dense" if policy is None else policy.describe()
    return pd.concat([pd.DataFrame(what).assign(policy=policy_name), table], axis=1)


def _read(
    model: Any, tokenizer: Any, task: Task, policy: Policy | None, stride: int | None, size: int, progress: bool
) -> pd.DataFrame:
    texts = [example.text for example in task]
    how: dict[str, Any] = {"policy": policy, "stride": stride, "batch_size": size, "progress": progress}
    table = losses_by_length(model, tokenizer, texts, **how)
    return table.assign(answer_skipped=table["skipped"], answer_blocks=table["blocks"])


def _chosen(model: Any, tokenizer: Any, task: Task, policy: Policy | None, size: int, progress: bool) -> pd.DataFrame:
    """Score multiple choices by the log-likelihood of each choice after the prompt, as a sum and per character."""
    pairs = [(example.prompt, f" {choice}") for example in task for choice in example.choices]
    scored = losses(model, tokenizer, pairs, policy=policy, batch_size=size, progress=progress)
    scored["example"] = np.repeat(np.arange(len(task)), [len(example.choices) for example in task])
    scored["per_character"] = scored["nll"] / [len(choice) for example in task for choice in example.choices]
    rows = []
    for example, (_, own) in zip(task, scored.groupby("example"), strict=True):
        rows.append(
            {
                "answer": example.choices[int(own["nll"].argmin())],
                "correct": int(own["nll"].argmin()) == example.correct,
                "correct_norm": int(own["per_character"].argmin()) == example.correct,
                **{name: int(own[name].sum()) for name in COUNTS},
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(answer_skipped=table["skipped"], answer_blocks=table["blocks"])
