"""Tasks from a hub of data sets by name, or from any folder or file that `datasets` opens.

The ready sets below say which columns they need and how these become examples. They could not be run where they were
written, which had no hub to reach; their `status` says so, and the tests run the adapter on local files of their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from .published import PUBLISHED, Fields, plain
from .task import Example, Task

UNTESTED = "untested: could not be run offline"
Shape = Callable[[Iterator[Fields]], Iterator[Fields]]
LONG, SHORT = 900, 450  # words; an article below SHORT is short, from LONG on long. Ours: about thirds of CNN/DailyMail


@dataclass(frozen=True)
class HubSet:
    """How a data set of the hub becomes a task; `dataclasses.replace` it, or make your own.

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
        Last changes to the fields of all rows, such as the number out of a worked solution.
    stop
        Where the new text is cut.
    max_new_tokens
        Room for an answer.
    streaming
        Read row by row instead of downloading the whole set first.
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


def hub(
    source: str | HubSet,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: str | None = None,
    score: str | None = None,
    examples: int | None = None,
    max_new_tokens: int | None = None,
    streaming: bool | None = None,
    **options: Any,
) -> Task:
    """A task from the hub of data sets, or from whatever else `datasets` opens.

    Parameters
    ----------
    source
        One of `HUB`; or a `HubSet`; or the name of a data set, a folder or a format ("json" with ``data_files=``),
        for which `columns` and `score` must be given.
    split, config, columns, template, score, max_new_tokens, streaming
        In place of those of the `HubSet`.
    examples
        Take only the first so many; with streaming no more is read.
    **options
        For `datasets.load_dataset`, such as ``data_files=`` or ``revision=``.

    Returns
    -------
    Task

    Raises
    ------
    ImportError
        Where the package `datasets` is not installed.
    ValueError
        Where the data set, its split or a column is not there, with what is; for an empty split.
    """
    known = _known(source, columns, score)
    given = {
        "split": split,
        "config": config,
        "columns": columns,
        "template": template,
        "score": score,
        "max_new_tokens": max_new_tokens,
        "streaming": streaming,
    }
    chosen = replace(known, **{name: value for name, value in given.items() if value is not None})
    name = source if isinstance(source, str) else source.name
    rows = _rows(chosen, options)
    fields = chosen.shape(_fields(chosen, rows))
    found = tuple(_example(chosen, number, one) for number, one in enumerate(islice(fields, examples)))
    if not found:
        raise ValueError(
            f"expected examples in split {chosen.split!r} of {chosen.name}, got none; name another split, or check "
            "that examples= is at least 1"
        )
    return Task(name, chosen.score, found, chosen.max_new_tokens, source=_where(chosen))


def _known(source: str | HubSet, columns: Mapping[str, str] | None, score: str | None) -> HubSet:
    if isinstance(source, HubSet):
        return source
    if source in HUB:
        return HUB[source]
    if columns is None or score is None:
        raise ValueError(
            f"expected one of the ready sets {', '.join(HUB)}, or columns= and score= for another, got {source!r} "
            "without both; say which column holds what, and how answers are scored"
        )
    return HubSet(source, score, columns, template="{prompt}")


def _rows(chosen: HubSet, options: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ImportError("expected the package datasets, which opens the hub; pip install 'saturation[hub]'") from None
    try:
        return load_dataset(chosen.name, chosen.config, split=chosen.split, streaming=chosen.streaming, **options)
    except (OSError, ValueError, RuntimeError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"expected {_where(chosen)} to be a data set that can be reached, but opening it gave "
            f"{type(error).__name__}: {told}; correct the name, the config or the split, or give a local file"
        ) from error


def _where(chosen: HubSet) -> str:
    return f"{'/'.join(filter(None, (chosen.name, chosen.config)))} [{chosen.split}]"


def _fields(chosen: HubSet, rows: Iterable[dict[str, Any]]) -> Iterator[Fields]:
    for row in rows:
        yield {name: _column(chosen, row, path) for name, path in chosen.columns.items()}


def _column(chosen: HubSet, row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(value) if isinstance(value, Mapping) else f"a {type(value).__name__}"
            raise ValueError(
                f"expected a column {path!r} in {_where(chosen)}, but found no {part!r} among {there}; name the right "
                "one with columns="
            )
        value = value[part]
    return value


_TEXT = {"id", "kind", "text", "stop", "after"}
_TEXTS = {"answers", "references", "choices", "turns", "replies"}


def _example(chosen: HubSet, number: int, fields: Fields) -> Example:
    kept: dict[str, Any] = {"id": f"{number}", "stop": chosen.stop}
    for name, value in fields.items():
        if name in _TEXT:
            kept[name] = str(value)
        elif name in _TEXTS:
            kept[name] = (value,) if isinstance(value, str) else tuple(map(str, value))
        elif name == "correct":
            kept[name] = int(value)
    if chosen.score == "conversation" and "prompt" not in fields:
        first, *later = kept.get("turns", ("",))
        return Example(**{**kept, "prompt": first, "turns": tuple(later)})
    return Example(prompt=_prompt(chosen, fields), **kept)


def _prompt(chosen: HubSet, fields: Fields) -> str:
    if "prompt" not in fields and chosen.template == "{prompt}":
        return ""
    try:
        return chosen.template.format(**fields)
    except KeyError as missing:
        raise ValueError(
            f"expected field {missing} for the template of {chosen.name}, got {', '.join(fields)}; name its column "
            "with columns="
        ) from None


def _solutions(rows: Iterator[Fields]) -> Iterator[Fields]:
    """The number that a worked solution ends with."""
    for row in rows:
        yield {**row, "answers": plain(str(row["answers"]).rpartition("####")[2])}


def _by_length(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Articles in three bins of length."""
    for row in rows:
        words = len(row["article"].split())
        yield {**row, "kind": "short" if words < SHORT else "medium" if words < LONG else "long"}


def _labelled(rows: Iterator[Fields]) -> Iterator[Fields]:
    """The right choice by its label; a test split without labels holds nothing to score by."""
    for row in rows:
        if row["label"] not in row["labels"]:
            raise ValueError(
                f"expected a label among {', '.join(row['labels'])}, got {row['label']!r}; name a split with answers"
            )
        yield {**row, "correct": list(row["labels"]).index(row["label"])}


def _articles(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Lines joined again, and parted into articles as the published file is."""
    return PUBLISHED["wikitext-2"].read("".join(row["text"] for row in rows))


def _answer_names(rows: Iterator[Fields]) -> Iterator[Fields]:
    """All names of all answers of a question, whichever way the nested lists are stored."""
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
HUB = {
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
        shape=_by_length,
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
        shape=_solutions,
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
