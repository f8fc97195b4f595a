"""The token budget: fills a budget of real tokens with texts of a task."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..tasks import Example, Task
from .formats import SEVERAL, conversation, joined, written

_PATIENCE = 64  # consecutive examples that do not fit into the rest of the budget before filling stops
_SLACK = 0.05  # share of the budget that may stay empty with whole examples


class Text(NamedTuple):
    """One text: its token ids and the examples in it."""

    ids: list[int]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """A budget of tokens, and how to fill it."""

    tokens: int
    seed: int
    limit: int  # most tokens of a text
    whole: bool
    slack: float = _SLACK

    @property
    def told(self) -> dict[str, Any]:
        """The fields that a sample stores."""
        return {"seed": self.seed, "budget": self.tokens, "length": self.limit, "whole": self.whole}


class Texts:
    """Draws texts of a task in random order, each at most as long as the limit."""

    def __init__(self, tokenizer: Any, task: Task, form: str, shots: int | None, budget: Budget) -> None:
        self.tokenizer, self.task, self.form, self.shots = tokenizer, task, form, shots
        self.limit, self.whole = budget.limit, budget.whole
        self.rng = np.random.default_rng(budget.seed)
        self.all, self.long = 0, 0  # tokens that the source has, and examples too long for a text

    def drawn(self, room: int) -> Generator[Text, int]:
        """Yield the next texts; send the number of tokens left."""
        left = [self.task.examples[i] for i in self.rng.permutation(len(self.task))]
        while left:
            text = self._several(left, room) if self.form in SEVERAL else self._one(left.pop(0))
            if text is None:
                continue
            self.all += len(text.ids)
            room = (yield text) or room

    def _one(self, example: Example) -> Text | None:
        if self.task.score == "conversation" and self.form == "text":
            ids = conversation(self.tokenizer, example)
        else:
            ids = list(self.tokenizer(written(example, self.form)).input_ids)
        if len(ids) > self.limit:
            self.long += 1
            if self.whole:
                return None
            begin = int(self.rng.integers(len(ids) - self.limit + 1))
            ids = ids[begin : begin + self.limit]
        return Text(ids, (example.id,))

    def _several(self, left: list[Example], room: int) -> Text | None:
        """Join questions in one text: `shots` of them, or as many as fit into the text and the rest of the budget."""
        most = self.limit if self.shots else min(self.limit, room)
        told: list[str] = []
        names: list[str] = []
        ids: list[int] = []
        while left and len(told) < (self.shots or len(self.task)):
            longer = [*told, written(left[0], self.form)]
            now = list(self.tokenizer(joined(longer)).input_ids)
            if len(now) > most:
                break
            told, ids = longer, now
            names.append(left.pop(0).id)
        if not told or (self.shots and len(told) < self.shots):
            if left:  # an example too long for any text, or for this one
                left.pop(0)
                self.long += 1
            return None
        return Text(ids, tuple(names))


def fill(texts: Texts, budget: Budget, name: str) -> list[Text]:
    """Draw texts until the budget is full."""
    chosen: list[Text] = []
    room, misses = budget.tokens, 0
    drawn = texts.drawn(room)
    text = next(drawn, None)
    while text is not None and room > 0:
        if len(text.ids) <= room:
            chosen.append(text)
            room, misses = room - len(text.ids), 0
        elif not texts.whole:
            chosen.append(Text(text.ids[:room], text.examples))
            room = 0
        else:
            if chosen and len(chosen[-1].ids) < len(text.ids) <= room + len(chosen[-1].ids):
                room += len(chosen[-1].ids) - len(text.ids)  # replaces the last text, since it fills the budget better
                chosen[-1] = text
            if (misses := misses + 1) == _PATIENCE:
                break
        try:
            text = drawn.send(max(room, 1))
        except StopIteration:
            text = None
    given = budget.tokens - room
    if given < (1 - budget.slack) * budget.tokens:
        raise ValueError(_short(texts, budget.tokens, given, name, ended=text is None))
    return chosen


def _short(texts: Texts, tokens: int, given: int, name: str, *, ended: bool) -> str:
    """Error message for a budget that is not full."""
    if not ended:
        return (
            f"expected whole examples that fill {tokens} tokens, but those of {name!r} are so long that only {given} "
            "are filled; ask for more tokens, or give whole=False"
        )
    long = f" ({texts.long} more do not fit into a text of {texts.limit} tokens)" if texts.long else ""
    ways = ", another source, a greater length= or whole=False" if texts.long else " or another source"
    return (
        f"expected a source of {tokens} tokens, but {name!r} as {texts.form!r} has {texts.all} in "
        f"{len(texts.task) - texts.long} examples{long}; ask for fewer{ways}"
    )
