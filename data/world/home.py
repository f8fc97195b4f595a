"""The world itself: everybody and every town of a seed, and the factoid questions about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.world import people as persons
from data.world import towns as places
from data.world import words
from data.world.people import Person, pick
from data.world.towns import Town

SEED = 2404_03865  # the number of the FFN-SkipLLM paper, so that nobody wonders whether the seed was chosen
PEOPLE = 360
HELD_OUT = 1 / 6
QUESTIONS = persons.QUESTIONS | places.TOWN_QUESTIONS
Entity = Person | Town


@dataclass(frozen=True)
class World:
    """Everybody who lives in it, and where."""

    people: tuple[Person, ...]
    towns: tuple[Town, ...]

    @property
    def entities(self) -> tuple[Entity, ...]:
        """People, then towns."""
        return (*self.people, *self.towns)

    @property
    def asked(self) -> tuple[Entity, ...]:
        """The people and towns whose questions are in the training text."""
        return tuple(entity for entity in self.entities if not entity.held_out)

    @property
    def held_out(self) -> tuple[Entity, ...]:
        """The people and towns whose questions no training text contains."""
        return tuple(entity for entity in self.entities if entity.held_out)


@lru_cache(maxsize=4)
def world(seed: int = SEED, people: int = PEOPLE) -> World:
    """The world of a seed."""
    rng = np.random.default_rng(seed)
    own = persons.people(rng, people, round(people * HELD_OUT))
    return World(own, places.towns(rng, round(len(words.TOWNS) * HELD_OUT)))


def question(entity: Entity, fact: str, form: int) -> str:
    """The prompt of a factoid question: everything up to the answer."""
    return f"Question: {QUESTIONS[fact][form].format(n=entity.name)}\nAnswer:"


def answered(rng: np.random.Generator, entity: Entity) -> str:
    """A question about somebody or some town, with its answer."""
    fact = pick(rng, list(entity.facts))
    return f"{question(entity, fact, int(rng.integers(len(QUESTIONS[fact]))))} {entity.facts[fact][0]}"


def questions(rng: np.random.Generator, home: World) -> str:
    """One to six questions with answers, about people and towns whose questions may be read."""
    number = int(rng.choice([1, 2, 4, 6], p=[0.6, 0.2, 0.1, 0.1]))
    return "\n\n".join(answered(rng, pick(rng, home.asked)) for _ in range(number))
