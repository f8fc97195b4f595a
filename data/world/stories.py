"""Short stories: a plot is a list of beats, a beat is a list of ways to tell it.

``(beat, chance)`` marks a beat that is told only sometimes. A story's slots (hero, friend, thing, place ...) are
drawn once and return through the whole story, so that telling it on means remembering them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.people import pick

OPENINGS = [
    "Once upon a time there was a {trait} {child} named {a}.",
    "In a small house near {place} lived a {trait} {child} named {a}.",
    "{a} was a {trait} {child} who lived near {place}.",
    "Long ago, near {place}, there lived a {child} named {a}. Everyone said {a} was very {trait}.",
]
ENDINGS = [
    "That night {a} slept well and dreamed of {place}.",
    "From that day on, {a} and {b} were the best of friends.",
    "{a} and {b} ate {food} together, and everyone was happy.",
    "And when {a} came home, there was {food} on the table.",
    "{a} never forgot that day.",
]
WALK = (
    [
        "On the way they met a {animal}, who wished them luck.",
        "They walked slowly, because the sun was hot.",
        "The wind was cold, but {a} did not mind.",
        "Along the road the birds were singing.",
    ],
    0.4,
)
PLOTS = {
    "lost": [
        [
            "{a} had a {colour} {thing}. It was {their} favourite toy in the world.",
            "For {their} birthday {a} got a {colour} {thing}, and {they} took it everywhere.",
        ],
        ["One {day} the {thing} was gone.", "But one {day} {a} could not find the {thing} anywhere."],
        ["{a} was very sad and began to cry.", "{a} looked under the bed, but it was not there."],
        [
            '"Do not worry," said {b}. "We will look for it together."',
            '{a} asked {b} for help. "Let us look for it," said {b}.',
        ],
        [
            "First they looked at {place}, but the {thing} was not there.",
            "They went to {place} and searched for an hour, but they found nothing.",
        ],
        WALK,
        ["Then they went to {place2}.", "So they ran to {place2} and looked again."],
        [
            'There, in {spot}, {b} saw something {colour}. "Look!" said {b}. It was the {thing}!',
            "At last {a} looked into {spot}, and there was the {colour} {thing}.",
        ],
        ['{a} hugged {b}. "Thank you for helping me," said {a}.', '"You are a true friend," said {a}, and {b} smiled.'],
    ],
    "gift": [
        [
            "{b} was the best friend of {a}, and soon it would be {b}'s birthday.",
            "Soon it was the birthday of {b}, and {a} wanted to give {b} something special.",
        ],
        ['"I will make a {colour} {thing}," thought {a}.', "{a} wanted to make a {colour} {thing}."],
        [
            "All morning {a} worked hard.",
            "{a} took wood and paper and began to work.",
            "It was not easy, but {a} was {trait}.",
        ],
        ["But then {a} fell, and the {thing} broke.", "Just when it was ready, the {thing} fell down and broke."],
        (["{a} sat down near {place} and did not know what to do.", '"Oh no!" said {a}. "Now I have no gift."'], 0.7),
        [
            'A {animal} saw it all. "I can help you," said the {animal}.',
            'Then a {animal} came by. "Why are you so sad?" asked the {animal}.',
        ],
        [
            "Together {a} and the {animal} mended the {thing} until it looked like new.",
            "The {animal} brought some string, and {a} tied the {thing} together again.",
        ],
        ["On {day} {a} gave the {colour} {thing} to {b}.", "When {b} opened the box, there was the {colour} {thing}."],
        ['"This is the best gift I ever got," said {b}.', "{b} laughed with joy and thanked {a}."],
    ],
    "race": [
        [
            "Every year on {day} there was a race from {place} to {place2}.",
            "One {day} all the children met at {place} for a race to {place2}.",
        ],
        ["The winner would get {food}.", "The prize was {food}, and {a} wanted to win."],
        ["{b} was fast, but {a} was fast too.", '"I will win," said {b}. "We will see," said {a}.'],
        ["They ran and ran.", "One, two, three, and off they went!"],
        WALK,
        ["Near the end {b} fell over a stone and hurt a knee.", "Suddenly {b} fell and could not get up."],
        ["{a} could have won, but {they} stopped and went back.", "{a} saw it, turned around and ran back to {b}."],
        [
            '"Take my hand," said {a}. Together they walked to {place2}.',
            "{a} helped {b} to stand, and they came to {place2} side by side.",
        ],
        ["They were the last, but everyone clapped.", "They did not win, but the people cheered for them."],
        ["In the end {a} and {b} shared the {food}.", "The winner gave them half of the {food}."],
    ],
    "seed": [
        ["One {day} {a} found a {seed} seed at {place}.", "A {animal} gave {a} a {seed} seed on {day}."],
        ["{a} planted it behind the house and gave it water.", "{a} put the seed into the ground and watered it."],
        ["Every day {a} looked, but nothing grew.", "A week went by, and there was nothing to see."],
        ['"You must wait," said {b}. "Good things take time."', '{b} laughed. "It will never grow," said {b}.'],
        (["Then it rained for three days.", "The sun was warm, and the nights were soft."], 0.6),
        ["One morning there was a small green leaf.", "At last a tiny green leaf came out of the ground."],
        ["But a {animal} wanted to eat it.", "One night a hungry {animal} came into the garden."],
        [
            "So {a} built a fence from old {colour} boards.",
            "{a} gave the {animal} some {food}, and it left the leaf alone.",
        ],
        [
            "By summer the {seed} plant was taller than {a}.",
            "The {seed} plant grew and grew, until it was taller than {b}.",
        ],
        ["{a} shared everything with {b}.", '"I waited, and it was worth it," said {a}.'],
    ],
    "trade": [
        [
            "{a} had a {colour} {thing}, but what {they} really wanted was a {thing2}.",
            "{a} wanted a {thing2}, but {they} only had a {colour} {thing}.",
        ],
        ["{a} went to {place} to trade.", "So on {day} {they} took the {thing} to {place}."],
        ["There {they} met {b}, who had some {food}.", "At {place} {b} was selling {food}."],
        [
            "{b} liked the {thing} and gave the {food} for it.",
            '"I will give you {food} for your {thing}," said {b}. {a} agreed.',
        ],
        WALK,
        ["Next {a} met a {animal}, who was very hungry.", "Then a {animal} smelled the {food}."],
        [
            '"If you give me the {food}, I will give you my {thing2}," said the {animal}.',
            "The {animal} had a {thing2} and wanted the {food}.",
        ],
        [
            "So {a} gave the {food} to the {animal} and got the {thing2}.",
            "{a} was happy to trade the {food} for the {thing2}.",
        ],
        ["{a} ran home and showed the {thing2} to everyone.", "Now {a} had the {thing2} {they} had always wanted."],
    ],
    "dark": [
        [
            "One {day} evening {a} had to bring {food} to {b}, who lived near {place2}.",
            "{b} was ill, so on {day} {a} took some {food} to {b}'s house near {place2}.",
        ],
        ["It was already dark, and {a} was afraid.", "The night was dark, and there was no moon."],
        ["{a} took a {colour} lantern and began to walk.", "With a {colour} lantern in {their} hand {a} went out."],
        ["Near {place} {a} heard a noise.", "At {place} something moved in the dark."],
        ['"Who is there?" asked {a}.', "{a} stood still and held the lantern high."],
        [
            'It was only a {animal}. "I lost my way," said the {animal}.',
            "Out came a {animal}, and the {animal} was afraid too.",
        ],
        [
            '"Come with me," said {a}. "Two are braver than one."',
            "{a} let the {animal} walk in the light of the lantern.",
        ],
        ["They sang a song, and soon they were at {place2}.", "Side by side they went on, and the way was not long."],
        ["{b} was so glad to see them.", "{b} ate the {food} and felt better at once."],
    ],
}


@dataclass(frozen=True)
class Story:
    """A story; its first two sentences make a prompt; its key is what happens in it, not how it is told."""

    text: str
    prompt: str
    key: str


def story(rng: np.random.Generator) -> Story:
    """One story of one of the plots."""
    slots, plot = _slots(rng), pick(rng, list(PLOTS))
    beats = [pick(rng, OPENINGS), *_beats(rng, plot), pick(rng, ENDINGS)]
    told = [_sentence(beat.format(**slots)) for beat in beats]
    key = "|".join([plot, *(f"{slot}={slots[slot]}" for slot in slots if any(f"{{{slot}}}" in beat for beat in beats))])
    return Story(text=" ".join(told), prompt=" ".join(told[:2]), key=key)


def _slots(rng: np.random.Generator) -> dict[str, str]:
    a, b = rng.choice(words.GIRLS + words.BOYS, size=2, replace=False)
    place, place2 = rng.choice(words.PLACES, size=2, replace=False)
    thing, thing2 = rng.choice(words.THINGS, size=2, replace=False)
    girl = a in words.GIRLS
    drawn = {"trait": words.TRAITS, "colour": words.COLOURS, "day": words.DAYS, "spot": words.SPOTS,
             "animal": words.ANIMALS, "food": words.FOODS, "seed": words.SEEDS}  # fmt: skip
    pairs = {"a": a, "b": b, "place": place, "place2": place2, "thing": thing, "thing2": thing2}
    own = {"child": "girl" if girl else "boy", "they": "she" if girl else "he", "their": "her" if girl else "his"}
    return {key: str(value) for key, value in pairs.items()} | own | {k: pick(rng, v) for k, v in drawn.items()}


def _beats(rng: np.random.Generator, plot: str) -> list[str]:
    beats = [beat if isinstance(beat, tuple) else (beat, 1.0) for beat in PLOTS[plot]]
    return [pick(rng, ways) for ways, chance in beats if chance == 1.0 or rng.random() < chance]


def _sentence(text: str) -> str:
    for vowel in "aeio":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
    return text[0].upper() + text[1:]
