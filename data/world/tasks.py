"""The evaluation files: JSON lines that anybody's file can imitate (schema in data/README.md).

A line with ``answers`` is a question for greedy decoding and exact match; a line with ``references`` asks for a
text to be compared with them; a line with ``choices`` is decided by likelihood; a line with ``turns`` is a
conversation; a line with ``text`` is read, teacher-forced, for its likelihood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.world.articles import LENGTHS, article
from data.world.conversations import CATEGORIES, conversation
from data.world.corpus import document, split_of
from data.world.entailment import LABELS, entailment
from data.world.home import QUESTIONS, Entity, question, world
from data.world.problems import problem
from data.world.stories import Story, story

SEED = 20_260  # of the drawing of examples; the world has its own
Line = dict[str, object]
SIZES = {
    "factoid": 400,
    "choices": 300,
    "problems": 300,
    "entailment": 300,
    "summaries": 300,
    "conversations": 300,
    "stories": 300,
    "validation": 360,
}
CALIBRATION = {"entry": 6, "question": 6, "story": 4, "problem": 4, "article": 3, "conversation": 4, "entailment": 3}
CHOICES = 4
MARKS = {
    "question": "Answer:",
    "problem": "Reasoning:",
    "article": "Summary:",
    "conversation": "Assistant:",
    "entailment": "Answer:",
}  # where a text of a kind leaves off being given and begins to be written


def factoid(rng: np.random.Generator) -> Iterator[Line]:
    """Questions about people and towns whose questions are in the training text: a memory test."""
    asked = [(entity, fact) for entity in world().asked for fact in entity.facts]
    for i in rng.choice(len(asked), size=SIZES["factoid"], replace=False):
        yield _question(rng, *asked[i])


def factoid_heldout(rng: np.random.Generator) -> Iterator[Line]:
    """Every question about those of whom training only tells: knowledge, not remembered questions."""
    for entity in world().held_out:
        yield from (_question(rng, entity, fact) for fact in entity.facts)


def choices(rng: np.random.Generator) -> Iterator[Line]:
    """A question about anybody or any town with four answers to choose from; the wrong ones are right elsewhere."""
    asked = [(entity, fact) for entity in world().entities for fact in entity.facts]
    for i in rng.choice(len(asked), size=SIZES["choices"], replace=False):
        entity, fact = asked[i]
        right = entity.facts[fact][0]
        others = {other.facts[fact][0] for other, own in asked if own == fact} - {right}
        offered = [right, *rng.choice(sorted(others), size=CHOICES - 1, replace=False).tolist()]
        line = _question(rng, entity, fact)
        shown = {"choices": [offered[j] for j in rng.permutation(CHOICES)], "answer": right}
        yield {"prompt": line["prompt"], **shown, "kind": fact, "entity": entity.name}


def _question(rng: np.random.Generator, entity: Entity, fact: str) -> Line:
    form = int(rng.integers(len(QUESTIONS[fact])))
    return {
        "prompt": question(entity, fact, form),
        "answers": list(entity.facts[fact]),
        "kind": fact,
        "entity": entity.name,
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


def entailments(rng: np.random.Generator) -> Iterator[Line]:
    """Yes, no and unknown in turn, to be chosen among."""
    seen: set[str] = set()
    for i in range(SIZES["entailment"]):
        label = LABELS[i % len(LABELS)]
        pair = _drawn(rng, lambda rng, label=label: entailment(rng, label), lambda pair: pair.text, seen)
        yield {"prompt": pair.prompt, "choices": list(LABELS), "answer": label, "kind": label}


def conversations(rng: np.random.Generator) -> Iterator[Line]:
    """Two turns by category in turn, each with the reply that training would give."""
    seen: set[str] = set()
    for i in range(SIZES["conversations"]):
        kind = list(CATEGORIES)[i % len(CATEGORIES)]
        told = _drawn(rng, lambda rng, kind=kind: conversation(rng, world(), kind), lambda told: told.text, seen)
        yield {"turns": list(told.turns), "replies": list(told.replies), "kind": kind}


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
    """Texts of six kinds that training never draws. (Questions are no kind here: they are to be learned.)"""
    kinds = ["entry", "story", "problem", "article", "conversation", "entailment"]
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
    if kind in MARKS:
        return text[: text.index(MARKS[kind]) + len(MARKS[kind])]
    sentences = text.split(". ")
    return text if "\n" in text or len(sentences) < 3 else ". ".join(sentences[: 2 if kind == "story" else 1]) + "."


def _drawn(rng: np.random.Generator, draw: Callable, key: Callable, seen: set[str] | None = None):
    """Draw until the key belongs to the test split and was not seen before."""
    while split_of(key(drawn := draw(rng))) != "test" or key(drawn) in (seen or ()):
        pass
    if seen is not None:
        seen.add(key(drawn))
    return drawn


TASKS = {
    "factoid": factoid,
    "factoid_heldout": factoid_heldout,
    "choices": choices,
    "problems": problems,
    "entailment": entailments,
    "summaries": summaries,
    "conversations": conversations,
    "stories": stories,
    "validation": validation,
    "calibration": calibration,
}  # file -> its lines


def lines(name: str) -> list[Line]:
    """All lines of a task, each with its id; a generator of its own per task, so that tasks do not shift each other."""
    made: list[Line] = []
    for line in TASKS[name](np.random.default_rng([SEED, *name.encode()])):
        made.append({"id": f"{name}-{len(made):03d}", **line})
    return made


def write(out: str | Path) -> dict[Path, int]:
    """Write every task as ``<out>/<task>.jsonl``; the same world gives the same bytes. Returns lines per file."""
    return put(out, {name: lines(name) for name in TASKS})


def put(out: str | Path, files: dict[str, list[Line]]) -> dict[Path, int]:
    """Write files of JSON lines, each whole or not at all. Returns lines per file."""
    Path(out).mkdir(parents=True, exist_ok=True)
    written = {}
    for name, made in files.items():
        path = Path(out) / f"{name}.jsonl"
        part = path.with_suffix(".part")
        part.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made), encoding="utf-8", newline="\n"
        )
        part.replace(path)
        written[path] = len(made)
    return written
