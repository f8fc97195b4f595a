"""Scores by example: matching, the demo model's answers dense and skipping, intervals and paired tests."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import saturation as st
from saturation.quality import compare, evaluate, evaluating, normalise, summarise
from saturation.quality.collapse import repetition
from saturation.quality.matching import exact, numeric, overlap
from saturation.tasks import Example, Task, bundled

TEXT_COLUMNS = ["text", "answer", "correct", "new_tokens", "ended", "repetition", "collapsed"]


@pytest.fixture(scope="module")
def demo():
    return st.load("demo")


@pytest.fixture(scope="module")
def factoid(demo):
    """Forty questions, dense."""
    return evaluate(*demo, bundled("factoid").head(40), progress=False)


def test_normalised_as_squad_does():
    assert normalise("  The Haven, a  Town! ") == "haven town"
    example = Example("1", answers=("Velmar", "Port Vel"), stop="\n")
    assert exact(" port vel.\nQuestion: Velmar", example) == {"answer": "port vel.", "correct": True}
    assert not exact(" Velmar is a town", example)["correct"]


def test_an_answer_that_normalises_to_nothing_must_be_said():
    example = Example("1", answers=("The The", "!!!"))
    assert [exact(said, example)["correct"] for said in ("", " the the", "!!!", "a")] == [False, True, True, False]


@pytest.mark.parametrize(
    ("new", "right"), [("$1,000", True), ("so 1000.0 in all", True), ("10000", False), ("", False)]
)
def test_numbers_are_compared_as_numbers(new, right):
    assert numeric(new, Example("1", answers=("1000",)))["correct"] is right


def test_overlap_is_that_of_the_best_reference():
    example = Example("1", references=("x", "police killed the gunman"))
    scores = overlap("police kill the gunman", example)
    assert scores["rouge_L"] == pytest.approx(0.75)  # Lin 2004, section 3.1: police the gunman, 3 of 4
    assert overlap("police killed the gunman", example)["chrf"] == pytest.approx(100)


def test_repetition_tells_a_loop_from_a_text():
    assert repetition([1, 2, 3, 4, 5, 6]) == 0 and repetition([1, 2]) == 0
    assert repetition([1, 2] * 20) == pytest.approx(1 - 2 / 37)


def test_the_trained_model_knows_its_facts(factoid):
    assert [*TEXT_COLUMNS] == [name for name in factoid if name in TEXT_COLUMNS]
    assert factoid["correct"].sum() >= 38
    assert factoid["ended"].all() and not factoid["collapsed"].any()
    assert factoid["blocks"].sum() == 0, "a dense run has no ledger"
    examples = bundled("factoid").head(40)
    assert factoid["example"].tolist() == [example.id for example in examples]
    own = [exact(text, example)["correct"] for text, example in zip(factoid["text"], examples, strict=True)]
    assert factoid["correct"].tolist() == own, "rows are in the task's order, though batched by length"


def test_the_untrained_model_knows_none(demo):
    model, tokenizer = demo
    table = evaluate(st.untrained(model), tokenizer, bundled("factoid").head(20), progress=False)
    assert table["correct"].sum() == 0


def test_a_policy_that_never_skips_scores_as_the_dense_model(demo, factoid):
    never = evaluate(*demo, bundled("factoid").head(40), policy=st.FFNSkip(None), progress=False)
    pd.testing.assert_frame_equal(never[TEXT_COLUMNS], factoid[TEXT_COLUMNS])
    assert never["skipped"].sum() == 0 and never["blocks"].sum() > 0


def test_skipped_blocks_are_counted_on_the_answers_own_tokens(demo):
    """A static policy skips the same at every token, so the counts follow from the lengths alone."""
    task = bundled("factoid").head(12)
    table = evaluate(*demo, task, policy=st.StaticFFN(layers=(5, 6)), batch_size=5, progress=False)
    assert (table["blocks"] == 16 * (table["new_tokens"] - 1)).all()
    assert (table["skipped"] == 2 * (table["new_tokens"] - 1)).all()
    assert (table["answer_skipped"] * 8 == table["answer_blocks"]).all()
    assert (table["answer_blocks"] < table["blocks"]).all(), "the end token is no part of the answer"
    tokenizer = demo[1]
    own = [len(tokenizer(" " + answer, add_special_tokens=False).input_ids) for answer in table["answer"]]
    assert table["answer_blocks"].tolist() == [16 * (n - 1) for n in own]


def test_batches_and_order_do_not_change_an_answer(demo, factoid):
    one = evaluate(*demo, bundled("factoid").head(40), batch_size=1, progress=False)
    assert (one["answer"] == factoid["answer"]).all()


def test_the_likeliest_choice_is_taken(demo):
    """Choices made of the questions whose answers the model knows."""
    examples = [
        Example(e.id, prompt=e.prompt, choices=(other.answers[0], e.answers[0]), correct=1)
        for e, other in zip(bundled("factoid").head(20), bundled("factoid").examples[20:40], strict=True)
        if other.answers[0] != e.answers[0]
    ]
    task = Task("choices", "choice", tuple(examples))
    table = evaluate(*demo, task, progress=False)
    assert table["correct"].mean() >= 0.95
    skipping = evaluate(*demo, task, policy=st.StaticFFN(layers=(0,)), progress=False)
    assert (skipping["skipped"] * 16 == skipping["blocks"]).all() and skipping["skipped"].sum() > 0
    assert skipping["correct"].mean() < 0.95, "the first layer is not saturated"


def test_per_character_means_the_characters_of_the_choice(demo, monkeypatch):
    """Not the space before it, which would favour short ones: 1 nat for 1 character against 3.2 for 4."""
    read = evaluating.losses

    def known(model, tokenizer, pairs, **options):
        return read(model, tokenizer, pairs, **options).assign(nll=[1.0, 3.2])

    monkeypatch.setattr(evaluating, "losses", known)
    task = Task("choices", "choice", (Example("1", prompt="Who?", choices=("I", "Mara"), correct=1),))
    assert evaluate(*demo, task, progress=False)[["correct", "correct_norm"]].values.tolist() == [[False, True]]


def test_text_is_scored_as_losses_does(demo):
    task = bundled("stories").head(6)
    table = evaluate(*demo, task, progress=False)
    plain = st.quality.losses(*demo, [example.text for example in task], progress=False)
    np.testing.assert_allclose(table["nll"], plain["nll"], rtol=1e-5)
    (row,) = summarise(table).to_dict("records")
    assert row["score"] == "nll" and row["mean"] == pytest.approx(plain["nll"].sum() / plain["tokens"].sum())


def test_summaries_are_scored(demo):
    table = evaluate(*demo, bundled("summaries").head(9), progress=False)
    assert set(table["kind"]) == {"short", "medium", "long"}
    assert table["rouge_L"].mean() > 0.5 and table["chrf"].between(0, 100).all()


def rows(correct: list[bool], policy: str = "p") -> pd.DataFrame:
    examples = [str(i) for i in range(len(correct))]
    made = pd.DataFrame({"task": "t", "example": examples, "policy": policy, "correct": correct})
    return made.assign(skipped=1, blocks=4, answer_skipped=0, answer_blocks=2)


def test_shares_have_wilsons_interval():
    (row,) = summarise(rows([True] * 9 + [False])).to_dict("records")
    z, p, n = stats.norm.ppf(0.975), 0.9, 10  # Wilson's formula, written out
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (row["n"], row["mean"], row["decode"], row["answer"]) == (10, 0.9, 0.25, 0)
    assert row["low"] == pytest.approx((middle - half) / (1 + z * z / n))
    assert row["high"] == pytest.approx((middle + half) / (1 + z * z / n))


def test_a_comparison_is_paired_and_exact():
    dense, sparse = rows([True] * 20), rows([False] * 6 + [True] * 14)
    found = compare(sparse, dense)
    assert (found["n"], found["lost"], found["won"]) == (20, 6, 0)
    assert found["p"] == pytest.approx(2 * 0.5**6) and found["difference"] == pytest.approx(-0.3)
    assert compare(sparse.sample(frac=1, random_state=0), sparse)["lost"] == 0, "paired by example, not by row"
    assert compare(dense, dense)["p"] == 1
    sentence = "got 19 and 20 rows with 19 examples in common; evaluate both on one task"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        compare(sparse.iloc[1:], dense)


def test_a_score_that_is_not_there_is_answered_with_those_that_are():
    dense = rows([True] * 4).assign(repetition=0.0)
    sentence = "expected a score that both tables have, correct, repetition, got 'foo'; name one of them"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        compare(dense, dense, score="foo")


def test_a_batch_has_at_least_one_example(demo):
    sentence = "expected batch_size >= 1, got 0; 1 takes one example at a time"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        evaluate(*demo, bundled("factoid").head(2), batch_size=0, progress=False)


def test_what_one_run_has_no_value_for_is_not_compared():
    scored = rows([True] * 4).assign(judge=[7.0, 8, np.nan, 5]), rows([True] * 4).assign(judge=[9.0, 8, 3, np.nan])
    found = compare(*scored, score="judge")
    assert (found["n"], found["difference"]) == (2, -1)
    sentence = "expected 'judge' of the same examples in both tables, got no example that has both"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        compare(scored[0].assign(judge=np.nan), scored[1], score="judge")


def test_turns_of_a_conversation_are_one_observation_of_a_share_too():
    """Six turns that changed in two conversations are two observations, not six."""
    talks = [name for name in "abcd" for _ in range(3)]
    dense = rows([True] * 12).assign(conversation=talks, collapsed=False).drop(columns="correct")
    sparse = dense.assign(collapsed=[name in "ab" for name in talks])
    found = compare(sparse, dense, score="collapsed")
    assert (found["n"], found["won"], found["lost"], found["p"], found["difference"]) == (12, 2, 0, 0.5, 0.5)


def test_losses_are_compared_per_token():
    dense = rows([True] * 2).assign(nll=[10.0, 30.0], tokens=[10, 10]).drop(columns="correct")
    found = compare(dense.assign(nll=[12.0, 30.0]), dense, score="nll")
    assert found["difference"] == pytest.approx(2 / 20)


def test_one_example_has_no_interval():
    (row,) = summarise(rows([True]).assign(chrf=40.0).drop(columns="correct")).to_dict("records")
    assert row["mean"] == 40 and np.isnan([row["low"], row["high"]]).all()


def test_a_collapse_is_compared_by_outcome():
    """A right answer is no collapse, whatever the alarm says."""
    dense = rows([True] * 6).assign(collapsed=[True] * 6, outcome="right")
    sparse = rows([False] * 6).assign(collapsed=[True] * 6, outcome=["collapsed"] * 5 + ["wrong"])
    found = compare(sparse, dense, score="collapsed")
    assert (found["won"], found["lost"]) == (5, 0) and found["difference"] == pytest.approx(5 / 6)
    assert compare(sparse, dense, score="wrong")["won"] == 1


def test_turns_enter_a_test_as_one_observation():
    made = rows([True] * 20).assign(conversation=[str(i // 2) for i in range(20)])
    ours, theirs = (made.assign(rouge_L=np.random.default_rng(seed).random(20)) for seed in (0, 1))
    means = (ours["rouge_L"] - theirs["rouge_L"]).groupby(made["conversation"]).mean()
    assert compare(ours, theirs, score="rouge_L")["p"] == pytest.approx(stats.wilcoxon(means).pvalue)
