"""Tasks: the bundled ones, anybody's JSON lines with errors that name the place, and published files."""

import ast
import json
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from saturation import tasks
from saturation.quality.matching import numeric
from saturation.tasks import Example, Task

REAL = os.environ.get("SATURATION_REAL_DATA")
real = pytest.mark.skipif(not REAL, reason="SATURATION_REAL_DATA names no folder of published files")


def lines(tmp_path: Path, *given: object) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in given), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", tasks.names())
def test_every_bundled_file_is_a_task(name):
    task = tasks.bundled(name)
    assert task.name == name and len(task) >= 20
    assert all(example.prompt or example.text for example in task)


def test_bundled_tasks_are_scored_as_their_data_sheet_says():
    expected = {
        "factoid": "answer",
        "problems": "answer",
        "choices": "choice",
        "entailment": "choice",
        "conversations": "conversation",
        "summaries": "summary",
        "stories": "text",
    }
    assert {name: tasks.bundled(name).score for name in expected} == expected
    assert tasks.bundled("factoid").examples[0].answers == ("silver bagpipe", "silver bagpipes")


def test_an_unknown_bundled_task_lists_those_there_are():
    known = ", ".join(tasks.names())
    with pytest.raises(ValueError, match=re.escape(f"expected a bundled task among {known}, got 'facts'; choose one")):
        tasks.bundled("facts")


def test_own_lines_of_each_kind(tmp_path):
    def only(line: dict, **options: object) -> tuple[str, Example]:
        task = tasks.read(lines(tmp_path, line), **options)
        return task.score, task.examples[0]

    score, example = only({"prompt": "2 + 2 =", "answers": ["4", "four"], "stop": "\n", "kind": "sums"})
    assert (score, example.answers, example.kind, example.id) == ("answer", ("4", "four"), "sums", "own-000")
    score, example = only({"prompt": "p", "choices": ["a", "b"], "answer": "b"})
    assert (score, example.correct) == ("choice", 1)
    assert only({"prompt": "p", "choices": ["a", "b"], "answer": 0})[1].correct == 0
    score, example = only({"turns": ["Hello.", "And now?"]})
    assert (score, example.prompt, example.turns) == ("conversation", "Hello.", ("And now?",))
    assert only({"text": "Once."})[0] == "text"
    score, example = only({"q": "Who?", "answers": ["I"]}, template="Q: {q}\nA:")
    assert example.prompt == "Q: Who?\nA:"


WRONG = {
    "no JSON": (
        "{nope",
        "expected one JSON object per line, got Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1); correct the line",
    ),
    "no object": ([1], "expected a JSON object, got list; correct the line"),
    "nothing to score by": (
        {"prompt": "p"},
        "expected one of the fields answers, references, choices, turns, text, got only prompt; correct the line",
    ),
    "no prompt": ({"answers": ["a"]}, "expected field 'prompt' to be a text, got none; correct the line"),
    "answers as text": (
        {"prompt": "p", "answers": "a"},
        "expected field 'answers' to be a list of texts, not empty, got 'a'; correct the line",
    ),
    "no references": (
        {"prompt": "p", "references": []},
        "expected field 'references' to be a list of texts, not empty, got []; correct the line",
    ),
    "answer not among the choices": (
        {"prompt": "p", "choices": ["a", "b"], "answer": "c"},
        "expected field 'answer' to be one of the choices, or its index from 0, got 'c'; correct the line",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_line_is_named_with_its_field(tmp_path, case):
    bad, sentence = WRONG[case]
    path = lines(tmp_path, {"prompt": "fine", "answers": ["a"]}, "", bad)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}, line 3: {sentence}") + "$"):
        tasks.read(path)


def test_a_template_without_its_field(tmp_path):
    path = lines(tmp_path, {"q": "Who?", "answers": ["I"]})
    with pytest.raises(ValueError, match=re.escape("line 1: expected field 'question' for the template, got none;")):
        tasks.read(path, template="{question}")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{0}", "Format string contains positional fields"),
        ("{}", "Format string contains positional fields"),
        ("{q.a}", "'str' object has no attribute 'a'"),
        ("{question", "expected '}' before end of string"),
    ],
)
def test_a_template_that_is_none(tmp_path, template, reason):
    path = lines(tmp_path, {"q": "Who?", "question": "Who?", "answer": "#### 1", "answers": ["I"]})
    sentence = (
        f"expected a template with names of fields in braces, such as '{{question}}', got {template!r} ({reason}); "
        "correct it, and write a brace that is meant as such twice"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        tasks.read(path, template=template)
    with pytest.raises(ValueError, match="^" + re.escape(sentence.replace("q.a", "question.a")) + "$"):
        tasks.published("gsm8k", path, template=template.replace("q.a", "question.a"))


def test_a_template_of_a_published_set_names_its_fields(tmp_path):
    path = lines(tmp_path, {"question": "Who?", "answer": "#### 1"})
    sentence = (
        "expected field 'q' for the template of gsm8k, got id, question, answers, reasoning; correct the template"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        tasks.published("gsm8k", path, template="{q}")


def test_a_mark_of_byte_order_is_no_text(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": "Once."}', encoding="utf-8-sig")
    assert tasks.read(tmp_path / "own.jsonl").examples[0].text == "Once."


def test_files_that_make_no_task(tmp_path):
    with pytest.raises(ValueError, match="expected task 'own' to have examples, got none; is its file"):
        tasks.read(lines(tmp_path, ""))
    mixed = lines(tmp_path, {"prompt": "p", "answers": ["a"]}, {"text": "t"})
    sentence = f"expected {mixed} to be scored in one way, got answer and text; split it into one file for each"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        tasks.read(mixed)
    twice = lines(tmp_path, *[{"id": "x", "text": "t"}] * 2)
    with pytest.raises(ValueError, match="expected examples of task 'own' with an id each, got 'x' twice; rename one"):
        tasks.read(twice)
    missing = tmp_path / "none.jsonl"
    with pytest.raises(FileNotFoundError, match=re.escape(f"but {missing} is none; correct the path")):
        tasks.read(missing)
    with pytest.raises(ValueError, match=r"expected a score among answer, .*, got 'luck'; choose one"):
        Task("t", "luck", (Example("1"),))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", "1000"),
        ("$18", "18"),
        ("#### 18", "18"),
        ("It is 3 and then 2,125.50 dollars.", "2125.5"),
        ("18.0 %", "18"),
        ("-7", "-7"),
        (".5", "0.5"),
        ("-$18", "-18"),
        ("$-18", "-18"),
        ("It falls to \u22125 degrees.", "-5"),
        ("x = -5", "-5"),
        ("10-12", "12"),
        ("10\u221212", "12"),
        ("5% to 10%-12%", "12"),
        ("COVID-19", "19"),
        ("$1,234,567.50", "1234567.5"),
        ("1,0000", None),
        ("3 of 12,5", None),
        ("1, 2, 30", "30"),
        ("none at all", None),
        ("__import__('os').getcwd()", None),
    ],
)
def test_numbers_are_read_not_evaluated(text, value):
    assert tasks.number(text) == (None if value is None else Decimal(value))


def test_no_text_is_ever_evaluated(root):
    """A model's answer, a data set or a judge could hold any code."""
    files = [path for room in ("saturation", "data", "benchmarks") for path in (root / room).rglob("*.py")]
    assert len(files) > 50
    named = [
        f"{path.relative_to(root)}:{node.lineno}: {node.func.id}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in {"eval", "exec", "compile", "__import__"}
    ]
    assert named == []


def test_what_is_scored_stands_between_after_and_stop():
    example = Example("1", stop="\n\n", after="Answer:")
    assert example.scored_part(" 1 + 1 = 2.\nAnswer: 2\n\nProblem: more. Answer: 3") == "2"
    assert Example("1", stop="\n").scored_part(" Velmar\nQuestion:") == "Velmar"


def test_a_foreign_file_is_not_taken_for_a_published_set(tmp_path):
    path = lines(tmp_path, {"prompt": "p"})
    sentence = f"expected {path} to be the file of gsm8k as it is distributed, but reading it gave KeyError: 'answer'; "
    with pytest.raises(ValueError, match=re.escape(sentence)):
        tasks.published("gsm8k", path)
    with pytest.raises(ValueError, match=r"expected a published set among freebaseqa, .*, got 'gsm'; choose one"):
        tasks.published("gsm", path)


def test_freebaseqa_as_json(tmp_path):
    path = tmp_path / "FreebaseQA-eval.json"
    parses = [{"Answers": [{"AnswersName": ["paris", "city of light"]}]}, {"Answers": [{"AnswersName": ["paris"]}]}]
    entry = {"Question-ID": "FreebaseQA-eval-0", "RawQuestion": "Which city?", "Parses": parses}
    path.write_text(json.dumps({"Questions": [entry]}), encoding="utf-8")
    (example,) = tasks.published("freebaseqa", path)
    assert example.answers == ("paris", "city of light") and example.prompt == "Question: Which city?\nAnswer:"


def test_a_template_can_be_replaced(tmp_path):
    path = lines(tmp_path, {"question": "How many?", "answer": "2 x 9 = 18\n#### 18"})
    (example,) = tasks.published("gsm8k", path, template="Q: {question} A:")
    assert example.prompt == "Q: How many? A:" and example.answers == ("18",)


@real
@pytest.mark.parametrize(
    ("name", "file", "examples"),
    [
        ("freebaseqa", "freebaseqa/FreebaseQA-dev.txt", 4011),
        ("gsm8k", "gsm8k/test.jsonl", 1319),
        ("svamp", "svamp/SVAMP.json", 1000),
        ("commonsense_qa", "commonsense_qa/cqa_test.json", 1221),
        ("mt_bench", "mt_bench/question.jsonl", 80),
        ("vicuna", "mt_bench/vicuna_question.jsonl", 80),
        ("wikitext-2", "wikitext-2/test.txt", 60),
    ],
)
def test_published_files_are_read_whole(name, file, examples):
    task = tasks.published(name, Path(REAL) / file)
    assert len(task) == examples
    assert all(example.text or example.prompt for example in task)
    if task.score == "number":
        assert all(tasks.number(answer) is not None for example in task for answer in example.answers)
        assert not any("," in answer or "E" in answer for example in task for answer in example.answers)


@real
def test_real_numbers_are_numbers():
    """GSM8K's own references hold "1,000" and amounts of money; every one is read, none by running it."""
    raw = (Path(REAL) / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in raw]
    task = tasks.published("gsm8k", Path(REAL) / "gsm8k" / "test.jsonl")
    commas = [(said, example) for said, example in zip(answers, task, strict=True) if "," in said]
    assert len(commas) >= 10
    for said, example in commas:
        assert numeric(f"That makes ${said}.", example)["correct"] and numeric(said, example)["correct"]
        assert not numeric(said.partition(",")[0], example)["correct"], "1,000 is not 1"


@real
def test_real_conversations_have_reference_replies_where_their_authors_give_them():
    task = tasks.published("mt_bench", Path(REAL) / "mt_bench" / "question.jsonl")
    assert {len(example.replies) for example in task} == {0, 2}
    kinds = {example.kind for example in task if example.replies}
    assert {"math", "coding", "reasoning"} <= kinds
    assert all(len(example.turns) == 1 for example in task)


@pytest.mark.parametrize("n", [0, -1])
def test_no_examples_cannot_be_asked_for(n):
    sentence = f"expected at least 1 example of task 'factoid', got {n}; ask for more"
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        tasks.bundled("factoid").head(n)
