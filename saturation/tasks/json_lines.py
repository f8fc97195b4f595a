"""Tasks from JSON lines: your own file with one example per line.

Every line is an object. `prompt` is what the model is given, `id` and `kind` name and group it. One of these says
how it is scored, the same in the whole file:

    answers       list of texts, any of which is right    exact match of the new text, normalised
    references    list of texts                           ROUGE and chrF of the new text
    choices       list of texts, with `answer`            the likeliest choice; `answer` is one of them, or its index
    turns         list of user turns, instead of prompt   a conversation; `replies` may list a reference for each turn
    text          a text                                  its likelihood; `prompt` may say how it begins

`stop` cuts the new text at its first occurrence; of what is left only what follows the last `after` is scored.
`reasoning` holds the steps that lead to the answer; calibration texts can be made with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..atomic import located
from .task import Example, Task
from .text_files import filled, text_of

_SCORED_BY = {
    "answers": "answer",
    "references": "summary",
    "choices": "choice",
    "turns": "conversation",
    "text": "text",
}  # field -> score; the first field that a line has decides


def read(
    path: str | Path, *, name: str | None = None, template: str | None = None, max_new_tokens: int | None = None
) -> Task:
    r"""Read a task from a file of JSON lines.

    Parameters
    ----------
    path
        The file, UTF-8.
    name
        Of the task; None is the file's name.
    template
        Makes the prompt out of any fields of a line, such as ``"Question: {question}\nAnswer:"``; None takes
        `prompt` as it stands.
    max_new_tokens
        Most new tokens of an answer; None is 64, and 256 for conversations.

    Returns
    -------
    Task

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a line that is no JSON object, or a field that is missing or of the wrong type: with file, line and
        field; for a file that is not UTF-8, and for a template that is none.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of JSON lines, but {path} is none; correct the path")
    scores: dict[str, int] = {}
    examples: list[Example] = []
    for where, line in _objects(path):
        fields = _Fields(where, line)
        score = fields.score()
        examples.append(_example(fields, score, template, default=f"{path.stem}-{len(examples):03d}"))
        scores.setdefault(score, len(examples))
    if len(scores) > 1:
        raise ValueError(
            f"expected {path} to be scored in one way, got {' and '.join(scores)}; split it into one file for each"
        )
    score = next(iter(scores), "answer")
    room = max_new_tokens or (256 if score == "conversation" else 64)
    return Task(name or path.stem, score, tuple(examples), room, source=str(path))


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line that is not blank, with its place for error messages."""
    for i, text in enumerate(text_of(path, "a file of JSON lines").split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path}, line {i}"
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: expected one JSON object per line, got {error}; correct the line") from None
        if not isinstance(line, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(line).__name__}; correct the line")
        yield where, line


class _Fields:
    """The fields of one line, each checked as it is read."""

    def __init__(self, where: str, line: dict[str, Any]) -> None:
        self.where, self.line = where, line

    def score(self) -> str:
        for field, score in _SCORED_BY.items():
            if field in self.line:
                return score
        raise self.wrong(f"one of the fields {', '.join(_SCORED_BY)}", f"only {', '.join(self.line) or 'none'}")

    def text(self, field: str, default: str | None = None) -> str:
        value = self.line.get(field, default)
        if not isinstance(value, str):
            raise self.wrong(f"field {field!r} to be a text", _what(field, self.line))
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.line.get(field)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.wrong(f"field {field!r} to be a list of texts, not empty", _what(field, self.line))
        return tuple(value)

    def right(self, choices: tuple[str, ...]) -> int:
        """The right choice, given as its text or its index."""
        answer = self.line.get("answer")
        if isinstance(answer, str) and answer in choices:
            return choices.index(answer)
        if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
            return answer
        raise self.wrong("field 'answer' to be one of the choices, or its index from 0", _what("answer", self.line))

    def wrong(self, expected: str, came: str) -> ValueError:
        return ValueError(f"{self.where}: expected {expected}, got {came}; correct the line")


def _what(field: str, line: dict[str, Any]) -> str:
    return repr(line[field]) if field in line else "none"


def _example(fields: _Fields, score: str, template: str | None, default: str) -> Example:
    common: dict[str, Any] = {name: fields.text(name, "") for name in ("kind", "stop", "after", "reasoning")}
    common["id"] = fields.text("id", default)
    return Example(**common, **_BY_SCORE[score](fields, template))


def _prompt(fields: _Fields, template: str | None) -> str:
    if template is None:
        return fields.text("prompt")
    try:
        return filled(template, fields.line)
    except KeyError as missing:
        raise fields.wrong(f"field {missing} for the template", "none") from None


def _conversation(fields: _Fields, template: str | None) -> dict[str, Any]:
    first, *later = turns = fields.texts("turns")
    replies = fields.texts("replies") if "replies" in fields.line else ()
    if replies and len(replies) != len(turns):
        raise fields.wrong(f"field 'replies' to have a text for each of {len(turns)} turns", f"{len(replies)}")
    return {"prompt": first, "turns": tuple(later), "replies": replies}


def _choice(fields: _Fields, template: str | None) -> dict[str, Any]:
    choices = fields.texts("choices")
    return {"prompt": _prompt(fields, template), "choices": choices, "correct": fields.right(choices)}


def _read_for_likelihood(fields: _Fields, template: str | None) -> dict[str, Any]:
    return {"text": fields.text("text"), "prompt": fields.text("prompt", "")}


_BY_SCORE: dict[str, Callable[[_Fields, str | None], dict[str, Any]]] = {
    "answer": lambda fields, template: {"prompt": _prompt(fields, template), "answers": fields.texts("answers")},
    "summary": lambda fields, template: {"prompt": _prompt(fields, template), "references": fields.texts("references")},
    "choice": _choice,
    "conversation": _conversation,
    "text": _read_for_likelihood,
}
