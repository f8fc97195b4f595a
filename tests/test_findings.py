"""Findings are read off a table whose differences are known."""

import re

import numpy as np
import pandas as pd
import pytest

from saturation.study import contrast, findings

TASKS = ("factoid", "problems")
GENERAL = {"mixture": (0.3, 0.3)}


def made(losses, formats=None, seeds=(0, 1, 2), wobble=0.02):
    """Rows of twenty examples of two tokens: the loss a token of each source and task, wobbling by example and seed."""
    rows = []
    for source, own in losses.items():
        for form, more in (formats or {"qa": 0.0}).items():
            for task, loss in zip(TASKS, own, strict=True):
                for seed in seeds:
                    noise = wobble * np.random.default_rng([len(rows), seed]).normal(size=20)
                    for example in range(20):
                        nll = 2 * (1 + loss + noise[example] + (more[TASKS.index(task)] if more else 0.0))
                        rows.append({"source": source, "format": form, "task": task, "seed": seed,
                                     "example": f"{example}", "nll": nll, "tokens": 2})  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(table, formats=None, **how):
    found = findings(table, table.iloc[:0] if formats is None else formats, **how)
    return dict(zip(found["finding"], found["verdict"], strict=True))


def test_a_contrast_is_the_mean_over_tasks_of_differences_a_token():
    found = contrast(made({"a": (0.5, 0.1), "b": (0.2, 0.2)}, wobble=0.0), {"source": "a"}, {"source": "b"})
    assert found == pytest.approx((0.1, 0.1, 0.1, True)) and found.sign == 1
    assert str(found) == "+0.100 [0.100, 0.100]"
    one = contrast(made({"a": (0.5, 0.1), "b": (0.2, 0.2)}), {"source": "a"}, {"source": "b"}, tasks=["problems"])
    assert one.difference == pytest.approx(-0.1, abs=0.01) and one.sign == -1 and one.low < one.difference < one.high


def test_an_interval_widens_with_the_comparisons_and_holds_the_truth():
    table = made({"a": (0.3, 0.3), "b": (0.2, 0.2)}, wobble=0.2)
    one, many = (contrast(table, {"source": "a"}, {"source": "b"}, comparisons=n) for n in (1, 20))
    assert many.low < one.low < 0.1 < one.high < many.high


def test_what_seeds_disagree_about_is_no_finding():
    table = made({"a": (0.3, 0.3), "b": (0.3, 0.3)}, wobble=0.0)
    table.loc[(table["source"] == "a") & (table["seed"] < 2), "nll"] += 0.2
    table.loc[(table["source"] == "a") & (table["seed"] == 2), "nll"] -= 0.1
    found = contrast(table, {"source": "a"}, {"source": "b"})
    assert found.low > 0 and not found.agree and found.sign == 0


def test_the_usual_text_is_held_against_other_corpora():
    how = {"corpora": ("mixture", "x", "y")}
    assert verdicts(made(GENERAL | {"x": (0.2, 0.2), "y": (0.6, 0.6)}), **how) == {1: "supported"}
    assert verdicts(made(GENERAL | {"x": (0.5, 0.4), "y": (0.6, 0.6)}), **how) == {1: "contradicted"}
    assert verdicts(made(GENERAL | {"x": (0.4, 0.2), "y": (0.6, 0.6)}), **how) == {1: "undecided"}


def test_arithmetic_is_held_against_the_usual_text():
    for loss, verdict in ((0.2, "supported"), (0.5, "contradicted"), (0.3, "undecided")):
        assert verdicts(made(GENERAL | {"sums": (loss, loss)}), arithmetic=["sums"]) == {2: verdict}


def test_a_tasks_own_kind_is_held_against_the_usual_text():
    own = {"factoid": "facts", "problems": "sums"}
    for facts, sums, verdict in ((0.2, 0.5, "supported"), (0.2, 0.1, "contradicted"), (0.2, 0.3, "undecided")):
        table = made(GENERAL | {"facts": (facts, 0.9), "sums": (0.9, sums)})
        assert verdicts(table, own=own) == {3: verdict}


def test_formats_are_held_against_each_other():
    shapes = {"qa": None, "icl": (-0.1, -0.1), "cot": (-0.2, 0.1)}
    assert verdicts(made({}), made({"sums": (1.0, 1.0)}, shapes)) == {4: "supported"}
    assert verdicts(made({}), made({"sums": (1.0, 1.0)}, shapes | {"cot": (-0.2, -0.2)})) == {4: "undecided"}
    assert verdicts(made({}), made({"sums": (1.0, 1.0)}, shapes | {"icl": (0.1, 0.1)})) == {4: "contradicted"}


def test_sentences_hold_the_numbers():
    table = made(GENERAL | {"x": (0.2, 0.2)}, wobble=0.0)
    shapes = {"qa": None, "icl": (-0.1, -0.1), "cot": (-0.2, 0.1)}
    found = findings(table, made({"sums": (1.0, 1.0)}, shapes, wobble=0.0), corpora=["x"]).set_index("finding")
    assert found.loc[1, "sentence"] == (
        "loss on the mean of the tasks, over that after mixture: x −0.100 [−0.100, −0.100]"
    )
    assert found.loc[4, "sentence"] == (
        "loss with several questions in a text, over that with one: sums −0.100 [−0.100, −0.100]; with reasoning the "
        "loss is lower than without on 1 of 2 tasks, higher on 1: factoid −0.100 [−0.100, −0.100], "
        "problems +0.200 [0.200, 0.200]"
    )


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda table: contrast(table, {"source": "c"}, {"source": "a"}),
            "expected rows of source c, got none; name what the table has",
        ),
        (
            lambda table: contrast(pd.concat([table, table]), {"source": "a", "format": "qa"}, {"source": "b"}),
            "expected one row of source a, format qa for each example and seed, got several; select one method, "
            "sparsity, format, budget and policy",
        ),
        (
            lambda table: contrast(
                table[(table["source"] == "a") == (table["seed"] == 0)], {"source": "a"}, {"source": "b"}
            ),
            "expected a seed that both choices have, got [0] and [1, 2]; run the same seeds for both",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(act, sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        act(made({"a": (0.1, 0.1), "b": (0.2, 0.2)}))
