"""The hub adapter on local files: what `datasets` opens by name it opens here by path."""

import json
import re
import sys

import pytest

from saturation import tasks
from saturation.tasks import HUB, HubSet, hub

datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Nothing is left in the user's cache; what is opened is local."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)


@pytest.fixture
def folder(tmp_path):
    """Write rows as the test split of a folder, as a data set of that name would hold them."""

    def write(*rows, split="test"):
        place = tmp_path / "set"
        place.mkdir(exist_ok=True)
        datasets.Dataset.from_list(list(rows)).to_parquet(place / f"{split}.parquet")
        return str(place)

    return write


def local(name, path, **changes):
    """A ready set, read from a folder instead of the hub."""
    from dataclasses import replace

    return replace(HUB[name], name=path, config=None, split="test", **changes)


def test_own_columns_of_a_local_file(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"q": "Who?", "meta": {"right": ["I", "me"]}, "topic": "self"}), encoding="utf-8")
    task = hub(
        "json",
        data_files=str(path),
        split="train",
        columns={"question": "q", "answers": "meta.right", "kind": "topic"},
        template="Q: {question}\nA:",
        score="answer",
    )
    (example,) = task
    assert (example.prompt, example.answers, example.kind) == ("Q: Who?\nA:", ("I", "me"), "self")
    assert (task.name, task.score, task.source) == ("json", "answer", "json [train]")


def test_every_ready_set_says_that_it_is_untested():
    assert {"triviaqa", "cnn_dailymail", "c4", "gsm8k", "svamp", "commonsense_qa", "wikitext-2", "freebaseqa"} <= set(
        HUB
    )
    assert {one.status for one in HUB.values()} == {"untested: could not be run offline"}
    assert HubSet("x", "text", {"text": "t"}).status != HUB["c4"].status


ROWS = {
    "triviaqa": {"question_id": "t1", "question": "Who?", "answer": {"aliases": ["I", "Me"], "value": "I"}},
    "freebaseqa": {
        "Question-ID": "f1",
        "RawQuestion": "Who?",
        "Parses": {"Answers": [{"AnswersName": [["i", "me"]]}, {"AnswersName": [["i"]]}]},
    },
    "cnn_dailymail": {"id": "c1", "article": "One two. @highlight One.", "highlights": "One."},
    "c4": {"text": "Once upon a time.", "url": "u"},
    "gsm8k": {"question": "How many?", "answer": "500 + 500 = <<500+500=1000>>1,000\n#### 1,000"},
    "svamp": {"ID": "s1", "Type": "Sum", "Body": "Two and 3", "Question": "How many?", "Answer": "5.0"},
    "commonsense_qa": {
        "id": "q1",
        "question": "Where?",
        "choices": {"label": ["A", "B"], "text": ["here", "there"]},
        "answerKey": "B",
    },
    "wikitext-2": {"text": " = One = \n"},
    "pile": {"text": "Once.", "meta": "x"},
    "oscar": {"id": 1, "text": "Once."},
    "redpajama": {"text": "Once.", "meta": "{}"},
    "mawps": {"id": "m1", "question": "How many?", "result": "3", "equation": "x = 1 + 2"},
    "e-snli": {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0, "explanation_1": "Rain wets."},
    "anli": {"uid": "a1", "premise": "It rains.", "hypothesis": "It is dry.", "label": 2, "reason": "Rain wets."},
    "race": {"article": "It rained.", "question": "Was it wet?", "options": ["no", "yes"], "answer": "B"},
    "winogrande": {"sentence": "_ rained.", "option1": "It", "option2": "She", "answer": "1"},
    "mt_bench": {"prompt_id": 81, "category": "math", "prompt": ["1 + 1?", "And 2?"], "reference": ["2", "4"]},
}
EXPECTED = {
    "triviaqa": {"id": "t1", "prompt": "Question: Who?\nAnswer:", "answers": ("I", "Me"), "stop": "\n"},
    "freebaseqa": {"id": "f1", "prompt": "Question: Who?\nAnswer:", "answers": ("i", "me")},
    "cnn_dailymail": {"kind": "short", "prompt": "Article: One two.\nSummary:", "references": ("One.",)},
    "c4": {"text": "Once upon a time.", "prompt": ""},
    "gsm8k": {"prompt": "Question: How many?\nAnswer:", "answers": ("1000",), "reasoning": "500 + 500 = 1,000"},
    "svamp": {"id": "s1", "kind": "Sum", "prompt": "Question: Two and 3. How many?\nAnswer:", "answers": ("5",)},
    "commonsense_qa": {"choices": ("here", "there"), "correct": 1, "prompt": "Question: Where?\nAnswer:"},
    "wikitext-2": {"text": "= One ="},
    "pile": {"text": "Once."},
    "oscar": {"text": "Once."},
    "redpajama": {"text": "Once."},
    "mawps": {"id": "m1", "prompt": "Question: How many?\nAnswer:", "answers": ("3",)},
    "e-snli": {
        "prompt": "Premise: It rains.\nHypothesis: It is wet.\nAnswer:",
        "choices": ("yes", "unknown", "no"),
        "correct": 0,
        "reasoning": "Rain wets.",
    },
    "anli": {"id": "a1", "correct": 2, "reasoning": "Rain wets."},
    "race": {"prompt": "Article: It rained.\nQuestion: Was it wet?\nAnswer:", "choices": ("no", "yes"), "correct": 1},
    "winogrande": {"choices": ("It", "She"), "correct": 0},
    "mt_bench": {"kind": "math", "prompt": "1 + 1?", "turns": ("And 2?",), "replies": ("2", "4")},
}


@pytest.mark.parametrize("name", HUB)
def test_ready_sets_read_rows_of_their_shape(name, folder):
    task = hub(local(name, folder(ROWS[name])), examples=1)
    assert task.score == HUB[name].score
    for field, value in EXPECTED[name].items():
        assert getattr(task.examples[0], field) == value


def test_highlights_are_never_in_the_article(folder):
    raw = {"id": "1", "article": "Rain fell.\n\n@highlight\n\nIt rained", "highlights": "It rained"}
    (example,) = hub(local("cnn_dailymail", folder(raw)), examples=9)
    assert example.references == ("It rained",) and "It rained" not in example.prompt
    assert example.prompt == "Article: Rain fell.\nSummary:"


def test_articles_fall_into_three_bins_of_length(folder):
    rows = [{"id": str(n), "article": "word " * n, "highlights": "w"} for n in (449, 450, 899, 900)]
    task = hub(local("cnn_dailymail", folder(*rows)), examples=9)
    assert [example.kind for example in task] == ["short", "medium", "medium", "long"]


def test_wikitext_rows_are_joined_into_articles(folder):
    rows = [{"text": text} for text in (" = One = \n", "\n", " Of one . \n", "\n", " = Two = \n", "\n", " Of two . \n")]
    assert [example.text.split()[1] for example in hub(local("wikitext-2", folder(*rows)))] == ["One", "Two"]


def test_a_stream_is_read_only_as_far_as_asked(folder, monkeypatch):
    path, read = folder(*({"text": f"text {n}"} for n in range(50))), []
    load = datasets.load_dataset

    def counted(*args, **options):
        assert options["streaming"] is True
        return (read.append(row) or row for row in load(*args, **options))

    monkeypatch.setattr(datasets, "load_dataset", counted)
    task = hub(local("c4", path), examples=3)
    assert [example.text for example in task] == ["text 0", "text 1", "text 2"] and len(read) == 3
    sentence = (
        f"expected examples= for {path}, which is read row by row and may have no end in sight, got none; say how "
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        hub(local("c4", path))


def test_a_missing_column_is_named_with_those_there(folder):
    path = folder({"question": "Who?", "answer": {"value": "I"}, "question_id": "1"})
    sentence = (
        f"expected a column 'answer.aliases' in {path} [test], but found no 'aliases' among value; name the right one "
        "with columns="
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        hub(local("triviaqa", path))
    sentence = (
        f"expected a column 'prompt' in {path} [test], but found no 'prompt' among question, answer, question_id; "
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        hub(path, columns={"prompt": "prompt"}, score="answer")


def test_an_empty_split(tmp_path):
    schema = datasets.Features({"text": datasets.Value("string")})
    datasets.Dataset.from_dict({"text": []}, features=schema).to_parquet(tmp_path / "test.parquet")
    sentence = (
        f"expected examples in split 'test' of {tmp_path}, got none; name another split, or check that examples= is "
        "at least 1"
    )
    empty = {"columns": {"text": "text"}, "score": "text", "examples": 5}
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        hub(str(tmp_path), streaming=True, **empty)
    with pytest.raises(ValueError, match="corresponds to no data"):  # datasets says it itself
        hub(str(tmp_path), **empty)


def test_a_set_or_split_that_is_not_there(folder):
    path = folder({"text": "t"})
    with pytest.raises(ValueError, match=re.escape(f"expected {path} [dev] to be a data set that can be reached")):
        hub(path, split="dev", columns={"text": "text"}, score="text")
    with pytest.raises(
        ValueError, match=r"^expected allenai/c4/en \[validation\] to be a data set that can be reached"
    ):
        hub("c4", examples=1)


def test_what_is_not_said_is_asked_for(folder):
    sentence = (
        f"expected one of the ready sets {', '.join(HUB)}, or columns= and score= for another, got 'someone/set' "
        "without both; say which column holds what, and how answers are scored"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        hub("someone/set", score="answer")
    path = folder({"q": "Who?", "a": "I"})
    sentence = (
        f"expected field 'prompt' for the template of {path}, got question, answers; name its column with columns="
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        hub(path, columns={"question": "q", "answers": "a"}, score="answer")
    with pytest.raises(ValueError, match=re.escape("expected a label among A, B, got ''; name a split with answers")):
        hub(local("commonsense_qa", folder({**ROWS["commonsense_qa"], "answerKey": ""})))


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"^expected the package datasets, .*; pip install 'saturation\[hub\]'$"):
        hub("gsm8k")


def test_columns_template_and_room_can_be_replaced(folder):
    path = folder({"frage": "Wer?", "antwort": "#### 7"})
    task = hub(
        local("gsm8k", path),
        columns={"question": "frage", "answers": "antwort"},
        template="F: {question}",
        max_new_tokens=9,
    )
    assert task.examples[0].prompt == "F: Wer?" and task.examples[0].answers == ("7",) and task.max_new_tokens == 9
    assert tasks.Example(**vars(task.examples[0])) == task.examples[0]
