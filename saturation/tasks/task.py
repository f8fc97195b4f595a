"""Tasks and their examples, which are all scored in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

SCORES = {
    "answer": "exact match of the new text with one of the answers",
    "number": "the last number of the new text equals the answer",
    "choice": "the likeliest of the choices is the right one",
    "summary": "the new text is compared with reference texts",
    "conversation": "answers to several turns, held against reference replies, the dense run or a judge",
    "text": "likelihood of the text itself, teacher-forced",
}


@dataclass(frozen=True)
class Example:
    """One prompt and its references.

    Attributes
    ----------
    id
        Name of the example, unique in its task.
    kind
        Group for tables, such as a category or a length; "" for none.
    prompt
        Text given to the model; for a conversation the first user turn.
    answers
        Right answers, the canonical answer first, then aliases.
    references
        Texts to compare with.
    choices, correct
        The options of a multiple choice, and the index of the right one.
    turns
        User turns after the first.
    replies
        Reference replies, one per turn, the first turn's first; "" for none.
    text
        A text to be read for its likelihood.
    stop
        The new text is cut at the first occurrence; "" cuts nothing.
    after
        Only the cut text after its last occurrence is scored; "" scores all.
    reasoning
        Steps that lead to the answer, where the reference has them; they are never scored.
    """

    id: str
    kind: str = ""
    prompt: str = ""
    answers: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    correct: int = 0
    turns: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    text: str = ""
    stop: str = ""
    after: str = ""
    reasoning: str = ""

    def scored_part(self, new: str) -> str:
        """The part of newly generated text that is scored."""
        cut = new.split(self.stop)[0] if self.stop else new
        return (cut.rpartition(self.after)[2] if self.after else cut).strip()


@dataclass(frozen=True)
class Task:
    """Examples with one way to score them.

    Attributes
    ----------
    name
        Of the task, for tables.
    score
        One of `SCORES`.
    examples
        At least one.
    max_new_tokens
        Most new tokens of an answer.
    source
        File or data set that the examples come from.

    Raises
    ------
    ValueError
        For an unknown score, no examples, or two of one id.
    """

    name: str
    score: str
    examples: tuple[Example, ...]
    max_new_tokens: int = 64
    source: str = ""

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"expected a score among {', '.join(SCORES)}, got {self.score!r}; choose one")
        if not self.examples:
            raise ValueError(f"expected task {self.name!r} to have examples, got none; is its file or split empty?")
        seen: set[str] = set()
        for example in self.examples:
            if example.id in seen:
                raise ValueError(
                    f"expected examples of task {self.name!r} with an id each, got {example.id!r} twice; rename one"
                )
            seen.add(example.id)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def head(self, n: int) -> Task:
        """The first n examples, at least one."""
        if n < 1:
            raise ValueError(f"expected at least 1 example of task {self.name!r}, got {n}; ask for more")
        return replace(self, examples=self.examples[:n])


_NUMBER = re.compile(
    r"(?:(?<![\w)%])([-+\u2212])[$£€¥]?)?"  # a sign, also before the currency; behind a number it is a range or a minus
    r"(\d+(?:,\d+)*(?:\.\d+)?|\.\d+)"
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def number(text: str) -> Decimal | None:
    """The exact value of the last number in a text; None where there is none.

    Thousands separators, currency and percent signs are ignored: "1,000", "-$18" and "18.0 %" are numbers. A hyphen
    after a digit is no sign: "10-12" ends in 12. Other commas between digits ("12,5", "1,0000") are ambiguous and give
    None. Nothing is evaluated.
    """
    found = _NUMBER.findall(text)
    if not found:
        return None
    sign, digits = found[-1]
    if "," in digits and not _GROUPED.fullmatch(digits):
        return None
    return Decimal(sign.replace("\u2212", "-") + digits.replace(",", "")).normalize()
