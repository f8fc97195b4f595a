"""Published data sets, read from the files that their authors distribute.

Each reader turns a file into examples; the prompt template stands beside it and can be replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .task import Example, Task, number
from .text_files import filled, text_of

Fields = dict[str, Any]  # the fields that a template may use, with those of `Example`


def _freebaseqa(text: str) -> Iterator[Fields]:
    """The JSON of the release (Jiang et al., NAACL 2019), or the `question | answer` lines of 2017."""
    if text.lstrip().startswith("{"):
        for entry in json.loads(text)["Questions"]:
            answers = [name for parse in entry["Parses"] for one in parse["Answers"] for name in one["AnswersName"]]
            yield {
                "id": entry["Question-ID"],
                "question": entry["RawQuestion"],
                "answers": tuple(dict.fromkeys(answers)),
            }
        return
    for i, line in enumerate(text.splitlines()):
        question, bar, answer = line.rpartition(" | ")
        if bar:
            yield {"id": f"{i}", "question": question.strip(), "answers": (answer.strip(),)}


def _gsm8k(text: str) -> Iterator[Fields]:
    for i, entry in enumerate(_json_lines(text)):
        steps, _, answer = entry["answer"].rpartition("####")
        yield {
            "id": f"{i}",
            "question": entry["question"],
            "answers": (plain(answer),),
            "reasoning": without_sums(steps),
        }


def _svamp(text: str) -> Iterator[Fields]:
    for entry in json.loads(text):
        question = f"{entry['Body'].rstrip('. ')}. {entry['Question']}"
        answer = plain(str(entry["Answer"]))
        yield {"id": entry["ID"], "kind": entry["Type"], "question": question, "answers": (answer,)}


def _commonsense_qa(text: str) -> Iterator[Fields]:
    """JSON lines with `choices` as texts, or as the release has them, with labels (Talmor et al., NAACL 2019)."""
    for entry in _json_lines(text):
        if isinstance(entry["question"], dict):
            options = entry["question"]["choices"]
            question, choices = entry["question"]["stem"], tuple(option["text"] for option in options)
            correct = [option["label"] for option in options].index(entry["answerKey"])
        else:
            question, choices = entry["question"], tuple(entry["choices"])
            correct = choices.index(entry["answer"])
        yield {"id": entry["id"], "question": question, "choices": choices, "correct": correct}


def _mt_bench(text: str) -> Iterator[Fields]:
    for entry in _json_lines(text):
        first, *later = entry["turns"]
        common = {"id": str(entry["question_id"]), "kind": entry["category"]}
        yield {**common, "question": first, "turns": tuple(later), "replies": tuple(entry.get("reference", ()))}


def _wikitext(text: str) -> Iterator[Fields]:
    """The articles of the raw or the tokenised file: each begins with a heading of one equals sign."""
    article: list[str] = []
    articles = 0
    for line in [*text.splitlines(keepends=True), "\n", " = end = \n"]:
        if _heading(line) and not (article and article[-1].strip()):  # in running text it is a formula
            if body := "".join(article).strip():
                yield {"id": f"{articles}", "text": body}
                articles += 1
            article = []
        article.append(line)


def _heading(line: str) -> bool:
    words = line.split()
    return len(words) > 2 and words[0] == words[-1] == "=" and words[1] != "="


def plain(text: str) -> str:
    """The number in a reference, without exponent."""
    value = number(text)
    if value is None:
        raise ValueError(f"no number in {text!r}")
    return f"{value:f}"


def without_sums(steps: str) -> str:
    """The steps of a worked solution of GSM8K without the calculator's notes, such as <<2+3=5>>."""
    return re.sub(r"<<[^<>]*>>", "", steps).strip()


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a file: one per line, or one list of them."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())


@dataclass(frozen=True)
class Format:
    """A format of published files, and how it becomes a task.

    Attributes
    ----------
    read
        Text of the file -> fields of each example.
    score
        One of `SCORES`.
    template
        The prompt, of the fields that `read` gives.
    stop
        Where the new text is cut.
    max_new_tokens
        Room for an answer.
    """

    read: Callable[[str], Iterator[Fields]]
    score: str
    template: str = "{question}"
    stop: str = ""
    max_new_tokens: int = 64


_QA = "Question: {question}\nAnswer:"
PUBLISHED = {
    "freebaseqa": Format(_freebaseqa, "answer", _QA, stop="\n", max_new_tokens=32),
    "gsm8k": Format(_gsm8k, "number", _QA, stop="\n\n", max_new_tokens=256),
    "svamp": Format(_svamp, "number", _QA, stop="\n\n", max_new_tokens=128),
    "commonsense_qa": Format(_commonsense_qa, "choice", _QA),
    "mt_bench": Format(_mt_bench, "conversation", max_new_tokens=256),
    "vicuna": Format(_mt_bench, "conversation", max_new_tokens=256),
    "wikitext-2": Format(_wikitext, "text", ""),
}


def published(name: str, path: str | Path, *, template: str | None = None) -> Task:
    """Read a published set from a file as its authors distribute it.

    Parameters
    ----------
    name
        One of `PUBLISHED`.
    path
        The file.
    template
        Another prompt than ``PUBLISHED[name].template``, of the same fields.

    Returns
    -------
    Task

    Raises
    ------
    ValueError
        For an unknown name, a file that is not of that set or not UTF-8, or a template with other fields.
    OSError
        For a file that cannot be read.
    """
    if name not in PUBLISHED:
        raise ValueError(f"expected a published set among {', '.join(PUBLISHED)}, got {name!r}; choose one")
    form = PUBLISHED[name]
    text = text_of(path, f"the file of {name}")
    try:
        found = list(form.read(text))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected {path} to be the file of {name} as it is distributed, but reading it gave "
            f"{type(error).__name__}: {error}; give the right file, or make JSON lines of it for saturation.tasks.read"
        ) from error
    try:
        examples = tuple(_example(fields, template or form.template, form.stop) for fields in found)
    except KeyError as missing:
        raise ValueError(
            f"expected field {missing} for the template of {name}, got {', '.join(found[0])}; correct the template"
        ) from None
    return Task(name, form.score, examples, form.max_new_tokens, source=str(path))


def _example(fields: Fields, template: str, stop: str) -> Example:
    given = {name: value for name, value in fields.items() if name != "question"}
    return Example(prompt=filled(template, fields), stop=stop, **given)
