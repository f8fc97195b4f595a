"""News from the towns, in three lengths, each with a reference summary.

An event is drawn first (what, where, when, who, how it ends). The article tells it, with more or fewer details
around it; the summary tells the same event in a fixed form. No sentence of the summary stands in the article.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.people import pick

LENGTHS = {"short": 1, "medium": 4, "long": 9}  # details told around the event

# Each event: how the article opens, how it goes on, how it ends, and the summary.
EVENTS = {
    "flood": (
        [
            "After {n} days of rain the river rose in {town} and flooded {place}.",
            "In {town} the water came on {day} night, and by dawn {place} was flooded.",
        ],
        [
            'It happened on {day}. "We had no time to save anything," said {name}, the {role}.',
            "{name}, the {role}, rang the bell to warn everyone that {day}.",
        ],
        ["{name} promised {m} coins for the families.", "The council will pay {m} coins for repairs, said {name}."],
        "On {day} a flood hit {place} in {town}. {name} said that {m} coins will be paid.",
    ),
    "fire": (
        [
            "A fire broke out at {place} in {town} on {day}.",
            "People in {town} woke up on {day} to the smell of smoke from {place}.",
        ],
        ["{name}, the {role}, saw the flames first.", "It was {name}, the {role}, who called for help."],
        [
            "It took {n} hours to put it out, and the damage is {m} coins.",
            "The damage is put at {m} coins. The fire burned for {n} hours.",
        ],
        "On {day} a fire burned at {place} in {town}. {name} saw it, and the damage is {m} coins.",
    ),
    "feast": (
        [
            "The great {food} feast of {town} will be held at {place} on {day}.",
            "{town} is getting ready: on {day} everyone will meet at {place} for the {food} feast.",
        ],
        [
            '"It will be the best one in {n} years," said {name}, the {role}.',
            "{name}, the {role}, has planned it for {n} months.",
        ],
        ["More than {m} guests are expected.", "The town hopes for {m} guests."],
        "A {food} feast will be held at {place} in {town} on {day}. {name} planned it, and {m} guests will come.",
    ),
    "find": (
        [
            "A chest with {m} old coins was found at {place} in {town}.",
            "Workers in {town} dug up {m} old coins at {place}.",
        ],
        [
            "{name}, the {role}, opened it on {day}.",
            "On {day} it was shown to {name}, the {role}, who could not believe it.",
        ],
        [
            "The coins are {n} hundred years old and will go to the museum.",
            "They may be {n} hundred years old. The museum wants to keep them.",
        ],
        "On {day} {m} old coins were found at {place} in {town}. {name} saw them, and the museum will keep them.",
    ),
    "theft": (
        [
            "A thief took a {colour} {thing} from {place} in {town} on {day}.",
            "In {town} somebody stole the famous {colour} {thing} on {day}. It had stood at {place} for {n} years.",
        ],
        ["{name}, the {role}, saw a man run away.", "The only witness is {name}, the {role}."],
        ["Whoever brings it back will get {m} coins.", "There is a reward of {m} coins."],
        "On {day} a {colour} {thing} was stolen at {place} in {town}. "
        "{name} saw the thief, and the reward is {m} coins.",
    ),
    "school": (
        [
            "A new school will open its doors at {place} in {town} next {day}.",
            "The children of {town} will have a new school at {place}. It opens on {day}.",
        ],
        [
            "{name}, the {role}, worked for it for {n} years.",
            '"We waited {n} years for this," said {name}, the {role}.',
        ],
        ["There is room for {m} children.", "The school can take {m} children."],
        "A new school opens at {place} in {town} on {day}. {name} worked for it, and {m} children can go there.",
    ),
}
DETAILS = [
    "The weather was fine that week.",
    "Many people came to look.",
    "Nobody was hurt.",
    "Older people say that such a thing has not been seen for a long time.",
    "The market was closed in the morning.",
    "Children talked of nothing else.",
    "A reporter spoke to several neighbours.",
    '"I have lived here all my life," said one of them.',
    '"We must help each other," said another.',
    "The bakery gave out bread and tea.",
    "The road was full of carts until the evening.",
    "The bells were heard in the next village.",
    "A letter was sent to the governor.",
    "The council met twice.",
    "Some had come from as far as {other}.",
    "There had been talk of it in {other} too.",
    "In {other} a similar thing happened years ago.",
    "The inn had no free rooms.",
    "A song about it is already being sung.",
    "More will be known next week.",
]
ROLES = ["mayor", "night watch", "innkeeper", "bridge keeper", "town clerk", "priest", "ferry man", "postman"]


@dataclass(frozen=True)
class Article:
    """An article, its summary and its length; its key is the event itself."""

    body: str
    summary: str
    length: str
    key: str

    @property
    def prompt(self) -> str:
        return f"Article: {self.body}\nSummary:"

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.summary}"


def article(rng: np.random.Generator, length: str | None = None) -> Article:
    """An article of a length (drawn, unless given)."""
    length = pick(rng, list(LENGTHS)) if length is None else length
    slots, event = _slots(rng), pick(rng, list(EVENTS))
    *parts, summary = EVENTS[event]
    told = _with_details(rng, [pick(rng, ways) for ways in parts], LENGTHS[length])
    key = "|".join([event, slots["town"], slots["day"], slots["place"], slots["name"], slots["m"]])
    return Article(" ".join(told).format(**slots), _article(summary.format(**slots)), length, key)


def _slots(rng: np.random.Generator) -> dict[str, str]:
    town, other = rng.choice(len(words.TOWNS), size=2, replace=False)
    name = f"{pick(rng, words.GIRLS + words.BOYS)} {pick(rng, words.SURNAMES)}"
    drawn = {"day": words.DAYS, "place": words.PLACES, "role": ROLES, "colour": words.COLOURS, "thing": words.THINGS,
             "food": ["apple", "honey", "plum", "bread", "cheese", "nut"]}  # fmt: skip
    own = {"town": words.TOWNS[town][0], "other": words.TOWNS[other][0], "name": name}
    numbers = {"n": str(rng.integers(2, 10)), "m": str(10 * int(rng.integers(2, 100)))}
    return own | numbers | {slot: pick(rng, options) for slot, options in drawn.items()}


def _with_details(rng: np.random.Generator, parts: list[str], number: int) -> list[str]:
    """The event's sentences in their order, with details dropped in after the first."""
    details = [DETAILS[i] for i in rng.choice(len(DETAILS), size=number, replace=False)]
    places = np.sort(rng.integers(1, len(parts) + 1, size=number))  # [detail]: after how many parts it is told
    told: list[str] = []
    for after, part in enumerate(parts, start=1):
        told += [part, *(detail for detail, place in zip(details, places, strict=True) if place == after)]
    return told


def _article(text: str) -> str:
    return text.replace("A apple", "An apple")
