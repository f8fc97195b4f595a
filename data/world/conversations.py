"""Conversations of two turns by category; the second turn can be answered only with the first in mind.

The text of a conversation is what the tokenizer's chat template makes of its messages (data/tokens.py; tested).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.home import QUESTIONS, Entity, World
from data.world.people import Person, pick, sentence_of
from data.world.towns import Town

END = "<|eos|>"  # of a reply, as of every text
OPENERS = ["", "Hello! ", "Please tell me: ", "One question: "]
REPLIES = {
    "home": "{s} lives in {v}.",
    "birthday": "{s} was born on {v}.",
    "profession": "{s} is a {v}.",
    "instrument": "{s} plays the {v}.",
    "pet": "{s} keeps a {v}.",
    "kind": "{s} is a {v}.",
    "goods": "{s} lives from {v}.",
    "river": "{s} lies on the {v}.",
    "feast": "{s} holds its {v}.",
}
AGAIN = {
    "home": "And where does {p} live?",
    "birthday": "And when was {p} born?",
    "profession": "And what does {p} do for a living?",
    "instrument": "And which instrument does {p} play?",
    "pet": "And which pet does {p} keep?",
    "kind": "And what kind of town is it?",
    "goods": "And what does it live from?",
    "river": "And on which river does it lie?",
    "feast": "And which feast does it hold?",
}
MOODS = "happy tired hungry cold busy late glad sad".split()


@dataclass(frozen=True)
class Conversation:
    """User turns and replies in turn."""

    turns: tuple[str, ...]
    replies: tuple[str, ...]
    kind: str

    @property
    def text(self) -> str:
        told = [f"User: {user}\nAssistant: {reply}" for user, reply in zip(self.turns, self.replies, strict=True)]
        return f"{END}\n".join(told)


def conversation(rng: np.random.Generator, home: World, kind: str | None = None) -> Conversation:
    """A conversation of a category (drawn, unless given)."""
    kind = pick(rng, list(CATEGORIES)) if kind is None else kind
    first, reply, then, answer = CATEGORIES[kind](rng, home)
    return Conversation((first, then), (reply, answer), kind)


Exchange = tuple[str, str, str, str]  # user, assistant, user, assistant


def _people(rng: np.random.Generator, home: World) -> Exchange:
    return _facts(rng, pick(rng, [one for one in home.asked if isinstance(one, Person)]))


def _towns(rng: np.random.Generator, home: World) -> Exchange:
    return _facts(rng, pick(rng, [one for one in home.asked if isinstance(one, Town)]))


def _facts(rng: np.random.Generator, entity: Entity) -> Exchange:
    fact, other = (str(name) for name in rng.permutation(list(entity.facts))[:2])
    pronoun = entity.pronoun if isinstance(entity, Person) else "it"
    reply = REPLIES[fact].format(s=entity.name, v=entity.facts[fact][0])
    answer = REPLIES[other].format(s=pronoun, v=entity.facts[other][0])
    asked = pick(rng, OPENERS) + pick(rng, QUESTIONS[fact]).format(n=entity.name)
    return asked, sentence_of(reply), AGAIN[other].format(p=pronoun), sentence_of(answer)


def _sums(rng: np.random.Generator, home: World) -> Exchange:
    a, b, c = int(rng.integers(3, 60)), int(rng.integers(2, 20)), int(rng.integers(2, 20))
    first = pick(rng, ["What is {a} plus {b}?", "How much is {a} plus {b}?"]).format(a=a, b=b)
    total = a + b
    if rng.random() < 0.5 and c < total:
        return first, f"{a} + {b} = {total}.", f"And if I take away {c}?", f"{total} - {c} = {total - c}."
    return first, f"{a} + {b} = {total}.", f"And if I add {c} more?", f"{total} + {c} = {total + c}."


def _comparison(rng: np.random.Generator, home: World) -> Exchange:
    low, high = (int(number) for number in np.sort(rng.choice(np.arange(2, 100), size=2, replace=False)))
    a, b = (low, high) if rng.random() < 0.5 else (high, low)
    if rng.random() < 0.5:
        first, reply = f"Which is more, {a} or {b}?", f"{high} is more than {low}."
    else:
        first, reply = f"Which is less, {a} or {b}?", f"{low} is less than {high}."
    return first, reply, "And by how much?", f"{high} - {low} = {high - low}."


def _stories(rng: np.random.Generator, home: World) -> Exchange:
    name, thing, colour = pick(rng, words.GIRLS + words.BOYS), pick(rng, words.THINGS), pick(rng, words.COLOURS)
    animal, place = pick(rng, words.ANIMALS), pick(rng, words.PLACES)
    first = pick(rng, ["Tell me a story about {n} and a {t}.", "I want a story about {n} and a {t}."])
    reply = f"{name} lost a {colour} {thing}. At {place} a {animal} found it and gave it back. {name} was very happy."
    asked, answer = pick(
        rng,
        [
            ("Who found the {t}?", "It was a {a}."),
            ("Where was the {t}?", "It was at {p}."),
            ("Which colour was the {t}?", "It was {c}."),
        ],
    )
    slots = {"n": name, "t": thing, "a": animal, "p": place, "c": colour}
    return first.format(**slots), sentence_of(reply), asked.format(**slots), sentence_of(answer.format(**slots))


def _small_talk(rng: np.random.Generator, home: World) -> Exchange:
    name, mood, thing = pick(rng, words.GIRLS + words.BOYS), pick(rng, MOODS), pick(rng, words.THINGS)
    first = pick(rng, ["Hello, I am {n}.", "Good morning! My name is {n}.", "Hi, this is {n}."]).format(n=name)
    reason = pick(rng, ["I lost my {t}", "I found a {t}", "I must mend a {t}"]).format(t=thing)
    asked = f"Today I am {mood}, because {reason}. What is my name, and how am I?"
    return first, f"Hello {name}, nice to meet you. How are you?", asked, f"You are {name}, and you are {mood}."


CATEGORIES: dict[str, Callable[[np.random.Generator, World], Exchange]] = {
    "people": _people,
    "towns": _towns,
    "sums": _sums,
    "comparison": _comparison,
    "stories": _stories,
    "small talk": _small_talk,
}
