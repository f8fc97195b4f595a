"""The calibration files: texts of every kind from the calibration split, to fit thresholds and pruning scores on.

Each kind is a file of some 50,000 tokens in the form of the task files (schema in data/README.md), so that three
samples of 16,000 tokens can be drawn from it. No line shares its key with a text of the other splits; questions have
no split, so those whose answer data/tasks/factoid.jsonl asks for are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.world import tasks
from data.world.articles import article
from data.world.conversations import conversation
from data.world.corpus import document, split_of
from data.world.entailment import LABELS, entailment
from data.world.home import QUESTIONS, question, world
from data.world.problems import problem
from data.world.stories import story

SIZES = {
    "entries": 1100,
    "questions": 2000,
    "stories": 290,
    "problems": 1100,
    "articles": 350,
    "conversations": 950,
    "entailment": 1500,
}
Line = dict[str, object]


def entries(rng: np.random.Generator) -> Iterator[Line]:
    """Encyclopedia entries."""
    while True:
        text = document(rng, "calibration", "entry").text
        yield {"text": text, "kind": "entry"}


def questions(rng: np.random.Generator) -> Iterator[Line]:
    """Questions that were in training and that the factoid task does not ask, in all their forms."""
    asked = {(line["entity"], line["kind"]) for line in tasks.lines("factoid")}
    forms = [
        (entity, fact, form)
        for entity in world().asked
        for fact in entity.facts
        if (entity.name, fact) not in asked
        for form in range(len(QUESTIONS[fact]))
    ]
    for i in rng.permutation(len(forms)):
        entity, fact, form = forms[i]
        answers = list(entity.facts[fact])
        yield {"prompt": question(entity, fact, form), "answers": answers, "kind": fact, "stop": "\n"}


def stories(rng: np.random.Generator) -> Iterator[Line]:
    """Short stories."""
    while True:
        yield {"text": _drawn(rng, story, lambda told: told.key).text, "kind": "story"}


def problems(rng: np.random.Generator) -> Iterator[Line]:
    """Sums of one or two steps, with the reasoning."""
    while True:
        solved = _drawn(rng, problem, lambda told: told.solved)
        yield {
            "prompt": solved.prompt,
            "answers": [str(solved.answer)],
            "kind": "one step" if len(solved.steps) == 1 else "two steps",
            "reasoning": " ".join(solved.steps),
            "after": "Answer:",
            "stop": "\n\n",
        }


def articles(rng: np.random.Generator) -> Iterator[Line]:
    """News of three lengths with their summaries."""
    while True:
        news = _drawn(rng, article, lambda told: told.key)
        yield {"prompt": news.prompt, "references": [news.summary], "kind": news.length, "stop": "\n"}


def conversations(rng: np.random.Generator) -> Iterator[Line]:
    """Conversations of two turns with their replies."""
    while True:
        told = _drawn(rng, lambda rng: conversation(rng, world()), lambda told: told.text)
        yield {"turns": list(told.turns), "replies": list(told.replies), "kind": told.kind}


def entailments(rng: np.random.Generator) -> Iterator[Line]:
    """Premise and hypothesis, each with the label that training gives."""
    while True:
        label = LABELS[int(rng.integers(len(LABELS)))]
        pair = _drawn(rng, lambda rng, label=label: entailment(rng, label), lambda told: told.text)
        yield {"prompt": pair.prompt, "choices": list(LABELS), "answer": label, "kind": label}


def _drawn(rng: np.random.Generator, draw: Callable, key: Callable):
    """The next that belongs to the calibration split."""
    while split_of(key(told := draw(rng))) != "calibration":
        pass
    return told


KINDS = {
    "entries": entries,
    "questions": questions,
    "stories": stories,
    "problems": problems,
    "articles": articles,
    "conversations": conversations,
    "entailment": entailments,
}  # file -> its lines


def lines(kind: str) -> list[Line]:
    """The lines of a kind, no two alike, each with its id."""
    made: dict[str, Line] = {}
    drawn = KINDS[kind](np.random.default_rng([tasks.SEED, 7, *kind.encode()]))
    while len(made) < SIZES[kind]:
        line = next(drawn)
        made.setdefault(repr(line), line)
    return [{"id": f"{kind}-{number:04d}", **line} for number, line in enumerate(made.values())]


def write(out: str | Path) -> dict[Path, int]:
    """Write every kind as ``<out>/<kind>.jsonl``; the same world gives the same bytes. Returns lines per file."""
    return tasks.put(out, {kind: lines(kind) for kind in KINDS})
