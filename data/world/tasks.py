"""The evaluation files: JSON lines that anybody's file can imitate (schema in data/README.md).

A line with ``answers`` is a question for greedy decoding and exact match; a line with ``references`` asks for a
text to be compared with them; a line with ``text`` is read, teacher-forced, for its likelihood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.world.articles import LENGTHS, article
from data.world.corpus import document, split_of
from data.world.people import FACTS, QUESTIONS, Person, question, world
from data.world.problems import problem
from data.world.stories import Story, story

SEED = 20_260  # of the drawing of examples; the world has its own
Line = dict[str, object]
SIZES = {"factoid": 300, "problems": 240, "stories": 200, "validation": 320, "summaries": 240}
CALIBRATION = {"entry": 6, "question": 6, "story": 6, "problem": 3, "article": 3}  # lines per kind


def factoid(rng: np.random.Generator) -> Iterator[Line]:
    """Questions about people whose questions are in the training text: a memory test."""
    asked = [(person, fact) for person in world().asked for fact in FACTS]
    for i in rng.choice(len(asked), size=SIZES["factoid"], replace=False):
        yield _question(rng, *asked[i])


def factoid_heldout(rng: np.random.Generator) -> Iterator[Line]:
    """Every question about the people whom training only tells of: knowledge, not remembered questions."""
    for person in world().held_out:
        yield from (_question(rng, person, fact) for fact in FACTS)


def _question(rng: np.random.Generator, person: Person, fact: str) -> Line:
    form = int(rng.integers(len(QUESTIONS[fact])))
    return {
        "prompt": question(person, fact, form),
        "answers": person.answers(fact),
        "kind": fact,
        "entity": person.name,
        "stop": "\n",
    }


def problems(rng: np.random.Generator) -> Iterator[Line]:
    """One- and two-step problems in turn; the answer is what follows ``Answer:``, after the reasoning."""
    for i in range(SIZES["problems"]):
        solved = _drawn(rng, lambda rng, steps=1 + i % 2: problem(rng, steps), lambda problem: problem.solved)
        yield {
            "prompt": solved.prompt,
            "answers": [str(solved.answer)],
            "kind": "one step" if i % 2 == 0 else "two steps",
            "reasoning": " ".join(solved.steps),
            "after": "Answer:",
            "stop": "\n\n",
        }


def summaries(rng: np.random.Generator) -> Iterator[Line]:
    """Articles of three lengths in turn, each with its reference summary."""
    for i in range(SIZES["summaries"]):
        length = list(LENGTHS)[i % len(LENGTHS)]
        news = _drawn(rng, lambda rng, length=length: article(rng, length), lambda news: news.key)
        yield {"prompt": news.prompt, "references": [news.summary], "kind": news.length, "stop": "\n"}


def stories(rng: np.random.Generator) -> Iterator[Line]:
    """Stories to be read for perplexity, each with its first two sentences as a prompt to go on from."""
    for _ in range(SIZES["stories"]):
        told: Story = _drawn(rng, story, lambda story: story.key)
        yield {"text": told.text, "prompt": told.prompt, "kind": "story"}


def validation(rng: np.random.Generator) -> Iterator[Line]:
    """Texts of four kinds that training never draws. (Questions are no kind here: they are to be learned.)"""
    kinds = ["entry", "story", "problem", "article"]
    for i in range(SIZES["validation"]):
        told = document(rng, "validation", kinds[i % len(kinds)])
        yield {"text": told.text, "kind": told.kind}


def calibration(rng: np.random.Generator) -> Iterator[Line]:
    """A handful of texts of every kind for thresholds and pruning scores, with a prompt to decode from."""
    for kind, number in CALIBRATION.items():
        for _ in range(number):
            text = document(rng, "calibration", kind).text
            yield {"text": text, "prompt": _opening(kind, text), "kind": kind}


def _opening(kind: str, text: str) -> str:
    """The part of a text that a model is given: up to the answer, or the first sentence or two."""
    for mark in {"question": ["Answer:"], "problem": ["Reasoning:"], "article": ["Summary:"]}.get(kind, []):
        return text[: text.index(mark) + len(mark)]
    sentences = text.split(". ")
    return text if "\n" in text or len(sentences) < 3 else ". ".join(sentences[: 2 if kind == "story" else 1]) + "."


def _drawn(rng: np.random.Generator, draw: Callable, key: Callable, split: str = "test"):
    """Draw until the key belongs to the split."""
    while split_of(key(drawn := draw(rng))) != split:
        pass
    return drawn


TASKS = (factoid, factoid_heldout, problems, summaries, stories, validation, calibration)


def lines(task: Callable[[np.random.Generator], Iterator[Line]]) -> list[Line]:
    """All lines of a task, each with its id; a generator of its own per task, so that tasks do not shift each other."""
    rng = np.random.default_rng([SEED, *task.__name__.encode()])
    return [{"id": f"{task.__name__}-{i:03d}", **line} for i, line in enumerate(task(rng))]


def write(out: str | Path) -> dict[Path, int]:
    """Write every task as ``<out>/<task>.jsonl``; the same world gives the same bytes. Returns lines per file."""
    Path(out).mkdir(parents=True, exist_ok=True)
    written = {}
    for task in TASKS:
        path, made = Path(out) / f"{task.__name__}.jsonl", lines(task)
        part = path.with_suffix(".part")
        part.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made), encoding="utf-8", newline="\n"
        )
        part.replace(path)
        written[path] = len(made)
    return written
