"""Entailment: does a sentence follow from two others? About children of whom the world knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.people import pick, sentence_of

LABELS = ("yes", "no", "unknown")
# Each relation: what it can hold, the ways of telling it in the premise, and those in the hypothesis.
RELATIONS = {
    "thing": (words.THINGS, ["{n} has a {v}.", "{n} got a {v} as a present."], ["{n} owns a {v}."]),
    "place": (words.PLACES, ["{n} lives near {v}.", "The house of {n} is near {v}."], ["{n} is at home near {v}."]),
    "animal": (words.ANIMALS, ["{n} met a {v}.", "{n} saw a {v} on the road."], ["{n} came across a {v}."]),
    "food": (words.FOODS, ["{n} likes {v}.", "{n} eats {v} every day."], ["{n} is fond of {v}."]),
}


@dataclass(frozen=True)
class Entailment:
    """A premise, a hypothesis, and whether it follows: yes, no, or not to be known from the premise."""

    premise: str
    hypothesis: str
    label: str

    @property
    def prompt(self) -> str:
        return f"Premise: {self.premise}\nHypothesis: {self.hypothesis}\nAnswer:"

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.label}"


def entailment(rng: np.random.Generator, label: str | None = None) -> Entailment:
    """A pair of a label (drawn, unless given). The premise tells two relations; an unknown one asks for a third."""
    label = pick(rng, LABELS) if label is None else label
    name = pick(rng, words.GIRLS + words.BOYS)
    told = [str(relation) for relation in rng.permutation(list(RELATIONS))[:3]]
    values = [pick(rng, RELATIONS[relation][0]) for relation in told]
    premise = [
        pick(rng, RELATIONS[relation][1]).format(n=name, v=value)
        for relation, value in zip(told[:2], values[:2], strict=True)
    ]
    which = 2 if label == "unknown" else int(rng.integers(2))
    value = values[which] if label != "no" else _another(rng, RELATIONS[told[which]][0], values[which])
    hypothesis = pick(rng, RELATIONS[told[which]][2]).format(n=name, v=value)
    return Entailment(" ".join(map(sentence_of, premise)), sentence_of(hypothesis), label)


def _another(rng: np.random.Generator, options: list[str], value: str) -> str:
    return pick(rng, [option for option in options if option != value])
