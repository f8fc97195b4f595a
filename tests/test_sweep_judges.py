"""Judges: no two of them share ratings, and one that takes notes stays itself."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pytest
import torch

import saturation as st
from saturation.sweeps import cell_keys
from saturation.tasks import bundled

SCALE = 1.0


def low(example, answer):
    return 1.0


def high(example, answer):
    return 9.0


def calls(first):
    return lambda example, answer: first(example, answer)


def rated(example, answer, *, options):
    return options["most"]


def typed(most):
    """As at a prompt, where nobody can read the source."""
    return eval(f"lambda example, answer: {most}")


def defaulted(most):
    def judge(example, answer, *, options=most):
        return options

    return judge


def memorised(most):
    @lru_cache
    def judge(example, answer):
        return most

    return judge


class Rubric:
    """An object of one's own, which holds itself too."""

    def __init__(self, most):
        self.most, self.itself = most, [self]


class Rater:
    """Rates by a rubric, and asks a client."""

    def __init__(self, rubric, client=None):
        self.rubric, self.client, self.notes, self.asked = rubric, client, {}, []

    def __call__(self, example, answer):
        return self.rubric

    def rate(self, example, answer):
        return self.rubric


class Gentler(Rater):
    pass


@dataclass
class Settings:
    most: dict


PAIRS = {
    "a function called by one": lambda: (calls(low), calls(high)),
    "a partial called by one": lambda: (calls(partial(low, 1)), calls(partial(low, 2))),
    "a dict in a partial": lambda: [partial(rated, options={"most": most}) for most in (1, 2)],
    "a list in a tuple in a dict": lambda: [partial(rated, options={"most": (["a", most],)}) for most in (1, 2)],
    "a key of two parts": lambda: [partial(rated, options={("a", most): 1, ("b", most): 2}) for most in (1, 2)],
    "a set": lambda: [partial(rated, options={"a", most}) for most in (1, 2)],
    "code of one line": lambda: (lambda example, answer: example.prompt, lambda example, answer: example.text),
    "code without a source": lambda: [typed(most) for most in (1, 2)],
    "a function inside": lambda: [typed(f"(lambda: {most})()") for most in (1, 2)],
    "a default by name": lambda: [defaulted({"most": most}) for most in (1, 2)],
    "what is remembered": lambda: [calls(memorised(most)) for most in (1, 2)],
    "a dict of an object": lambda: [Rater({"most": most}) for most in (1, 2)],
    "an object of an object": lambda: [Rater(Rubric(most)) for most in (1, 2)],
    "the object of a method": lambda: [Rater(Rubric(most)).rate for most in (1, 2)],
    "a record": lambda: [Rater(Settings({"most": most})) for most in (1, 2)],
    "one list in two places": lambda: (calls(partial(low, *[["a"]] * 2)), calls(partial(low, ["a"], []))),
    "a number of NumPy": lambda: [Rater(np.float32(most)) for most in (1, 2)],
    "a class": lambda: (Rater("a"), Gentler("a")),
    "a class handed on": lambda: (calls(Rater), calls(Gentler)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_a_judge_was_given_tells_it_from_others(pair):
    (one, other), (again, _) = pair(), pair()
    assert cell_keys.of_judge(one) != cell_keys.of_judge(other)
    assert cell_keys.of_judge(one) == cell_keys.of_judge(again)


def test_globals_that_a_judge_names_tell_it_from_others(monkeypatch):
    def nested(example, answer):
        return sum(SCALE for _ in answer)

    for judge in (nested, calls(nested), lambda example, answer: SCALE):
        before = cell_keys.of_judge(judge)
        with monkeypatch.context() as changed:
            changed.setitem(globals(), "SCALE", 5.0)
            assert cell_keys.of_judge(judge) != before
        assert cell_keys.of_judge(judge) == before
        monkeypatch.setitem(globals(), "pair", "of no concern")
        assert cell_keys.of_judge(judge) == before


def test_a_module_of_ones_own_is_told_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_rubric", None)
    found = set()
    for number in (1, 2, 1):
        (tmp_path / "own_rubric.py").write_text(f"# {'x' * number}\ndef score(answer):\n    return {number}\n")
        del sys.modules["own_rubric"]
        importlib.invalidate_caches()
        rubric = importlib.import_module("own_rubric")
        found.add(cell_keys.of_judge(lambda example, answer, rubric=rubric: rubric.score(answer)))
    assert len(found) == 2


def test_notes_make_no_other_judge_but_another_setting_does():
    rater = Rater({"most": 1}, client=torch.nn.Linear(2, 2))
    before = cell_keys.of_judge(rater), cell_keys.of_judge(rater.rate)
    rater.asked.append("an answer")
    rater.notes["an answer"] = 5.0
    rater.client.state = "busy"
    assert (cell_keys.of_judge(rater), cell_keys.of_judge(rater.rate)) == before
    rater.rubric["most"] = 2
    assert cell_keys.of_judge(rater) != before[0] and cell_keys.of_judge(rater.rate) != before[1]
    assert cell_keys.of_judge(Rater({"most": 2})) != before[0], "and what another gathered is none of its own"


def test_ratings_of_different_judges_are_never_mixed(tmp_path):
    demo, task = st.load("demo"), [bundled("summaries").head(2)]
    ratings = [
        st.sweep(*demo, [None], task, out=tmp_path, judge=calls(judge), progress=False)["judge"].tolist()
        for judge in (low, high, low)
    ]
    assert ratings == [[1, 1], [9, 9], [1, 1]]
