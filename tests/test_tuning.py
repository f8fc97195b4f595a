"""Tuning: p-values against exact ones, a guarantee that holds on synthetic studies, and sentences for bad input."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import saturation as st
from saturation.tuning import examples_needed, p_value
from saturation.tuning.learn_then_test import passing
from tests.test_recording import sentence

SHARES = np.linspace(0.02, 0.6, 20)


def risk(share):
    """A true loss that rises with the square of what is skipped, as on the bundled model."""
    return 0.5 * share**2


def rows(seed=0, n=300, shares=SHARES, seeds=1):
    """A made-up sweep: each example breaks from a share of its own on."""
    limit = np.random.default_rng(seed).uniform(size=n)
    each = np.concatenate([[0.0], np.repeat(shares, seeds)])  # [setting], the dense one first
    names = ["dense", *(f"skip {share:.2f}" for share in each[1:])]
    correct = (limit >= np.where(each > 0, risk(each), -1)[:, None]).astype(float)  # [setting, example]
    return pd.DataFrame(
        {
            "policy": np.repeat(np.array(names, dtype=object), n),
            "example": np.tile(np.arange(n).astype(str).astype(object), len(each)),
            "correct": correct.ravel(),
            "skipped": np.repeat(each * 1000, n),
            "task": "made",
            "blocks": 1000,
        }
    )


def elsewhere(table):
    """The same rows under names of other examples."""
    return table.assign(example="other " + table["example"].astype(str))


def share_of(tuned):
    return 0.0 if tuned.setting == "dense" else float(tuned.setting.split()[1])


# ------------------------------------------------------------------------------------------------ p-values


def test_a_p_value_of_broken_answers_is_the_exact_tail():
    losses = np.repeat([1.0, 0.0], [3, 197])
    assert p_value(losses, 0.05) == pytest.approx(sum(stats.binom.pmf(k, 200, 0.05) for k in range(4)))
    assert p_value(np.zeros(230), 0.01) < 0.1 < p_value(np.zeros(229), 0.01)


def test_how_many_examples_a_promise_takes():
    assert examples_needed(0.01, 0.9) == 230 and examples_needed(0.05, 0.9) == 45 and examples_needed(0.5, 0.5) == 1


@pytest.mark.parametrize("draw", ["beta", "two", "binary"])
def test_a_p_value_is_below_a_level_no_more_often_than_that(draw):
    """Losses whose mean is the budget itself: the hardest case to be fooled by."""
    rng, budget, trials = np.random.default_rng(1), 0.1, 4000
    if draw == "beta":
        losses = rng.beta(0.5, 4.5, (trials, 80))
    elif draw == "two":
        losses = np.where(rng.uniform(size=(trials, 80)) < 0.2, 0.5, 0.0)
    else:
        losses = (rng.uniform(size=(trials, 80)) < 0.1).astype(float)
    found = np.array([p_value(own, budget) for own in losses])
    for level in (0.05, 0.1, 0.3):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / trials)
    assert p_value(losses[0] / 4, budget) < 0.1  # and it is of use


def test_a_sequence_stops_at_the_first_that_fails():
    good, bad = np.zeros(100), np.ones(100)
    assert len(passing([good, bad, good], 0.05, 0.9)) == 2


# ------------------------------------------------------------------------------------------------ the choice


def test_the_plain_choice_is_the_most_that_keeps_within_the_budget():
    table = rows()
    tuned = st.tune(table, budget=0.05)
    measured = tuned.evidence.set_index("policy")
    own = table[table["policy"] == tuned.setting]
    assert measured.loc[tuned.setting, "loss"] == pytest.approx(1 - own["correct"].mean())
    more = measured[measured["skipped"] > measured.loc[tuned.setting, "skipped"]]
    assert measured.loc[tuned.setting, "loss"] <= 0.05
    assert len(more) and (more["loss"] > 0.05).all() and (measured["n"] == 300).all()
    assert "no guarantee" in tuned.sentence and tuned.sentence.startswith(f"{tuned.setting} skips ")


@pytest.mark.timeout(300)
def test_on_500_studies_the_guarantee_holds_and_much_is_skipped():
    """n = 300, a budget of .05, one failure in ten allowed, and its binomial slack."""
    chosen = np.array([share_of(st.tune(rows(seed), budget=0.05, confidence=0.9)) for seed in range(500)])
    broken = (risk(chosen) > 0.05).mean()
    assert broken <= stats.binom.ppf(0.999, 500, 0.1) / 500, broken
    oracle = max(share for share in SHARES if risk(share) <= 0.05)
    assert chosen.mean() >= 0.7 * oracle, chosen.mean() / oracle
    plain = np.array([share_of(st.tune(rows(seed), budget=0.05)) for seed in range(100)])
    assert (risk(plain) > 0.05).mean() > 0.2  # what the plain choice does not promise


def test_policies_come_back_and_other_examples_confirm():
    rule = st.StaticFFN((1,))
    table, names = rows(3), {f"skip {share:.2f}": rule for share in SHARES}
    tuned = st.tune(table, budget=0.05, confidence=0.9, policies=names, confirm=elsewhere(rows(4, n=100)))
    assert tuned.policy is rule and "; on 100 other examples " in tuned.sentence
    row = tuned.evidence.set_index("policy").loc[tuned.setting]
    assert row["passed"] and row["p"] <= 0.1 and row["n"] == 225
    assert f"its true loss is at most 0.05 with 90% confidence (p = {row['p']:.2g})" in tuned.sentence


def test_a_share_of_the_examples_confirms_and_is_not_chosen_on():
    table = rows(3, n=400)
    tuned = st.tune(table, budget=0.05, confirm=0.25)
    assert (tuned.evidence["n"] == 300).all() and "; on 100 other examples " in tuned.sentence
    again = st.tune(table, budget=0.05, confirm=0.25)
    other = st.tune(table, budget=0.05, confirm=0.25, seed=1)
    pd.testing.assert_frame_equal(tuned.evidence, again.evidence)
    assert not tuned.evidence.equals(other.evidence)


def test_what_one_seed_gains_makes_up_for_nothing():
    """Of two seeds one loses an answer that the dense model has, and one finds an answer that it has not."""
    made = {"task": "t", "blocks": 10, "turn": None}
    table = pd.DataFrame(
        [
            {"policy": "dense", "example": "a/1", "correct": 1.0, "skipped": 0},
            {"policy": "dense", "example": "a/2", "correct": 0.0, "skipped": 0},
            *({"policy": "x", "example": "a/1", "correct": value, "skipped": 5} for value in (0.0, 1.0)),
            *({"policy": "x", "example": "a/2", "correct": value, "skipped": 5} for value in (1.0, 0.0)),
        ]
    ).assign(**made)
    turns = table.assign(turn=[1, 2, 1, 1, 2, 2], conversation="a")
    for each, units, loss in ((table, 2, 0.25), (turns, 1, 0.25)):
        (row,) = st.tune(each, budget=0.3).evidence.to_dict("records")
        assert (row["n"], row["loss"]) == (units, loss)


def test_settings_are_ranked_by_the_bytes_that_they_leave_unread():
    """A narrow policy that touches every block saves less than one that skips half of them."""
    table = rows(shares=[0.1, 0.2])
    table["ffn_bytes"] = 100.0
    table["unread_bytes"] = table["policy"].map({"dense": 0.0, "skip 0.10": 10.0, "skip 0.20": 5.0})
    half = st.policies.Narrow(0.75, st.policies.Arrays({}), "made")
    policies = {"skip 0.10": st.StaticFFN((1,)), "skip 0.20": st.StaticFFN((1, 2), action=half)}
    tuned = st.tune(table, budget=0.5, policies=policies)
    assert tuned.setting == "skip 0.10" and tuned.policy is policies["skip 0.10"]
    assert tuned.evidence["unread"].tolist() == [0.1, 0.05] and tuned.evidence["skipped"].tolist() == [0.1, 0.2]
    assert tuned.sentence.startswith("skip 0.10 leaves 10.0% of the FFN bytes unread and loses ")
    told = st.tune(table, budget=0.5, confidence=0.9, policies=policies)
    assert told.setting == "skip 0.10" and (tuned.budget, tuned.confidence, told.confidence) == (0.5, None, 0.9)
    without = table.drop(columns="unread_bytes")
    expected = (
        "expected rows with the columns unread_bytes and ffn_bytes, since 'skip 0.20' runs something in place of the "
        "blocks that it skips, of which a share of blocks says nothing; sweep again"
    )
    with pytest.raises(ValueError, match=sentence(expected)):
        st.tune(without, budget=0.5, policies=policies)
    assert st.tune(without, budget=0.5).setting == "skip 0.20"


def test_seeds_of_one_example_count_as_one():
    once, often = st.tune(rows(5), budget=0.05, confidence=0.9), st.tune(rows(5, seeds=4), budget=0.05, confidence=0.9)
    pd.testing.assert_frame_equal(once.evidence, often.evidence)


def test_turns_of_one_conversation_count_as_one():
    table = rows(6)
    turns = pd.concat([table.assign(example=table["example"] + f"/{turn}", turn=turn) for turn in (1, 2)])
    pd.testing.assert_frame_equal(st.tune(turns, budget=0.05).evidence, st.tune(table, budget=0.05).evidence)


def test_a_loss_of_ones_own():
    table = rows(7)
    table["worse"] = np.where(table["policy"] == "dense", 0.0, 0.5 * (1 - table["correct"]))
    tuned = st.tune(table[table["policy"] != "dense"], budget=0.05, loss="worse")
    assert share_of(tuned) > share_of(st.tune(table, budget=0.05))


# ------------------------------------------------------------------------------------------------ bad input


def test_a_budget_that_none_keeps_gives_the_dense_model_and_says_so(caplog):
    table = rows(shares=[0.9, 1.0])
    for confidence in (None, 0.9):
        with caplog.at_level(logging.WARNING):
            tuned = st.tune(table, budget=0.05, confidence=confidence, policies=dict.fromkeys(table["policy"]))
        assert tuned.setting == "dense" and tuned.policy is None
        assert "no setting of 2 keeps within a loss of 0.05 on" in tuned.sentence and tuned.sentence in caplog.text


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (
            lambda t: t,
            {"budget": 0.01, "confidence": 0.9},
            "expected at least 230 examples to test on for a loss of 0.01 at 90%, which takes as many without one "
            "loss, got 225 of 300, the rest drawing up the order; give 308 or more, or promise less",
        ),
        (
            lambda t: t,
            {"budget": 0.0},
            "expected a budget between 0 and 1, got 0.0; 0.05 loses one example in twenty",
        ),
        (
            lambda t: t,
            {"budget": 0.1, "confidence": 1.0},
            "expected a confidence between 0 and 1, got 1.0; 0.05 loses one example in twenty",
        ),
        (
            lambda t: t.assign(correct=2.0),
            {"budget": 0.1},
            "expected losses in [0, 1] in the column 'correct', got 2.0; scale them",
        ),
        (
            lambda t: t[t["policy"] != "dense"],
            {"budget": 0.1},
            "expected every setting on the same examples, 'dense' among them, got skip 0.10 on 300; sweep them "
            "together",
        ),
        (
            lambda t: t.iloc[:-1],
            {"budget": 0.1},
            "expected every setting on the same examples, 'dense' among them, got dense on 300, skip 0.10 on 299; "
            "sweep them together",
        ),
        (
            lambda t: t.drop(columns="correct"),
            {"budget": 0.1},
            "expected rows with a column 'correct', got policy, example, skipped, task, blocks; run them with sweep",
        ),
    ],
)
def test_bad_input_is_named(change, options, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        st.tune(change(rows(shares=[0.1])), **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"policies": {"dense": None}},
            "expected policies of all settings in the rows, got none for 'skip 0.10'; give those that sweep was given, "
            "by the same names",
        ),
        (
            {"confirm": rows(shares=[0.1], n=20)},
            "expected rows of other examples to confirm on, got 20, 20 of which the choice is made on; give examples "
            "held out, or confirm= as a share of these, such as 0.25",
        ),
        (
            {"confirm": elsewhere(rows(shares=[0.2], n=20))},
            "expected rows of 'skip 0.10', the choice, to confirm it on, got those of dense, skip 0.20; sweep it on "
            "these examples too",
        ),
        (
            {"confirm": 1.0},
            "expected a share of the examples to confirm on, between 0 and 1, that leaves some of 300 on either side, "
            "got 1.0; 0.25 keeps a quarter",
        ),
    ],
)
def test_what_cannot_be_chosen_or_confirmed_is_refused(options, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        st.tune(rows(shares=[0.1]), budget=0.1, **options)
