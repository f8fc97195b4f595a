"""Conversations: turn by turn with the run's own answers, by the chat template or in plain form."""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest

import saturation as st
from saturation.quality import drift, evaluate, summarise
from saturation.quality.answers import read_ids
from saturation.quality.conversations import STOP, asked, transcript
from saturation.tasks import Example, Task, read

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TALKS = Task(
    "talks",
    "conversation",
    (
        Example("a", "facts", "Where was Mara Vance born?", turns=("And what is her pet?",), replies=("Velmar", "")),
        Example("b", "sums", "2 + 2?", turns=("Then 3 + 3?", "And 4 + 4 in words, if you please?")),
        Example("c", "facts", "Hello."),
    ),
    max_new_tokens=10,
)


@pytest.fixture(scope="module")
def demo():
    """The model with its tokenizer, without and with a chat template."""
    model, tokenizer = st.load("demo")
    plain, chatty = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    plain.chat_template, chatty.chat_template = None, TEMPLATE
    return model, plain, chatty


@pytest.fixture(scope="module")
def table(demo):
    return evaluate(demo[0], demo[1], TALKS, progress=False)


def test_the_plain_form_leaves_the_last_turn_open(demo):
    example = TALKS.examples[1]
    told = "User: 2 + 2?\nAssistant: 4\nUser: Then 3 + 3?\nAssistant:"
    assert transcript(example, ["4"]) == told
    assert asked(demo[1], example, ["4"], False) == demo[1](told).input_ids


def test_a_chat_template_gets_the_whole_history(demo):
    ids = asked(demo[2], TALKS.examples[1], ["4"], True)
    assert demo[2].decode(ids) == "<user> 2 + 2?\n<assistant> 4\n<user> Then 3 + 3?\n<assistant>"


def test_a_row_per_turn(table):
    assert table["example"].tolist() == ["a/1", "a/2", "b/1", "b/2", "b/3", "c/1"]
    assert table["conversation"].tolist() == list("aabbbc") and table["turn"].tolist() == [1, 2, 1, 2, 3, 1]
    assert table["kind"].tolist() == ["facts", "facts", "sums", "sums", "sums", "facts"]
    assert "judge" not in table and "correct" not in table and "outcome" not in table
    assert table["rouge_L"].notna().tolist() == [True, False, False, False, False, False], "one reference reply"


@pytest.mark.parametrize("chat", [False, True])
def test_every_turn_is_asked_with_the_answers_before(demo, chat):
    """Against a plain loop over one conversation at a time."""
    model, tokenizer = demo[0], demo[1 + chat]
    table = evaluate(model, tokenizer, TALKS, batch_size=2, progress=False)
    for example in TALKS:
        replies = []
        for turn in range(1 + len(example.turns)):
            prompt = asked(tokenizer, example, replies, chat)
            (new,) = st.generate(model, tokenizer, [prompt], max_new_tokens=10, record=False, progress=False).texts
            row = table[table["example"] == f"{example.id}/{turn + 1}"].iloc[0]
            assert row["text"] == new
            replies.append((new if chat else new.split(STOP)[0]).strip())
            assert row["answer"] == replies[-1]


def test_the_template_is_used_where_there_is_one_unless_refused(demo, table):
    model, plain, chatty = demo
    refused = evaluate(model, chatty, TALKS, chat=False, progress=False)
    assert refused["ids"].tolist() == table["ids"].tolist()
    wrapped = evaluate(model, chatty, TALKS, progress=False)
    assert wrapped["ids"].tolist() != table["ids"].tolist()
    asking = evaluate(model, chatty, TALKS, chat=True, progress=False)
    assert wrapped["ids"].tolist() == asking["ids"].tolist()
    sentence = (
        "expected a tokenizer with a chat template for chat=True, got one without; use chat=False, which asks "
        "conversations as 'User: ...', 'Assistant: ...'"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        evaluate(model, plain, TALKS, chat=True)


def test_other_prompts_are_not_wrapped_by_themselves(demo):
    model, plain, chatty = demo
    task = st.tasks.bundled("factoid").head(4)
    one, other = (evaluate(model, tokenizer, task, progress=False) for tokenizer in (plain, chatty))
    assert one["ids"].tolist() == other["ids"].tolist()
    wrapped = evaluate(model, chatty, task, chat=True, progress=False)
    assert one["ids"].tolist() != wrapped["ids"].tolist()


def test_drift_of_a_turn_is_measured_behind_each_runs_own_history(demo, table):
    model, tokenizer, _ = demo
    policy = st.StaticFFN(layers=(0, 7))
    rows = evaluate(model, tokenizer, TALKS, policy=policy, dense=table, progress=False)
    place = rows["example"].tolist().index("b/2")
    example = TALKS.examples[1]
    theirs, ours = ([asked(tokenizer, example, [one["answer"][place - 1]], False)] for one in (table, rows))
    assert theirs != ours, "the policy changes the first answer"
    texts = [[read_ids(one["ids"])[place]] for one in (table, rows)]
    alone = drift(model, tokenizer, theirs, *texts, policy=policy, sparse_prompts=ours, progress=False)
    for name in alone:
        assert rows[name][place] == pytest.approx(alone[name][0], rel=1e-3), name


def test_turns_of_a_conversation_are_one_observation():
    """Twenty conversations of two like turns are no surer than twenty of one."""
    once = pd.DataFrame(
        {
            "task": "t",
            "policy": "p",
            "example": [f"{i}/1" for i in range(20)],
            "conversation": [str(i) for i in range(20)],
            "rouge_L": np.random.default_rng(0).random(20),
            "collapsed": [i < 5 for i in range(20)],
        }
    )
    twice = pd.concat([once, once.assign(example=once["conversation"] + "/2")], ignore_index=True)
    one, two = (summarise(given).set_index("score") for given in (once, twice))
    assert two["n"].tolist() == [40, 40] and one["n"].tolist() == [20, 20]
    pd.testing.assert_frame_equal(one[["mean", "low", "high"]], two[["mean", "low", "high"]])


def test_lines_may_hold_reference_replies(tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"turns": ["Hi.", "And?"], "replies": ["Hello.", "Bye."]}), encoding="utf-8")
    assert read(path).examples[0].replies == ("Hello.", "Bye.")
    path.write_text(json.dumps({"turns": ["Hi.", "And?"], "replies": ["Hello."]}), encoding="utf-8")
    sentence = f"{path}, line 1: expected field 'replies' to have a text for each of 2 turns, got 1; correct the line"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        read(path)
