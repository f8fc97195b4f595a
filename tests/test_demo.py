"""The demo on models that are not the bundled one: what it measures on, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import saturation as st
from data import demo_results
from saturation.cli import app, demo, demo_inputs
from saturation.cli.arguments import read_texts
from saturation.policies import SINK
from saturation.tasks import bundled
from tests.families import LAYERS, build

WORDS = "the quiet lake lay under the old hill and every boat on it was blue or green until the autumn came".split()
TEXTS = [" ".join([*WORDS[place:], *WORDS[:place]]) for place in range(10)]


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def tokenizer():
    return st.load("demo")[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tokenizer) -> Path:
    """A folder with a random model of three layers that reads with the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny-0.5"
    build("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "own.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tiny, own, tmp_path_factory) -> tuple[Path, str]:
    """What one run wrote, and what it said."""
    out = tmp_path_factory.mktemp("runs") / "made"
    code, said, err = run("demo", "--model", tiny, "--texts", own, "-o", out)
    assert code == 0, err
    return out, said


def test_it_measures_any_model_on_given_texts(made, tiny, own):
    out, said = made
    model, tokenizer = st.load(tiny)
    read = st.Trace.load(out / "read.parquet")
    assert read.layers == LAYERS and read.tokens["sequence"].nunique() == 5, "every other text"
    assert f"the first {demo_inputs.CUT} tokens of texts of {own}" in said and str(tiny) in said
    layers = pd.read_csv(out / "layers.csv")
    scored = demo_inputs.cut(TEXTS[0::2], tokenizer)
    dense = st.quality.losses(model, tokenizer, scored, progress=False)
    without = st.quality.losses(model, tokenizer, scored, policy=st.StaticFFN((1,)), progress=False)
    assert layers["loss rise"][1] == pytest.approx(st.quality.rise(without, dense)[0], rel=1e-4)
    every = st.quality.losses(model, tokenizer, scored, policy=st.StaticFFN((2,), sink=0), progress=False)
    assert layers["loss rise, sink too"][2] == pytest.approx(st.quality.rise(every, dense)[0], rel=1e-4)
    assert layers["cosine"].to_numpy() == pytest.approx(read.similarity.mean(axis=0), abs=1e-6)


def test_policies_are_fitted_to_the_other_texts(made, tiny):
    out, _ = made
    model, tokenizer = st.load(tiny)
    calibration = st.record(model, tokenizer, demo_inputs.cut(TEXTS[1::2], tokenizer), progress=False)
    tradeoff = pd.read_csv(out / "tradeoff.csv")
    settings = set(tradeoff["setting"])
    start, end = st.policies.cold_regions(calibration)
    for ratio in demo.RATIOS:
        cold = {"cold_start": start, "cold_end": end}
        assert st.FFNSkip.fit(calibration, ratio=ratio, warmup=0, **cold).describe() in settings
    bare = tradeoff.loc[tradeoff["policy"].str.contains("sink 0"), "setting"]
    assert len(bare) == (len(demo.RATIOS) if SINK else 0), "the rule without a sink stands beside it"
    assert bare.str.endswith(", sink 0").all()


def test_it_asks_the_model_to_go_on_and_compares_with_the_dense_run(made):
    out, said = made
    answers = pd.read_csv(out / "answers.csv")
    assert set(answers["task"]) == {"continuations"} and set(answers["score"]) == {"agreement"}
    assert answers.set_index("policy")["mean"]["dense"] == 1 and "4/5 asking" in said


def test_its_pictures_have_the_width_of_a_column_or_page(made):
    out, said = made
    widths = {path.stem: st.figures.measure(path).width for path in out.glob("*.pdf")}
    page = {"distribution", "tokens"}
    assert set(widths) == page | {"layers", "growth", "tradeoff", "tradeoff_continuations"}
    wide = {name for name, width in widths.items() if width == pytest.approx(6.3, abs=0.01)}
    assert wide == page and all(f"  {name} " in said for name in widths)


def test_a_run_becomes_tables_of_its_own_numbers(made, tiny):
    out, _ = made
    run_ = demo_results.Run.of(out)
    tradeoff, layers = (pd.read_csv(out / f"{name}.csv") for name in ("tradeoff", "layers"))
    assert run_.about["model"] == str(tiny) and set(run_.about["seconds"]) == set(demo.STEPS)
    told, front = demo_results.report([run_]), demo_results.front([run_])
    for row in tradeoff.itertuples():
        assert f"| {100 * row.ratio:.1f} % | {row.loss:+.3f} [{row.low:.3f}, {row.high:.3f}] |" in told
        assert f" {row.loss:+.3f} ({100 * row.ratio:.0f} %) " in front
    assert f"| 2 | {layers['cosine'][2]:.4f} | {layers['rho'][2]:.3f} | {layers['loss rise'][2]:+.3f} [" in told
    assert "| continuations | 5 | dense | 0.0 % | 0.0 % | 1.000 [1.000, 1.000] |" in told
    assert front.count("| FFN-SkipLLM |") == 1 and front.count("asked 5 %") == 1


def test_it_ends_with_one_sentence_where_texts_are_too_few(tiny, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("\n".join([*TEXTS[:3], "too short"]), encoding="utf-8")
    code, _, err = run("demo", "--model", tiny, "--texts", few, "-o", tmp_path / "out")
    assert code == 1 and err.splitlines()[-1] == (  # behind the bar of loading
        f"saturation: expected at least 4 texts of 16 tokens or more in {few}, got 3; give more, one to a line or as "
        "'text' in the lines of a .jsonl file"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "folder"), [("demo", "demo"), ("Qwen/Some-0.5B", "demo_Some-0.5B")])
def test_each_model_has_a_folder_of_its_own(name, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(demo, "demonstrate", lambda out, say, **how: asked.append((out, how)))
    code, _, err = run("demo", "--model", name)
    assert code == 0, err
    assert asked == [(Path("runs") / folder, {"name": name, "texts": None, "source": None})]


def test_texts_are_files_bundled_tasks_or_published_sets(tmp_path):
    lines = [{"prompt": "A question?", "text": "A question? An answer."}, {"prompt": "Another?"}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert read_texts(str(tmp_path / "own.jsonl")) == ["A question? An answer.", "Another?"]
    assert read_texts("stories") == [example.text for example in bundled("stories")]
    (tmp_path / "wiki.txt").write_text(" \n = One = \n \n It begins . \n", encoding="utf-8")
    (text,) = read_texts(f"wikitext-2={tmp_path / 'wiki.txt'}")
    assert text.endswith("It begins .")


def test_texts_that_are_nothing_are_named(tmp_path):
    code, _, err = run("demo", "--texts", "nowhere.txt", "-o", tmp_path / "out")
    assert code == 1 and err.startswith("saturation: expected a bundled task among ") and "'nowhere.txt'" in err


# --- what a model is measured on ------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A folder of real data as the sets are distributed, with a few made-up lines each."""
    article = " \n = Name {0} = \n \n " + "Name {0} is a thing of many words . " * 60 + "\n"
    questions = [f"which thing is number {number} | answer {number} " for number in range(40)]
    choices = [
        {"id": f"{n}", "question": f"Which is {n}?", "choices": ["one", "two"], "answer": "two"} for n in range(50)
    ]
    kinds = [
        {"question_id": n, "category": f"kind {n % 8}", "turns": ["Say something. " * (40 - n), "And then?"]}
        for n in range(40)
    ]
    files = {
        "wikitext-2": "".join(article.format(number) for number in range(30)),
        "freebaseqa": "\n".join(questions),
        "commonsense_qa": "\n".join(map(json.dumps, choices)),
        "mt_bench": "\n".join(map(json.dumps, kinds)),
    }
    for name, path in demo_inputs.REAL.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(files[name], encoding="utf-8")
    monkeypatch.setenv("SATURATION_REAL_DATA", str(tmp_path))
    return tmp_path


def test_real_tasks_come_from_the_folder_of_real_data(published, tokenizer):
    given = demo_inputs.material("tiny", tokenizer, None)
    assert "WikiText-2" in given.words and list(given.tasks) == ["freebaseqa", "commonsense_qa", "mt_bench"]
    assert {len(ids) for ids in (*given.scored, *given.calibration)} == {demo_inputs.CUT}
    assert not {tuple(ids) for ids in given.scored} & {tuple(ids) for ids in given.calibration}
    facts, _ = given.tasks["freebaseqa"]
    form = (
        "Question: which thing is number 38\nAnswer: answer 38\n\nQuestion: which thing is number 39\nAnswer: answer 39"
    )
    assert len(facts) == 32
    assert facts.examples[0].prompt == f"{form}\n\nQuestion: which thing is number 0\nAnswer:"
    talks, drawn = given.tasks["mt_bench"]
    assert drawn == ("agreement",) and given.chat and given.prompts == [example.prompt for example in talks]
    assert [len(example.turns) for example in talks] == [0] * 8 and talks.examples[0].id == "39"
    assert sorted(example.id for example in talks) == [f"{n}" for n in range(32, 40)], "the shortest of each kind"


def test_without_all_of_them_the_bundled_texts_are_read(published, tokenizer):
    (published / demo_inputs.REAL["mt_bench"]).unlink()
    given = demo_inputs.material("tiny", tokenizer, None)
    assert "which this model has never read of" in given.words and list(given.tasks) == ["summaries", "conversations"]
    assert len(given.scored) == 24 and max(map(len, given.scored)) == demo_inputs.CUT


def test_the_bundled_model_keeps_its_own_world(published, tokenizer):
    assert demo_inputs.material("demo", tokenizer, None) == demo_inputs.world()
    assert demo_inputs.material("demo", tokenizer, TEXTS, "mine").words.endswith("of mine")
