"""Generated answers: prompts continued greedily, and the new text scored, one row per example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..generation import generate
from ..policies import Policy
from ..recording import Text, encode, end_ids
from ..tasks import Example, Task
from .collapse import outcome, shape
from .matching import MATCHING
from .skip_counts import counted


def written(
    model: Any, tokenizer: Any, task: Task, policy: Policy | None, chat: bool, size: int, progress: bool
) -> pd.DataFrame:
    """Continue the prompts of a task, and score the new text."""
    prompts = prompt_ids(model, tokenizer, task, chat)
    table = answers(model, tokenizer, prompts, task.examples, task, policy, size, progress)
    return table.assign(outcome=outcome(table)) if "correct" in table else table


def prompt_ids(model: Any, tokenizer: Any, task: Task, chat: bool) -> list[list[int]]:
    """Token ids of every prompt; ValueError where one leaves no room for an answer."""
    return encode(model, tokenizer, [one.prompt for one in task], chat=chat, room=task.max_new_tokens)[0]


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Text],
    examples: Sequence[Example],
    task: Task,
    policy: Policy | None,
    size: int,
    progress: bool,
) -> pd.DataFrame:
    """Generate and score an answer per prompt; rows keep the order of the prompts, batches are by length."""
    order = by_length(prompts)
    examples = [examples[i] for i in order]
    runs = generate(
        model,
        tokenizer,
        [prompts[i] for i in order],
        policy=policy,
        max_new_tokens=task.max_new_tokens,
        batch_size=size,
        record=False,
        progress=progress,
    )
    ends = end_ids(model)
    lengths = [_own(tokenizer, ids, ends, example) for ids, example in zip(runs.ids, examples, strict=True)]
    rows = [
        {"text": text, **MATCHING[task.score](text, example), **_measured(ids, own)}
        for text, ids, example, own in zip(runs.texts, runs.ids, examples, lengths, strict=True)
    ]
    new = np.array([len(ids) for ids in runs.ids])
    every = counted(runs.ledger, len(rows), until=new)
    own = counted(runs.ledger, len(rows), until=np.array(lengths))
    every = every.assign(answer_skipped=own["skipped"], answer_blocks=own["blocks"])
    return pd.concat([pd.DataFrame(rows), every], axis=1).set_axis(order).sort_index()


def by_length(prompts: Sequence[Text | tuple[Text, Text]]) -> np.ndarray:
    """Order of prompts or pairs by length, so that a batch has texts of similar length; deterministic."""
    sizes = [sum(map(len, prompt)) if isinstance(prompt, tuple) else len(prompt) for prompt in prompts]
    return np.argsort(sizes, kind="stable")


def read_ids(column: Sequence[str]) -> list[list[int]]:
    """Token ids of each row, from the column `ids`."""
    return [[int(number) for number in text.split()] for text in column]


def _measured(ids: list[int], own: int) -> dict[str, Any]:
    """Columns of a generated text: its tokens up to its end, its length, whether it ended, whether it loops.

    The pass that reads generated token n writes token n + 1. So decode steps n < m write an answer of m tokens, and
    prefill alone writes an answer of one token.
    """
    return {
        "ids": " ".join(map(str, ids[: own + 1])),
        "new_tokens": len(ids),
        "answer_tokens": own,
        "ended": own < len(ids),
        **shape(ids[:own]),
    }


def _own(tokenizer: Any, ids: list[int], ends: Any, example: Example) -> int:
    """Number of new tokens before the end token or the token that completes the example's stop."""
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
