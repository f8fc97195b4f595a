"""Documents of every kind, drawn for one split.

A document has a *key*: what it is about, not how it is worded. A hash of the key decides its split, once and for
all seeds, so that no story, problem, article or telling that is evaluated can ever be drawn for training.
Questions are the exception, on purpose: the facts of the world and the questions about five people and towns in six
*are* to be learned; what is held out there is the questions about the sixth (see ``people``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.world.articles import article
from data.world.conversations import conversation
from data.world.entailment import entailment
from data.world.home import World, questions, world
from data.world.people import entry, pick
from data.world.problems import problem
from data.world.stories import story
from data.world.towns import town_entry

SPLITS = ("train", "calibration", "validation", "test")
SHARES = {
    "entry": 0.43,
    "question": 0.24,
    "story": 0.04,
    "problem": 0.11,
    "article": 0.05,
    "conversation": 0.08,
    "entailment": 0.05,
}  # of the documents
KINDS = tuple(SHARES)
TOWN_SHARE = 0.08  # of the entries
PARTS = 20  # of which the last three are calibration, validation and test: 5 % each


@dataclass(frozen=True)
class Document:
    """A text of one kind, and the key that decides its split."""

    kind: str
    text: str
    key: str


def split_of(key: str) -> str:
    """The split to which a key belongs: a hash, so it holds for every seed and every order of drawing."""
    part = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % PARTS
    return SPLITS[max(0, part - (PARTS - len(SPLITS)))]


def document(
    rng: np.random.Generator, split: str = "train", kind: str | None = None, home: World | None = None
) -> Document:
    """The next document of a split, of one kind or of kinds mixed by ``SHARES``."""
    kind = KINDS[int(rng.choice(len(KINDS), p=[SHARES[kind] for kind in KINDS]))] if kind is None else kind
    if kind == "question":
        text = questions(rng, home or world())
        return Document(kind, text, text)
    while True:
        drawn = _draw(rng, kind, home or world())
        if split_of(drawn.key) == split:
            return drawn


def _draw(rng: np.random.Generator, kind: str, home: World) -> Document:
    if kind == "story":
        told = story(rng)
        return Document(kind, told.text, told.key)
    if kind == "article":
        news = article(rng)
        return Document(kind, news.text, news.key)
    text = _TEXTS[kind](rng, home)
    return Document(kind, text, text)


def _entry(rng: np.random.Generator, home: World) -> str:
    if rng.random() < TOWN_SHARE:
        return town_entry(rng, pick(rng, home.towns))
    return entry(rng, pick(rng, home.people))


_TEXTS: dict[str, Callable[[np.random.Generator, World], str]] = {
    "entry": _entry,
    "problem": lambda rng, home: problem(rng).solved,
    "conversation": lambda rng, home: conversation(rng, home).text,
    "entailment": lambda rng, home: entailment(rng).text,
}
