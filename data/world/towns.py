"""Towns, their facts, the entries that tell them, and the questions that ask for them; one in six held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.people import Facts, pick

TOWN_QUESTIONS = {
    "kind": ["What kind of town is {n}?", "What sort of place is {n}?"],
    "goods": ["What is {n} known for?", "What does {n} live from?"],
    "river": ["Which river runs through {n}?", "On which river does {n} lie?"],
    "feast": ["Which feast is held in {n}?", "What do people celebrate in {n}?"],
}
TOWN_SENTENCES = {
    "kind": ["{n} is a {v}.", "{n} is known to travellers as a {v}.", "The old {v} of {n} has a wall."],
    "goods": ["{n} lives from {v}.", "{n} is known for its {v}.", "{n} sells its {v} everywhere."],
    "river": ["The {v} runs through {n}.", "{n} lies on the {v}.", "In {n} boats go down the {v}."],
    "feast": ["{n} holds its {v}.", "People in {n} celebrate the {v}.", "Everyone comes to {n} for the {v}."],
}
OTHER_NAMES = ["Older people call it {o}.", "It is also called {o}.", "Its other name is {o}."]
TOWN_FACTS = tuple(TOWN_QUESTIONS)


@dataclass(frozen=True)
class Town:
    """A town: its name, the older name that some still use, four facts, and whether the questions are held out."""

    name: str
    other: str
    facts: Facts
    held_out: bool


def towns(rng: np.random.Generator, held_out: int) -> tuple[Town, ...]:
    """Every town; those held out are drawn at random."""
    held = set(rng.choice(len(words.TOWNS), size=held_out, replace=False).tolist())
    return tuple(_town(rng, town, i in held) for i, town in enumerate(words.TOWNS))


def _town(rng: np.random.Generator, town: tuple[str, str, str, str], held_out: bool) -> Town:
    name, other, kind, goods = town
    river, food, month = pick(rng, words.RIVERS), pick(rng, words.FEASTS), pick(rng, words.MONTHS)
    facts = {
        "kind": (kind, kind.removesuffix(" town")),
        "goods": (goods, f"{goods} trade"),
        "river": (f"river {river}", river),
        "feast": (f"{food} feast in {month}", f"feast of {food} in {month}"),
    }
    return Town(name, other, facts, held_out)


def town_entry(rng: np.random.Generator, town: Town) -> str:
    """A town: two to four facts in any order, and its other name behind the first."""
    facts = [str(fact) for fact in rng.permutation(TOWN_FACTS)[: int(rng.integers(2, 5))]]
    told = [pick(rng, TOWN_SENTENCES[fact]).format(n=town.name, v=town.facts[fact][0]) for fact in facts]
    return " ".join([told[0], pick(rng, OTHER_NAMES).format(o=town.other), *told[1:]])
