"""The tables of data/README.md: where they stand, and what the one of the paper's Table 3 is made of."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import saturation as st
from data import growing, table3
from data.dialogue import replies
from data.page import PAGE, put, table
from saturation.quality import compare, evaluate
from saturation.tasks import bundled


@pytest.fixture(scope="module")
def demo():
    return st.load("demo")


def test_a_table_is_put_between_its_marks_and_nothing_else_moves(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one: begin -->\nold\n<!-- one: end -->\nb\n<!-- two: begin --><!-- two: end -->\n")
    put("one", "\n".join(table({"x": "<", "n": ">"}, [["y", "1"]])), page=page)
    assert page.read_text() == (
        "a\n<!-- one: begin -->\n| x | n |\n|---|--:|\n| y | 1 |\n<!-- one: end -->\nb\n"
        "<!-- two: begin --><!-- two: end -->\n"
    )
    with pytest.raises(ValueError) as caught:
        put("three", "x", page=page)
    assert str(caught.value) == (
        f"expected the marks <!-- three: begin --> and <!-- three: end --> in {page}, got none; "
        "put them where the text goes"
    )


def test_the_page_shows_the_dynamics_that_are_committed():
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition("<!-- dynamics: begin -->\n")[2].partition("\n<!-- dynamics: end -->")[0]
    found = pd.read_csv(PAGE.parent / "demo-model" / "dynamics.csv")
    assert shown.splitlines() == table(dict.fromkeys(growing.HEADS, ">"), growing.rows_of(found))


def test_every_figure_and_file_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w./-]+)\)", text) + [f"tasks/{name}" for name in re.findall(r"`(\w+\.jsonl)`", text)]
    assert len(named) > 10 and [name for name in named if not (PAGE.parent / name).exists()] == []


def test_the_second_reply_is_asked_for_behind_the_reference_of_the_first():
    first, second = replies(0), replies(1)
    assert len(second) == 300 and {example.kind for example in second} - {example.kind for example in first} == {
        "stories"
    }
    own = bundled("conversations").examples[0]
    example = next(example for example in second if example.id == own.id)
    before = next(example for example in first if example.id == own.id)
    assert before.prompt == f"User: {own.prompt}\nAssistant:"
    assert example.prompt == f"{before.prompt} {before.answers[0]}<|eos|>\nUser: {own.turns[0]}\nAssistant:"


def test_table_3_skips_as_much_as_asked_while_the_answer_is_written_and_tests_on_pairs(demo):
    task = bundled("factoid").head(12)
    dense = evaluate(*demo, task, progress=False)
    rules = table3.policies(*demo, task, dense)
    assert list(rules)[:5] == ["dense", "random 5%", "random, warm 5%", "static 5%", "FFN-SkipLLM 5%"]
    assert len(rules) == 1 + 4 * len(table3.RATIOS)
    tried = ("random 25%", "static 25%", "FFN-SkipLLM 25%", "random, warm 25%")
    found = {name: evaluate(*demo, task, policy=rules[name], progress=False) for name in tried}
    for name, rows in found.items():
        skipped = rows["answer_skipped"].sum() / rows["answer_blocks"].sum()
        low = 0.15 if "LLM" in name else 0.25  # it is fitted to the token that ends an answer, too
        assert low <= skipped <= 0.25, name
    rows = pd.concat([own.assign(policy=name) for name, own in {"dense": dense, **found}.items()])
    lines = {line[0]: line for line in table3.rows_of(rows, "correct")}
    column = dict(zip(table3.HEADS, range(len(table3.HEADS)), strict=True))
    assert lines["full"][column["score"]] == "100.0 %" and lines["full"][column["p, with dense"]] == ""
    paired = compare(found["static 25%"], found["random 25%"])
    assert lines["static"][column["p, with random"]] == table3._p(paired["p"])
    against = compare(found["random 25%"], dense)
    assert lines["random"][column["lost / won"]] == f"{against['lost']} / {against['won']}" != "0 / 0"
    assert lines["random"][column["p, with random"]] == ""
