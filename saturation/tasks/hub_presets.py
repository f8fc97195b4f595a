"""Hub presets: the columns and templates that turn data sets of the hub into tasks.

The presets were written without access to the hub and never run against it, as their `status` says. The tests run them
on local files of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .published import PUBLISHED, Fields, plain, without_sums

UNTESTED = "untested: could not be run offline"
Shape = Callable[[Iterator[Fields]], Iterator[Fields]]
LONG, SHORT = 900, 450  # words; an article below SHORT is short, from LONG on long. Ours: about thirds of CNN/DailyMail


@dataclass(frozen=True)
class HubSet:
    """A preset that turns a data set of the hub into a task; adapt it with `dataclasses.replace`, or make your own.

    Attributes
    ----------
    name, config, split
        As `datasets.load_dataset` takes them.
    score
        One of `SCORES`.
    columns
        Field -> column; dots reach into nested columns, as in "answer.aliases". Fields of `Example` go into the
        example, where a single text does for a list of one; any field can be named in the template.
    template
        The prompt, of those fields.
    shape
        Function applied to the fields of all rows, for example to extract the number from a worked solution.
    stop
        String at which the new text is cut.
    max_new_tokens
        Most new tokens of an answer.
    streaming
        Read only the requested rows instead of downloading the whole set first.
    status
        Whether it has been run against the hub.
    """

    name: str
    score: str
    columns: Mapping[str, str]
    template: str = ""
    config: str | None = None
    split: str = "test"
    shape: Shape = field(default=lambda rows: rows)
    stop: str = ""
    max_new_tokens: int = 64
    streaming: bool = False
    status: str = "made by its user"


def _solutions(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Split a worked solution into its final number and the steps before it."""
    for row in rows:
        steps, _, answer = str(row["answers"]).rpartition("####")
        yield {**row, "answers": plain(answer), "reasoning": without_sums(steps)}


def _sums(rows: Iterator[Fields]) -> Iterator[Fields]:
    """End the text of a problem with one full stop before its question."""
    for row in _solutions(rows):
        yield {**row, "body": f"{row['body'].rstrip('. ')}."}


def _articles_by_length(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Sort articles into three bins of length, without the highlights at the end of raw stories."""
    for row in rows:
        article = row["article"].partition("@highlight")[0].strip()
        words = len(article.split())
        kind = "short" if words < SHORT else "medium" if words < LONG else "long"
        yield {**row, "article": article, "kind": kind}


def _labelled(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Find the right choice by its label; ValueError for a test split without labels."""
    for row in rows:
        if row["label"] not in row["labels"]:
            raise ValueError(
                f"expected a label among {', '.join(row['labels'])}, got {row['label']!r}; name a split with answers"
            )
        yield {**row, "correct": list(row["labels"]).index(row["label"])}


def _articles(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Join the lines, and split them into articles as in the published file."""
    return PUBLISHED["wikitext-2"].read("".join(row["text"] for row in rows))


def _answer_names(rows: Iterator[Fields]) -> Iterator[Fields]:
    """All names of all answers of a question, in any form of nested lists."""
    for row in rows:
        yield {**row, "answers": tuple(dict.fromkeys(_texts(row["answers"])))}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.get("AnswersName", value.get("Answers", ())))
    else:
        for one in value:
            yield from _texts(one)


_QA = PUBLISHED["freebaseqa"].template
EVALUATED = {
    "triviaqa": HubSet(
        "mandarjoshi/trivia_qa",
        "answer",
        {"id": "question_id", "question": "question", "answers": "answer.aliases"},
        _QA,
        config="rc.nocontext",
        split="validation",
        stop="\n",
        max_new_tokens=32,
        status=UNTESTED,
    ),
    "freebaseqa": HubSet(
        "microsoft/freebase_qa",
        "answer",
        {"id": "Question-ID", "question": "RawQuestion", "answers": "Parses"},
        _QA,
        shape=_answer_names,
        stop="\n",
        max_new_tokens=32,
        status=UNTESTED,
    ),
    "cnn_dailymail": HubSet(
        "abisee/cnn_dailymail",
        "summary",
        {"id": "id", "article": "article", "references": "highlights"},
        "Article: {article}\nSummary:",
        config="3.0.0",
        shape=_articles_by_length,
        stop="\n\n",
        max_new_tokens=128,
        streaming=True,
        status=UNTESTED,
    ),
    "c4": HubSet(
        "allenai/c4", "text", {"text": "text"}, config="en", split="validation", streaming=True, status=UNTESTED
    ),
    "gsm8k": HubSet(
        "openai/gsm8k",
        "number",
        {"question": "question", "answers": "answer"},
        _QA,
        config="main",
        shape=_solutions,
        stop="\n\n",
        max_new_tokens=256,
        status=UNTESTED,
    ),
    "svamp": HubSet(
        "ChilleD/SVAMP",
        "number",
        {"id": "ID", "kind": "Type", "body": "Body", "question": "Question", "answers": "Answer"},
        "Question: {body} {question}\nAnswer:",
        shape=_sums,
        stop="\n\n",
        max_new_tokens=128,
        status=UNTESTED,
    ),
    "commonsense_qa": HubSet(
        "tau/commonsense_qa",
        "choice",
        {
            "id": "id",
            "question": "question",
            "choices": "choices.text",
            "labels": "choices.label",
            "label": "answerKey",
        },
        _QA,
        split="validation",
        shape=_labelled,
        status=UNTESTED,
    ),
    "wikitext-2": HubSet(
        "Salesforce/wikitext", "text", {"text": "text"}, config="wikitext-2-raw-v1", shape=_articles, status=UNTESTED
    ),
    "mt_bench": HubSet(
        "HuggingFaceH4/mt_bench_prompts",
        "conversation",
        {"id": "prompt_id", "kind": "category", "turns": "prompt", "replies": "reference"},
        split="train",
        max_new_tokens=256,
        status=UNTESTED,
    ),
}
