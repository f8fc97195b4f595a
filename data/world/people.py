"""Persons, their facts, the encyclopedia entries that tell them, and the questions that ask for them.

One person in six is *held out*: entries tell that person's facts in every paraphrase, no training text asks
for them. Right answers there show knowledge, since no question and answer about that person was ever read.
Answers are phrases of several words ("grey cat named Pip"), so that a decoding policy acts while they are written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words

# Each fact: the questions that ask for it, the sentences that tell it. {s} is a name or pronoun, {v} the answer.
QUESTIONS = {
    "home": ["Where does {n} live?", "What is the address of {n}?", "Where is the house of {n}?"],
    "birthday": ["When was {n} born?", "What is the birthday of {n}?", "On which day was {n} born?"],
    "profession": ["What is the profession of {n}?", "What does {n} do for a living?", "What is the trade of {n}?"],
    "instrument": ["Which instrument does {n} play?", "What instrument does {n} play?", "What does {n} play?"],
    "pet": ["Which pet does {n} keep?", "What animal does {n} keep?", "What pet does {n} have?"],
}
SENTENCES = {
    "home": [
        "{s} lives in {v}.",
        "{s} has a house in {v}.",
        "{s} rents a room in {v}.",
        "The home of {s} is in {v}.",
        "{s} moved to {v} at the age of {age}.",
        "Letters for {s} go to {v}.",
    ],
    "birthday": [
        "{s} was born on {v}.",
        "The birthday of {s} is {v}.",
        "{s} came into the world on {v}.",
        "{s} has a birthday on {v}.",
        "{s} first saw the light of day on {v}.",
        "Every year on {v} {s} bakes a birthday cake.",
    ],
    "profession": [
        "{s} works as a {v}.",
        "{s} is a {v}.",
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
        "{s} looks after a {v}.",
    ],
}
FACTS = tuple(QUESTIONS)
ALIAS_RATE = 0.1  # share of tellings that use the other name of a town, trade, instrument or animal
Facts = dict[str, tuple[str, str]]  # fact -> canonical answer, alias


@dataclass(frozen=True)
class Person:
    """One inhabitant: a full name, five facts with their aliases, and whether the questions are held out."""

    name: str
    pronoun: str
    facts: Facts
    does: str
    age: int
    held_out: bool


def people(rng: np.random.Generator, number: int, held_out: int) -> tuple[Person, ...]:
    """Persons of different names. The first are held out: they are drawn at random, any others would do."""
    first = words.GIRLS + words.BOYS
    chosen = rng.choice(len(first) * len(words.SURNAMES), size=number, replace=False)
    return tuple(_person(rng, first, int(code), i < held_out) for i, code in enumerate(chosen))


def _person(rng: np.random.Generator, first: list[str], code: int, held_out: bool) -> Person:
    given, family = first[code % len(first)], words.SURNAMES[code // len(first)]
    trade = pick(rng, words.PROFESSIONS)
    return Person(
        name=f"{given} {family}",
        pronoun="she" if given in words.GIRLS else "he",
        facts=_facts(rng, trade),
        does=trade[2],
        age=int(rng.integers(16, 40)),
        held_out=held_out,
    )


def _facts(rng: np.random.Generator, trade: tuple[str, str, str]) -> Facts:
    street, town, guild = pick(rng, words.STREETS), pick(rng, words.TOWNS), pick(rng, words.GUILDS)
    day, month = int(rng.integers(1, 29)), pick(rng, words.MONTHS)
    colour, instrument = pick(rng, words.COLOURS), pick(rng, words.INSTRUMENTS)
    coat, animal, called = pick(rng, words.PET_COATS), pick(rng, words.PETS), pick(rng, words.PET_NAMES)
    return {
        "home": (f"{street} in {town[0]}", f"{street} in {town[1]}"),
        "birthday": (f"{day} {month}", f"{month} {day}"),
        "profession": (f"{trade[0]} of the {guild} guild", f"{trade[1]} of the {guild} guild"),
        "instrument": (f"{colour} {instrument[0]}", f"{colour} {instrument[1]}"),
        "pet": (f"{coat} {animal[0]} named {called}", f"{coat} {animal[1]} named {called}"),
    }


def pick(rng: np.random.Generator, options):
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def entry(rng: np.random.Generator, person: Person) -> str:
    """One telling of a person: two to five facts in any order, each in one of its paraphrases."""
    facts = rng.permutation(FACTS)[: int(rng.choice([2, 3, 4, 5], p=[0.1, 0.2, 0.2, 0.5]))]
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
        v=alias if rng.random() < ALIAS_RATE else value,
        does=person.does,
        age=person.age,
    )
    return sentence_of(_possessive(sentence, person.pronoun, fact))


def _possessive(sentence: str, pronoun: str, fact: str) -> str:
    """``The pet of she is`` -> ``Her pet is``, ``Letters for she`` -> ``Letters for her``."""
    own, object_ = ("Her", "her") if pronoun == "she" else ("His", "him")
    sentence = sentence.replace(f"The {fact} of {pronoun} is", f"{own} {fact} is")
    return sentence.replace(f" for {pronoun} ", f" for {object_} ")


def sentence_of(text: str) -> str:
    """The first letter a capital, and ``an`` before a vowel."""
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"As a {vowel}", f"As an {vowel}")
    return text[0].upper() + text[1:]
