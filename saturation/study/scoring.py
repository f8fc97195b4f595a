"""Scoring in a study: the loss of reference answers, and the share of right generated answers."""

from __future__ import annotations

from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from ..calibration.formats import conversation, possible, written
from ..policies import Policy
from ..quality import evaluate, losses_by_length
from ..recording import Text
from ..tasks import Example, Task

JUDGED = ("answer", "number", "choice")  # scores of tasks whose answers are right or wrong


def scored(
    model: PreTrainedModel, tokenizer: Any, task: Task, *, policy: Policy | None, accuracy: bool, batch_size: int
) -> pd.DataFrame:
    """Score a model on a task, one row per example.

    Parameters
    ----------
    model, tokenizer, task, policy, batch_size
        As for `quality.evaluate`.
    accuracy
        Whether answers are generated and scored too, which takes most of the time.

    Returns
    -------
    DataFrame
        `task`, `example`, `kind`; `nll` (nats, summed) and `tokens` of the reference answer after the prompt, with its
        reasoning where the task has some, or of the text or the conversation itself; `correct`, 1 or 0, NaN where
        answers are not right or wrong.
    """
    texts = [reference(tokenizer, example, task) for example in task]
    found = losses_by_length(model, tokenizer, texts, policy=policy, batch_size=batch_size, progress=False)
    correct: Any = float("nan")
    if accuracy and task.score in JUDGED:
        told = evaluate(model, tokenizer, task, policy=policy, batch_size=batch_size, progress=False)
        correct = told["correct"].astype(float)
    return pd.DataFrame(
        {
            "task": task.name,
            "example": [example.id for example in task],
            "kind": [example.kind for example in task],
            "nll": found["nll"],
            "tokens": found["tokens"],
            "correct": correct,
        }
    )


def reference(tokenizer: Any, example: Example, task: Task) -> Text | tuple[Text, Text]:
    """The text to score: prompt and answer, of which only the answer counts, or a plain text."""
    if task.score == "text":
        return example.text
    if task.score == "conversation":
        return conversation(tokenizer, example)
    form = "cot" if example.after and example.reasoning else "qa"
    whole = written(example, form)
    return example.prompt, whole.removeprefix(example.prompt)


def check(task: Task) -> None:
    """Raise ValueError for a task without texts or reference answers."""
    can = possible(task)
    if not {"text", "qa"} & set(can):
        raise ValueError(
            f"expected tasks with texts or reference answers, but {task.name!r} can only be asked ({', '.join(can)}); "
            "leave it out"
        )
