"""Sums told as one- and two-step problems, with the reasoning written out.

Every number stays under 100. What is held back for a split is the whole problem (its wording, names and
numbers), not the sum: 7 + 5 is met in training, this problem about 7 + 5 is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.world import words
from data.world.people import pick

START = ["{n} has {a} {g}.", "{n} owns {a} {g}.", "There are {a} {g} in the house of {n}."]
MORE = ["{n} finds {b} more.", "A friend gives {n} {b} more.", "Then {n} buys {b} more."]
LESS = ["{n} gives away {b} of them.", "{n} loses {b} of them.", "Then {n} sells {b} of them."]
TIMES = ["{n} fills {a} {x} with {b} {g} each.", "{n} has {a} {x} with {b} {g} in each."]
ASK = ["How many {g} does {n} have now?", "How many {g} are there in the end?"]


@dataclass(frozen=True)
class Problem:
    """A problem, the equations that solve it one step at a time, and the answer."""

    text: str
    steps: tuple[str, ...]
    answer: int

    @property
    def prompt(self) -> str:
        return f"Problem: {self.text}\nReasoning:"

    @property
    def solved(self) -> str:
        return f"{self.prompt} {' '.join(self.steps)}\nAnswer: {self.answer}"


def problem(rng: np.random.Generator, steps: int | None = None) -> Problem:
    """A problem of one or two steps (drawn, unless given)."""
    steps = int(rng.integers(1, 3)) if steps is None else steps
    slots = {"n": pick(rng, words.GIRLS + words.BOYS), "g": pick(rng, words.GOODS), "x": pick(rng, words.BOXES)}
    told, done, total = _first(rng, slots)
    for _ in range(steps - len(done)):
        sentence, equation, total = _change(rng, total, slots)
        told, done = [*told, sentence], [*done, equation]
    return Problem(" ".join([*told, pick(rng, ASK).format(**slots)]), tuple(done), total)


def _first(rng: np.random.Generator, slots: dict[str, str]) -> tuple[list[str], list[str], int]:
    if rng.random() < 0.25:
        a, b = int(rng.integers(2, 7)), int(rng.integers(2, 10))
        return [pick(rng, TIMES).format(a=a, b=b, **slots)], [f"{a} x {b} = {a * b}."], a * b
    a = int(rng.integers(3, 31))
    return [pick(rng, START).format(a=a, **slots)], [], a


def _change(rng: np.random.Generator, total: int, slots: dict[str, str]) -> tuple[str, str, int]:
    if rng.random() < 0.5 and total > 3:
        b = int(rng.integers(2, min(total, 20)))
        return pick(rng, LESS).format(b=b, **slots), f"{total} - {b} = {total - b}.", total - b
    b = int(rng.integers(2, 20))
    return pick(rng, MORE).format(b=b, **slots), f"{total} + {b} = {total + b}.", total + b
