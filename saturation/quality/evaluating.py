"""One model, one task, one policy: a row per example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from ..generation import Runs, generate
from ..policies import Policy
from ..recording import end_ids
from ..tasks import Example, Task
from .likelihood import losses
from .matching import MATCHING, repetition

LOOPS = 0.5  # share of repeated 4-grams from which a text counts as collapsed
ENOUGH = 8  # new tokens below which no text counts as collapsed


def evaluate(
    model: PreTrainedModel,
    tokenizer: Any,
    task: Task,
    *,
    policy: Policy | None = None,
    chat: bool = False,
    batch_size: int = 16,
    progress: bool = True,
) -> pd.DataFrame:
    """Score a model, dense or skipping, on a task.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    task
        As `tasks.bundled`, `tasks.read` or `tasks.published` gives it.
    policy
        Which blocks to skip; None is the dense model.
    chat
        True wraps each prompt as a user's turn in the tokenizer's chat template.
    batch_size
        Examples per batch; they are batched by length, and the order of the rows is the task's.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    DataFrame
        One row per example: `task`, `example`, `kind`, `policy`; the scores; and what was skipped, as counts of
        FFN blocks: `skipped` of `blocks` over all decode tokens of the example, `answer_skipped` of `answer_blocks`
        over those that wrote the scored answer.

        Scores of generated text (greedy, the new text only): `text`, `answer`, `new_tokens`, `correct` or `rouge_1`,
        `rouge_2`, `rouge_L` and `chrf`, `repetition` (share of repeated 4-grams), `ended` (by itself or at the
        example's stop) and `collapsed` (it loops: a failure of another kind than a wrong answer).
        Of a multiple choice: `correct` and `correct_norm` (by summed log-likelihood, and per character).
        Of plain text: `nll` (sum, nats) and `tokens`.

    Raises
    ------
    ValueError
        For a task of conversations, which needs a judge, and as for `generate`.
    """
    if task.score in MATCHING:
        table = _written(model, tokenizer, task, policy, chat, batch_size, progress)
    elif task.score == "choice":
        table = _chosen(model, tokenizer, task, policy, batch_size, progress)
    elif task.score == "text":
        table = _read(model, tokenizer, task, policy, batch_size, progress)
    else:
        raise ValueError(
            f"expected a task with a reference to score against, got {task.name!r}, whose answers only a judge can "
            "score; give a task of answers, references, choices or texts"
        )
    what = pd.DataFrame(
        {
            "task": task.name,
            "example": [example.id for example in task],
            "kind": [example.kind for example in task],
            "policy": "dense" if policy is None else policy.describe(),
        }
    )
    return pd.concat([what, table], axis=1)


def _read(model: Any, tokenizer: Any, task: Task, policy: Policy | None, size: int, progress: bool) -> pd.DataFrame:
    texts = [example.text for example in task]
    order = np.argsort([len(text) for text in texts], kind="stable")
    table = losses(
        model, tokenizer, [texts[i] for i in order], policy=policy, batch_size=size, progress=progress
    ).set_axis(order)
    table = table.sort_index().drop(columns="text")
    return table.assign(answer_skipped=table["skipped"], answer_blocks=table["blocks"])


def _chosen(model: Any, tokenizer: Any, task: Task, policy: Policy | None, size: int, progress: bool) -> pd.DataFrame:
    """Each choice read behind the prompt; the likeliest is taken, by its sum and per character."""
    pairs = [(example.prompt, f" {choice}") for example in task for choice in example.choices]
    scored = losses(model, tokenizer, pairs, policy=policy, batch_size=size, progress=progress)
    scored["example"] = np.repeat(np.arange(len(task)), [len(example.choices) for example in task])
    scored["per_character"] = scored["nll"] / [len(choice) for _, choice in pairs]
    rows = []
    for example, (_, own) in zip(task, scored.groupby("example"), strict=True):
        rows.append(
            {
                "answer": example.choices[int(own["nll"].argmin())],
                "correct": int(own["nll"].argmin()) == example.correct,
                "correct_norm": int(own["per_character"].argmin()) == example.correct,
                "skipped": int(own["skipped"].sum()),
                "blocks": int(own["blocks"].sum()),
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(answer_skipped=table["skipped"], answer_blocks=table["blocks"])


def _written(
    model: Any, tokenizer: Any, task: Task, policy: Policy | None, chat: bool, size: int, progress: bool
) -> pd.DataFrame:
    """The prompts continued greedily, and the new text scored."""
    order = np.argsort([len(example.prompt) for example in task], kind="stable")
    examples = [task.examples[i] for i in order]
    runs = generate(
        model,
        tokenizer,
        [example.prompt for example in examples],
        policy=policy,
        max_new_tokens=task.max_new_tokens,
        chat=chat,
        batch_size=size,
        record=False,
        progress=progress,
    )
    ends = end_ids(model)
    lengths = [_own(tokenizer, ids, ends, example) for ids, example in zip(runs.ids, examples, strict=True)]
    rows = [
        {"text": text, **MATCHING[task.score](text, example), **_shape(ids, own)}
        for text, ids, example, own in zip(runs.texts, runs.ids, examples, lengths, strict=True)
    ]
    table = pd.concat([pd.DataFrame(rows), _counts(runs, model, np.array(lengths))], axis=1)
    return table.set_axis(order).sort_index()


def _shape(ids: list[int], own: int) -> dict[str, Any]:
    """How a text went: how long it is, how it ended, whether it loops."""
    repeated = repetition(ids[:own])
    return {
        "new_tokens": len(ids),
        "ended": own < len(ids),
        "repetition": repeated,
        "collapsed": own >= ENOUGH and repeated > LOOPS,
    }


def _own(tokenizer: Any, ids: list[int], ends: Any, example: Example) -> int:
    """New tokens up to the end token or the example's stop, the token that holds it left out."""
    length = len(ids) - (bool(ids) and ids[-1] in ends)
    if not example.stop:
        return length
    low, high = 0, length  # the text of the first `low` tokens has no stop in it
    while low < high:
        middle = (low + high + 1) // 2
        if example.stop in tokenizer.decode(ids[:middle], skip_special_tokens=True):
            high = middle - 1
        else:
            low = middle
    return low


def _counts(runs: Runs, model: Any, lengths: np.ndarray) -> pd.DataFrame:
    """Skipped blocks and all blocks, over the decode steps of each prompt and over those of its scored answer.

    The first new token comes from prefill; the pass that consumes generated token n writes token n + 1. So an
    answer of m tokens is written by the decode steps n < m, and an answer of one token by none.
    """
    names = ("skipped", "blocks", "answer_skipped", "answer_blocks")
    if runs.ledger is None:
        return pd.DataFrame(0, index=range(len(lengths)), columns=names)
    tokens, skipped = runs.ledger.tokens, runs.ledger.skipped  # skipped is [token, layer]
    sequence, n = tokens["sequence"].to_numpy(), tokens["generated"].to_numpy()
    written = np.array([len(ids) for ids in runs.ids])
    counts = []
    for until in (written, lengths):
        chosen = (n > 0) & (n < until[sequence])
        per = np.bincount(sequence[chosen], weights=skipped[chosen].sum(axis=1), minlength=len(lengths))
        counts += [per.astype(int), np.bincount(sequence[chosen], minlength=len(lengths)) * skipped.shape[1]]
    return pd.DataFrame(dict(zip(names, counts, strict=True)))
