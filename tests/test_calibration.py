"""Calibration texts: the budget is of real tokens, formats are what they say, and nothing that is asked is ignored."""

import json
import re

import numpy as np
import pytest

from saturation import calibration, load, tasks
from saturation.calibration import CONTROLS, FORMATS, Sample, draw, kinds, open_source
from saturation.calibration import self_generated as generating
from saturation.tasks import Example, Task


@pytest.fixture(scope="module")
def demo():
    return load("demo", device="cpu")


def refused(sentence):
    return pytest.raises(ValueError, match="^" + re.escape(sentence) + "$")


# ------------------------------------------------------------------------------------------------ the budget


@pytest.mark.parametrize("source", [*kinds(), "mixture", *CONTROLS, "factoid"])
@pytest.mark.parametrize("tokens", [2_000, 4_000])
def test_every_source_gives_the_same_number_of_real_tokens(demo, source, tokens):
    sample = draw(*demo, source, tokens=tokens)
    assert sample.tokens == sum(map(len, sample.ids))
    assert 0.95 * tokens <= sample.tokens <= tokens
    assert max(map(len, sample.ids)) <= demo[0].config.max_position_embeddings
    assert demo[1].pad_token_id not in {own for ids in sample.ids for own in ids}


@pytest.mark.parametrize("source", ["stories", "articles", "factoid"])
def test_what_need_not_be_whole_fills_the_budget_exactly(demo, source):
    sample = draw(*demo, source, tokens=1_999, length=50, whole=False)
    assert sample.tokens == 1_999 and max(map(len, sample.ids)) <= 50


def test_whole_examples_are_whole(demo):
    sample = draw(*demo, "stories", tokens=3_000)
    told = {example.id: example.text for example in open_source("stories").task}
    for ids, (name,) in zip(sample.ids, sample.examples, strict=True):
        assert demo[1].decode(ids, skip_special_tokens=True) == told[name]


def test_a_seed_draws_the_same_and_another_seed_others(demo):
    one, again, other = (draw(*demo, "entries", tokens=2_000, seed=seed) for seed in (3, 3, 4))
    assert one == again and one.digest == again.digest != other.digest
    assert np.intersect1d([name for (name,) in one.examples], [name for (name,) in other.examples]).size < len(one) / 2


def test_the_mixture_takes_the_same_share_of_every_kind(demo):
    sample = draw(*demo, "mixture", tokens=7_000)
    share = dict.fromkeys(kinds(), 0)
    for ids, (name, *_) in zip(sample.ids, sample.examples, strict=True):
        share[name.rpartition("-")[0]] += len(ids)
    assert 6_900 <= sample.tokens <= 7_000 and all(850 <= tokens <= 1_050 for tokens in share.values())


# ------------------------------------------------------------------------------------------------ formats


SUM = Example(id="s", prompt="Problem: 1 + 2?\nReasoning:", answers=("3",), reasoning="1 + 2 = 3.", after="Answer:")
FACT = Example(id="f", prompt="Question: Who?\nAnswer:", choices=("I", "you"), correct=1, reasoning="It is not me.")
WRITTEN = {
    ("zero-shot", None): "Question: Who?\nAnswer:",
    ("qa", None): "Question: Who?\nAnswer: you",
    ("icl", 2): "Question: Who?\nAnswer: you\n\nQuestion: Who?\nAnswer: you",
    ("cot", 1): "Question: Who?\nAnswer: It is not me. So the answer is you.",
}


@pytest.mark.parametrize(("form", "shots"), WRITTEN)
def test_each_format_is_what_it_says(demo, form, shots):
    many = tuple(Example(**{**vars(FACT), "id": str(number)}) for number in range(40))
    sample = draw(*demo, Task("facts", "choice", many), tokens=300, format=form, shots=shots)
    assert {demo[1].decode(ids, skip_special_tokens=True) for ids in sample.ids} == {WRITTEN[form, shots]}
    assert {len(names) for names in sample.examples} == {shots or 1}
    assert sample.format == form and sample.shots == shots


def test_a_prompt_that_asks_for_reasoning_gets_it(demo):
    many = tuple(Example(**{**vars(SUM), "id": str(number)}) for number in range(40))
    task = Task("sums", "number", many)
    (worked,) = {demo[1].decode(ids, skip_special_tokens=True) for ids in draw(*demo, task, tokens=300).ids}
    assert worked == "Problem: 1 + 2?\nReasoning: 1 + 2 = 3.\nAnswer: 3"
    (bare,) = {demo[1].decode(ids, skip_special_tokens=True) for ids in draw(*demo, task, tokens=300, format="qa").ids}
    assert bare == "Problem: 1 + 2?\nAnswer: 3"


def test_as_many_questions_as_fit_are_in_one_text(demo):
    sample = draw(*demo, "questions", tokens=2_000, format="icl", length=300)
    text = demo[1].decode(sample.ids[0], skip_special_tokens=True)
    assert text.count("Question:") == text.count("Answer:") == len(sample.examples[0]) > 10
    assert 250 < len(sample.ids[0]) <= 300 and sample.shots is None


def test_conversations_are_written_in_the_chat_template(demo):
    sample = draw(*demo, "conversations", tokens=1_000)
    told = {example.id: example for example in open_source("conversations").task}
    example = told[sample.examples[0][0]]
    messages = [{"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.replies[0]}]
    begins = demo[1].apply_chat_template(messages, return_dict=True)["input_ids"]
    assert list(sample.ids[0][: len(begins)]) == begins


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_that_a_source_cannot_have_is_refused(demo, form):
    if form == "text":
        return
    with refused(
        f"expected a format that 'stories' can have, text, got {form!r} ({FORMATS[form]}); choose one of these, or "
        "another source"
    ):
        draw(*demo, "stories", format=form)


# ------------------------------------------------------------------------------------------------ sources


def test_text_files_and_lists_of_texts_are_sources(demo, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("One two three.\n\nFour five six.\n", encoding="utf-8")
    named = draw(*demo, path, tokens=20, whole=False)
    assert named.source == "own" and named.tokens == 20
    listed = draw(*demo, ["One two three.", "Four five six."], tokens=20, whole=False)
    assert listed.source == "texts" and listed.ids == named.ids and listed.content == named.content


def test_wikitext_is_cut_to_stretches_of_its_articles(demo, real_data):
    source = f"wikitext-2={real_data / 'wikitext-2' / 'test.txt'}"
    sample = draw(*demo, source, tokens=4_000, length=256, whole=False)
    assert sample.source == "wikitext-2" and sample.tokens == 4_000 and len(sample) == 16
    begins = [demo[1].decode(ids)[:20] for ids in sample.ids]
    assert not all("=" in text for text in begins), "from the middle of articles, not always from their headings"


def test_a_set_of_the_hub_is_read_in_the_split_for_training(demo, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"How many are {n}?", "answer": f"{n} <<1+1={n}>>.\n#### {n}"} for n in range(30)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    load_dataset = datasets.load_dataset

    def local(name, config, **options):
        assert (name, config, options["split"], options["revision"]) == ("openai/gsm8k", "main", "train", "abc")
        return load_dataset(str(tmp_path), split="train")

    monkeypatch.setattr(datasets, "load_dataset", local)
    sample = draw(*demo, "hub:gsm8k", tokens=500, format="cot", shots=2, revision="abc")
    assert (sample.source, sample.revision) == ("hub:gsm8k", "abc")
    assert re.search(r"Answer: (\d+) \. So the answer is \1\.", demo[1].decode(sample.ids[0]))


def test_controls_mean_nothing(demo):
    model, tokenizer = demo
    dots, letters, drawn = (draw(model, tokenizer, name, tokens=1_000) for name in CONTROLS)
    assert set(tokenizer.decode(dots.ids[0], skip_special_tokens=True)) <= {".", " "}
    assert re.fullmatch(r"[a-z ]+", tokenizer.decode(letters.ids[1], skip_special_tokens=True))
    assert len({own for ids in drawn.ids for own in ids}) > 300
    assert dots.tokens == letters.tokens == drawn.tokens == 1_000
    assert {ids[0] for ids in (*dots.ids, *letters.ids, *drawn.ids)} == {tokenizer.bos_token_id}


def test_the_model_writes_its_own_text(demo, monkeypatch):
    monkeypatch.setattr(generating, "_AT_ONCE", 16)
    monkeypatch.setattr(generating, "_LONG", 32)
    model, tokenizer = demo
    sample = draw(model, tokenizer, "generated", tokens=200, length=64)
    assert 150 < sample.tokens <= 200 and ". " in tokenizer.decode(sum(sample.ids, ()))
    assert {ids[0] for ids in sample.ids} == {tokenizer.bos_token_id}
    assert sample == draw(model, tokenizer, "generated", tokens=200, length=64) and sample.content


def test_the_likeliest_share_of_own_text_is_kept(demo):
    model, tokenizer = demo
    rows = [tokenizer(text).input_ids for text in ("Question: Where is the house of Katya Inkwell?", "zq vv xw kj qq")]
    assert generating._likeliest(model, tokenizer, [rows[1], rows[0]], 0.5) == [rows[0]]


def test_a_sample_is_saved_and_loaded(demo, tmp_path):
    sample = draw(*demo, "questions", tokens=1_000, format="icl", shots=3)
    sample.save(tmp_path / "sample.json")
    assert Sample.load(tmp_path / "sample.json") == sample
    about = json.loads(json.dumps(sample.about()))
    assert about["tokens"] == sample.tokens and about["digest"] == sample.digest and "ids" not in about
    assert sample.name == "questions (icl 3)"
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^expected calibration texts as Sample\.save writes them"):
        Sample.load(tmp_path / "other.json")


# ------------------------------------------------------------------------------------------------ what is refused


def test_too_few_tokens_say_how_many_there_are(demo):
    task = tasks.bundled("factoid").head(3)
    have = sum(len(demo[1](f"{one.prompt} {one.answers[0]}").input_ids) for one in task)
    with refused(
        f"expected a source of 9000 tokens, but 'factoid' as 'qa' has {have} in 3 examples; ask for fewer or another "
        "source"
    ):
        draw(*demo, task, tokens=9_000)
    sentence = "(350 more do not fit into a text of 20 tokens); ask for fewer, another source, a greater length= or "
    with pytest.raises(ValueError, match=re.escape(sentence)):
        draw(*demo, "articles", tokens=9_000, length=20)
    with pytest.raises(ValueError, match="are so long that only 0 are filled; ask for more tokens, or give whole=Fals"):
        draw(*demo, "stories", tokens=40)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"source": "nonsense"},
            f"expected a source of calibration texts among {', '.join((*kinds(), 'mixture', 'generated', *CONTROLS))}, "
            "a bundled task, a .jsonl or .txt file, a published set with its file such as wikitext-2=wiki.train.raw, "
            "or hub:NAME, got 'nonsense'; name one of these",
        ),
        (
            {"source": "stories", "revision": "main"},
            "expected options such as revision= only for a set of the hub, got them for 'stories'; leave them out, or "
            "name the set as hub:NAME",
        ),
        (
            {"source": "questions", "format": "qa", "shots": 3},
            "expected shots= only with the formats icl and cot, got 3 with 'qa'; leave it out",
        ),
        (
            {"source": "stories", "keep": 0.5},
            "expected keep= only with 'generated', got 0.5 with 'stories'; leave it out",
        ),
        (
            {"source": "dots", "format": "qa"},
            "expected no format of 'dots', which has but one, got format='qa'; leave it out",
        ),
        (
            {"source": "stories", "tokens": 0},
            "expected tokens >= 1, shots >= 1, length >= 2 and 0 < keep <= 1, got 0, None, None and 1; correct them",
        ),
        (
            {"source": "stories", "length": 2000},
            "expected texts that fit into the model's context of 1024 tokens, got length=2000",
        ),
        ({"source": [""]}, "expected texts that are not empty, got '' among them; remove it"),
    ],
)
def test_bad_input_is_named(demo, asked, sentence):
    with refused(sentence):
        draw(*demo, **asked)


def test_the_room_says_what_it_lends():
    assert all(hasattr(calibration, name) for name in calibration.__all__)
