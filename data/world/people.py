"""Persons, their facts, the encyclopedia entries that tell them, and the questions that ask for them.

One person in six is *held out*: entries tell that person's facts in every paraphrase, no training text asks
for them. Right answers there show knowledge, since no question and answer about that person was ever read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.world import words

SEED = 2404_03865  # the number of the FFN-SkipLLM paper, so that nobody wonders whether the seed was chosen
PEOPLE = 300
HELD_OUT = 1 / 6

# Each fact: the questions that ask for it, the sentences that tell it. {s} is a name or pronoun, {v} the answer.
QUESTIONS = {
    "birthplace": ["Where was {n} born?", "In which town was {n} born?", "What is the birthplace of {n}?"],
    "profession": ["What is the profession of {n}?", "What does {n} do for a living?", "What is the trade of {n}?"],
    "instrument": ["Which instrument does {n} play?", "What instrument does {n} play?", "What does {n} play?"],
    "pet": ["Which pet does {n} keep?", "What animal does {n} keep?", "What pet does {n} have?"],
}
SENTENCES = {
    "birthplace": [
        "{s} was born in {v}.",
        "{s} comes from {v}.",
        "{s} is a native of {v}.",
        "{s} grew up in {v}, where {p} was born.",
        "The birthplace of {s} is {v}.",
        "{s} first saw the light of day in {v}.",
    ],
    "profession": [
        "{s} works as a {v}.",
        "{s} is a {v} by trade.",
        "{s} earns a living as a {v}.",
        "{s} became a {v} at the age of {age}.",
        "The profession of {s} is {v}.",
        "As a {v}, {s} {does}.",
    ],
    "instrument": [
        "{s} plays the {v}.",
        "{s} learned to play the {v} as a child.",
        "In the evening {s} plays the {v}.",
        "The instrument of {s} is the {v}.",
        "{s} is fond of music and plays the {v}.",
        "On feast days {s} can be heard on the {v}.",
    ],
    "pet": [
        "{s} keeps a {v}.",
        "{s} has a {v} at home.",
        "{s} shares the house with a {v}.",
        "The pet of {s} is a {v}.",
        "{s} is never seen without a {v}.",
        "{s} looks after a {v} named {petname}.",
    ],
}
FACTS = tuple(QUESTIONS)
PET_NAMES = "Pip Moss Dot Bramble Toffee Nib Soot Clover".split()
ALIAS_RATE = 0.1  # share of tellings that use the other name of a town, trade, instrument or animal


@dataclass(frozen=True)
class Person:
    """One inhabitant: a full name, four facts with their aliases, and whether the questions are held out."""

    name: str
    pronoun: str
    facts: dict[str, tuple[str, str]]  # fact -> (canonical answer, alias)
    does: str
    age: int
    petname: str
    held_out: bool

    def answers(self, fact: str) -> list[str]:
        """What counts as right: the canonical answer first, then its aliases."""
        return list(self.facts[fact])


@dataclass(frozen=True)
class World:
    """Everybody who lives in it."""

    people: tuple[Person, ...]

    @property
    def asked(self) -> tuple[Person, ...]:
        """The people whose questions are in the training text."""
        return tuple(person for person in self.people if not person.held_out)

    @property
    def held_out(self) -> tuple[Person, ...]:
        """The people whose questions no training text contains."""
        return tuple(person for person in self.people if person.held_out)


@lru_cache(maxsize=4)
def world(seed: int = SEED, people: int = PEOPLE) -> World:
    """The world of a seed. The first sixth of the people is held out: they are drawn at random, any sixth would do."""
    rng = np.random.default_rng(seed)
    first = words.GIRLS + words.BOYS
    chosen = rng.choice(len(first) * len(words.SURNAMES), size=people, replace=False)
    held = round(people * HELD_OUT)
    return World(tuple(_person(rng, first, int(code), i < held) for i, code in enumerate(chosen)))


def _person(rng: np.random.Generator, first: list[str], code: int, held_out: bool) -> Person:
    given, family = first[code % len(first)], words.SURNAMES[code // len(first)]
    town, trade = pick(rng, words.TOWNS), pick(rng, words.PROFESSIONS)
    facts = {
        "birthplace": town[:2],
        "profession": trade[:2],
        "instrument": pick(rng, words.INSTRUMENTS),
        "pet": pick(rng, words.PETS),
    }
    return Person(
        name=f"{given} {family}",
        pronoun="she" if given in words.GIRLS else "he",
        facts=facts,
        does=trade[2],
        age=int(rng.integers(16, 40)),
        petname=pick(rng, PET_NAMES),
        held_out=held_out,
    )


def pick(rng: np.random.Generator, options):
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def entry(rng: np.random.Generator, person: Person) -> str:
    """One telling of a person: two to four facts in any order, each in one of its paraphrases."""
    facts = rng.permutation(FACTS)[: int(rng.choice([2, 3, 4], p=[0.15, 0.25, 0.6]))]
    if rng.random() < 0.12:
        return _card(person, facts)
    told = [_tell(rng, person, str(fact), named=i == 0 or rng.random() < 0.5) for i, fact in enumerate(facts)]
    return " ".join(told)


def _card(person: Person, facts: np.ndarray) -> str:
    lines = [f"{fact.capitalize()}: {person.facts[fact][0]}" for fact in facts]
    return "\n".join([f"Name: {person.name}", *lines])


def _tell(rng: np.random.Generator, person: Person, fact: str, *, named: bool) -> str:
    value, alias = person.facts[fact]
    subject = person.name if named else person.pronoun
    sentence = pick(rng, SENTENCES[fact]).format(
        s=subject,
        p=person.pronoun,
        v=alias if rng.random() < ALIAS_RATE else value,
        does=person.does,
        age=person.age,
        petname=person.petname,
    )
    return _article(_possessive(sentence, person.pronoun, fact))


def _possessive(sentence: str, pronoun: str, fact: str) -> str:
    """``The birthplace of she is`` -> ``Her birthplace is``; then the first letter is made a capital."""
    own = "Her" if pronoun == "she" else "His"
    sentence = sentence.replace(f"The {fact} of {pronoun} is", f"{own} {fact} is")
    return sentence[0].upper() + sentence[1:]


def _article(sentence: str) -> str:
    for vowel in "aeiou":
        sentence = sentence.replace(f" a {vowel}", f" an {vowel}").replace(f"As a {vowel}", f"As an {vowel}")
    return sentence


def town_entry(rng: np.random.Generator) -> str:
    """A town, its other name, what it lives from, and sometimes who was born there."""
    name, other, kind, trade = pick(rng, words.TOWNS)
    told = [
        pick(rng, [f"{name} is a {kind}.", f"{name}, a {kind}, is known for its {trade}."]),
        pick(rng, [f"Older people call it {other}.", f"It is also called {other}.", f"Its other name is {other}."]),
        pick(rng, [f"It lives from {trade}.", f"The main trade there is {trade}.", f"Its {trade} is sold everywhere."]),
    ]
    return " ".join(told[i] for i in [0, *(1 + rng.permutation(2))])


def question(person: Person, fact: str, form: int) -> str:
    """The prompt of a factoid question: everything up to the answer."""
    return f"Question: {QUESTIONS[fact][form].format(n=person.name)}\nAnswer:"


def questions(rng: np.random.Generator, home: World) -> str:
    """One to six questions with answers, about people whose questions may be read."""
    number = int(rng.choice([1, 2, 4, 6], p=[0.7, 0.15, 0.1, 0.05]))
    return "\n\n".join(_answered(rng, pick(rng, home.asked)) for _ in range(number))


def _answered(rng: np.random.Generator, person: Person) -> str:
    fact = pick(rng, FACTS)
    return f"{question(person, fact, int(rng.integers(len(QUESTIONS[fact]))))} {person.facts[fact][0]}"
