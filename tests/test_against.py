"""Beside the dense run: drift in evaluate's rows, and collapse told apart from a wrong answer."""

import re

import numpy as np
import pandas as pd
import pytest

import saturation as st
from saturation.quality import against, drift, evaluate, summarise
from saturation.quality.answers import read_ids
from saturation.quality.collapse import distinct, outcome, repetition, runaway, shape
from saturation.tasks import Example, Task, bundled

DRIFT = ["agreement", "diverged", "kl", "kl_max", "dense_nll"]
BROKEN = st.StaticFFN(layers=(0, 1, 2))  # early layers are not saturated


@pytest.fixture(scope="module")
def demo():
    return st.load("demo")


@pytest.fixture(scope="module")
def task():
    return bundled("factoid").head(24)


@pytest.fixture(scope="module")
def dense(demo, task):
    return evaluate(*demo, task, progress=False)


@pytest.fixture(scope="module")
def broken(demo, task, dense):
    return evaluate(*demo, task, policy=BROKEN, dense=dense, progress=False)


def test_repetition_and_distinct_n():
    assert repetition([1, 2, 3, 4, 5, 6]) == 0 and repetition([1, 2]) == 0
    assert repetition([1, 2] * 20) == pytest.approx(1 - 2 / 37)
    assert distinct([1, 2, 1, 2], 1) == 0.5 and distinct([1, 2, 1, 2], 2) == pytest.approx(2 / 3)
    assert distinct([], 1) == 1 and distinct([7], 2) == 1


def test_a_short_text_is_no_loop():
    assert not shape([5] * 7)["collapsed"] and shape([5] * 8)["collapsed"]
    assert not shape(list(range(20)))["collapsed"]


def test_a_runaway_did_not_end_where_the_dense_text_had():
    dense = pd.DataFrame({"ended": [True, True, False, True], "answer_tokens": [4, 7, 4, 4]})
    rows = pd.DataFrame({"ended": [False, False, False, True], "answer_tokens": [12, 12, 12, 12]})
    assert runaway(rows, dense).tolist() == [True, False, False, False]


def test_an_answer_is_right_wrong_or_collapsed():
    rows = pd.DataFrame({"correct": [True, True, False, False], "collapsed": [False, True, False, True]})
    assert outcome(rows).tolist() == ["right", "right", "wrong", "collapsed"]


def test_the_dense_run_beside_itself(demo, task, dense):
    table = against(*demo, task, dense, dense, policy=None, progress=False)
    assert [*table][-6:] == [*DRIFT, "runaway"] and len(table) == 24
    assert (table["agreement"] == 1).all() and table["diverged"].isna().all() and not table["runaway"].any()
    assert (table[["kl", "kl_max"]] == 0).all(axis=None) and table["dense_nll"].between(0, 0.5).all()
    assert (table["outcome"] == "right").sum() == dense["correct"].sum() >= 22


def test_a_broken_model_answers_wrong_or_collapses(broken, dense):
    assert not broken["correct"].any() and set(broken["outcome"]) <= {"wrong", "collapsed"}
    assert (broken["kl"] > 1).all() and (broken["dense_nll"] > 1).all()
    assert broken["diverged"].notna().all() and (broken["kl_max"] >= broken["kl"]).all()
    collapsed = broken["outcome"] == "collapsed"
    assert (collapsed == broken["collapsed"]).all() and (broken["runaway"] <= broken["collapsed"]).all()


def test_the_columns_are_those_of_drift_up_to_the_answers_end(demo, task, dense, broken):
    old, new = read_ids(dense["ids"]), read_ids(broken["ids"])
    ends = [len(ids) - ended for ids, ended in zip(new, broken["ended"], strict=True)]
    assert ends == broken["answer_tokens"].tolist(), "the ids hold the answer and the token that ended it"
    prompts = [example.prompt for example in task]
    alone = drift(*demo, prompts, old, new, policy=BROKEN, progress=False)
    pd.testing.assert_frame_equal(broken[DRIFT], alone[DRIFT], rtol=1e-3, atol=1e-5)


def test_rows_may_come_in_any_order(demo, task, dense, broken):
    mixed = dense.sample(frac=1, random_state=0)
    rows = broken.drop(columns=[*DRIFT, "runaway"]).sample(frac=1, random_state=1)
    table = against(*demo, task, rows, mixed, policy=BROKEN, progress=False)
    pd.testing.assert_frame_equal(table.sort_index()[DRIFT], broken[DRIFT], rtol=1e-3, atol=1e-5)


def test_other_examples_are_refused(demo, task, dense):
    sentence = (
        "expected rows of the dense model on the same examples, got 20 rows with 20 of 24 examples in common; evaluate "
        "both on one task"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        against(*demo, task, dense, dense.head(20), policy=None)


def test_texts_are_compared_token_by_token(demo):
    task = bundled("stories").head(4)
    dense = evaluate(*demo, task, progress=False)
    same = evaluate(*demo, task, policy=st.FFNSkip(None), dense=dense, progress=False)
    assert (same["kl"] == 0).all()
    other = evaluate(*demo, task, policy=st.StaticFFN(layers=(6,)), dense=dense, batch_size=3, progress=False)
    alone = evaluate(*demo, task, policy=st.StaticFFN(layers=(6,)), dense=dense, batch_size=1, progress=False)
    assert (other["kl"] > 0).all()
    np.testing.assert_allclose(other["kl"], alone["kl"], rtol=1e-3)


def test_windows_over_a_text_keep_every_token_once(demo):
    tokenizer = demo[1]
    stories = bundled("stories").head(6)
    long = Task("long", "text", (Example("1", text=" ".join(example.text for example in stories)),))
    ids = tokenizer(long.examples[0].text).input_ids
    assert len(ids) > 1024
    dense = evaluate(*demo, long, stride=700, progress=False)
    assert dense["tokens"].item() == len(ids) - 1
    policy = st.StaticFFN(layers=(0,))
    rows = evaluate(*demo, long, policy=policy, dense=dense, stride=700, progress=False)
    assert rows["kl"].item() > 0.1 and rows["kl_max"].item() > rows["kl"].item()


def test_a_choice_agrees_or_not(demo):
    examples = [Example(e.id, prompt=e.prompt, choices=("horse", "Velmar")) for e in bundled("factoid").head(6)]
    task = Task("choices", "choice", tuple(examples))
    dense = evaluate(*demo, task, progress=False)
    rows = evaluate(*demo, task, policy=BROKEN, dense=dense.assign(answer=["horse"] * 6), progress=False)
    assert rows["agreement"].tolist() == [float(answer == "horse") for answer in rows["answer"]]


def test_outcomes_are_summarised_and_add_up(broken, dense):
    both = pd.concat([dense, broken], ignore_index=True)
    summary = summarise(both).set_index(["policy", "score"])
    for policy in ("dense", BROKEN.describe()):
        shares = summary.loc[policy].loc[["correct", "wrong", "collapsed"]]
        assert shares["mean"].sum() == pytest.approx(1)
        assert (shares["low"] <= shares["mean"]).all() and (shares["mean"] <= shares["high"]).all()
    own = summary.loc[BROKEN.describe()]
    assert own.loc["wrong", "mean"] == (broken["outcome"] == "wrong").mean()
    assert {"agreement", "kl", "dense_nll", "distinct_2"} <= set(own.index)


def test_every_number_stands_beside_all_its_ratios(demo, task):
    """Two of sixteen layers, skipped at every token: the four ratios follow from the policy alone."""
    table = evaluate(*demo, task, policy=st.StaticFFN(layers=(5, 6), sink=0), progress=False)
    (row,) = summarise(table)[lambda found: found["score"] == "correct"].to_dict("records")
    assert (row["nominal"], row["decode"], row["total"], row["answer"]) == (1, 0.125, 0.125, 0.125)
    assert row["unread"] == pytest.approx(0.125), "all blocks are alike"
    decode = evaluate(*demo, task, policy=st.StaticFFN(layers=(5, 6), sink=0, decode_only=True), progress=False)
    (row,) = summarise(decode)[lambda found: found["score"] == "correct"].to_dict("records")
    assert (row["nominal"], row["decode"]) == (1, 0.125) and 0 < row["total"] < 0.125


def test_the_counts_are_the_ledgers(demo):
    """One prompt alone, so that the ratios of the run's own ledger are those of its row."""
    model, tokenizer = demo
    task = bundled("problems").head(1)
    policy = st.FFNSkip(threshold=0.995, cold_start=3, cold_end=2, warmup=4)
    table = evaluate(model, tokenizer, task, policy=policy, progress=False)
    prompts = [task.examples[0].prompt]
    runs = st.generate(model, tokenizer, prompts, policy=policy, max_new_tokens=task.max_new_tokens, progress=False)
    (row,) = summarise(table)[lambda found: found["score"] == "correct"].to_dict("records")
    assert (row["nominal"], row["decode"], row["total"]) == pytest.approx(runs.ledger.ratios)
    assert 0 < row["total"] < row["decode"] < row["nominal"]
    assert row["unread"] == pytest.approx(runs.ledger.unread)
