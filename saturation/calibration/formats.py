"""Formats of calibration text: plain text, question, question with answer, several of these, or with reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..quality.conversations import messages, transcript
from ..tasks import Example, Task

FORMATS = {
    "text": "a text or a conversation as it stands",
    "zero-shot": "a question without its answer",
    "qa": "one question with its answer",
    "icl": "several questions with their answers",
    "cot": "questions with their reasoning and answers",
}
SEVERAL = ("icl", "cot")  # formats in which a text holds more than one question
BETWEEN = "\n\n"  # questions of one text


def possible(task: Task) -> tuple[str, ...]:
    """The formats that every example of a task can be written in."""
    found = set(FORMATS)
    for example in task:
        found &= _of(example, task.score)
    return tuple(name for name in FORMATS if name in found)


def usual(task: Task) -> tuple[str, int | None]:
    """The default format of a task, and the number of questions in a text.

    A prompt that asks for reasoning gets an answer with reasoning.
    """
    can = possible(task)
    if "text" in can:
        return "text", None
    if "cot" in can and all(example.after for example in task):
        return "cot", 1
    return ("qa" if "qa" in can else "zero-shot"), None


def _of(example: Example, score: str) -> set[str]:
    if score == "text":
        return {"text"}
    if score == "conversation":
        turns = 1 + len(example.turns)
        return {"zero-shot", *(["text"] if len(example.replies) == turns and all(example.replies) else [])}
    with_answer = {"qa", "icl"} if _answer(example) else set()
    return {"zero-shot", *with_answer, *(["cot"] if with_answer and example.reasoning else [])}


def _answer(example: Example) -> str:
    """The reference answer; "" for none."""
    if example.choices:
        return example.choices[example.correct]
    return next(iter(example.answers or example.references), "")


def written(example: Example, form: str) -> str:
    """Write one example in one of its possible formats; "icl" joins several questions with answers."""
    if form == "text":
        return example.text
    if form == "zero-shot":
        return example.prompt
    answer = _answer(example)
    if form == "cot":
        mark = f"\n{example.after} {answer}" if example.after else f" So the answer is {answer}."
        return f"{example.prompt} {example.reasoning}{mark}"
    if example.after:  # the prompt ends by asking for the reasoning; here the answer follows at once
        return f"{example.prompt.rpartition(chr(10))[0]}\n{example.after} {answer}"
    return f"{example.prompt} {answer}"


def conversation(tokenizer: Any, example: Example) -> list[int]:
    """Token ids of a conversation: in the tokenizer's chat template, or as lines of User: and Assistant:."""
    if getattr(tokenizer, "chat_template", None):
        told = messages(example, example.replies)
        return list(tokenizer.apply_chat_template(told, return_dict=True)["input_ids"])
    *past, last = example.replies
    return list(tokenizer(f"{transcript(example, past)} {last}").input_ids)


def joined(texts: Sequence[str]) -> str:
    """Several questions as one text."""
    return BETWEEN.join(texts)
