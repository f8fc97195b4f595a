"""lm-evaluation-harness: its own numbers for the dense model, and policies that really act on what it asks."""

from __future__ import annotations

import builtins
import json
import random
import re
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import saturation as st
from saturation import harness
from saturation.cli import app
from saturation.quality import losses
from saturation.tasks import Example, Task, bundled

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is an optional package and not installed here")
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

NEVER = st.FFNSkip(threshold=None)
STATIC = st.StaticFFN(layers=(5, 6), decode_only=True, sink=0)
HEAVY = st.StaticFFN(layers=tuple(range(2, 9)), decode_only=True)
FIRST = st.StaticFFN(layers=(0,))  # without it the model is often wrong
RULE = st.FFNSkip(threshold=0.98, cold_start=2, cold_end=2, warmup=0)
COUNT = 24
NAMES = ["own_choice", "own_answer", "own_stories"]

COMMON = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/{name}.jsonl
  cache_dir: {folder}/cache
test_split: test
"""
BODIES = {
    "own_choice": """
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: right
metric_list:
  - metric: acc
  - metric: acc_norm
  - metric: brier_score
""",
    "own_answer": """
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{answers[0]}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 48
  do_sample: false
filter_list:
  - name: number
    filter:
      - function: regex
        regex_pattern: "Answer: *([^\\n]*)"
        group_select: -1
      - function: take_first
metric_list:
  - metric: exact_match
    ignore_case: true
    ignore_punctuation: true
""",
    "own_stories": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
""",
}


@pytest.fixture(scope="module", autouse=True)
def _without_listing_packages():
    """The harness asks pip for the versions of everything at every call, which takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
        yield


@pytest.fixture(scope="module")
def demo():
    """The bundled model."""
    return st.load("demo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three tasks as a user would write them: files of lines, and a YAML file each."""
    folder = tmp_path_factory.mktemp("harness")
    questions = bundled("factoid").head(COUNT).examples
    others = [other.answers[0] for other in questions[5:] + questions[:5]]
    rows = {
        "own_choice": [
            {"prompt": e.prompt, "choices": [other, e.answers[0], "the"], "right": 1}
            for e, other in zip(questions, others, strict=True)
        ],
        "own_answer": [{"prompt": e.prompt, "answers": e.answers} for e in bundled("problems").head(COUNT)],
        "own_stories": [{"text": e.text} for e in bundled("stories").head(6)],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        (folder / f"{name}.yaml").write_text(COMMON.format(name=name, folder=folder) + BODIES[name], encoding="utf-8")
    return folder


def run(demo, folder, policy=None, names=NAMES):
    table = harness.evaluate(*demo, names, policy=policy, include_path=folder, progress=False)
    return table.set_index(["task", "metric"])


@pytest.fixture(scope="module")
def dense(demo, folder):
    return run(demo, folder)


@pytest.fixture(scope="module")
def static(demo, folder):
    return run(demo, folder, STATIC)


@pytest.fixture(scope="module")
def plain(demo, folder):
    """The harness by itself."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    model = HFLM(pretrained=demo[0], tokenizer=demo[1], batch_size=8)
    return lm_eval.simple_evaluate(model, tasks=NAMES, task_manager=manager, log_samples=False)


def likelihood(model, ids: list[int], start: int) -> float:
    """Log-likelihood of the tokens from `start` on, by one pass over the tokens before."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(dim=-1)  # [token, vocabulary]
    return sum(float(logits[place - 1, ids[place]]) for place in range(start, len(ids)))


def test_a_group_has_a_row_of_its_own(demo, folder):
    """Its ratios are over the tokens of all its tasks."""
    (folder / "both.yaml").write_text(
        "group: both\ntask: [own_choice, own_stories]\n"
        "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    table = harness.evaluate(*demo, "both", policy=STATIC, include_path=folder, progress=False).set_index("task")
    assert set(table.index) == {"both", "own_choice", "own_stories"}
    whole, parts = table.loc["both"], table.loc[["own_choice", "own_stories"], "total"]
    assert whole["metric"] == "acc" and whole["n"] == COUNT + 6
    assert parts.min() < whole["total"] < parts.max()


def pairs(*given: tuple[str, str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, i, metadata=("pairs", i, 1)) for i, pair in enumerate(given)]


QUESTION = bundled("factoid").examples[0]
ASKED = pairs(
    (QUESTION.prompt, f" {QUESTION.answers[0]}\n"), (QUESTION.prompt, " the"), ("One", " day a boy met a mouse.")
)


def test_the_dense_numbers_are_the_harness_own(dense, plain):
    """Equal to the last bit, errors included."""
    rows = 0
    for name in NAMES:
        for key, value in plain["results"][name].items():
            metric, comma, _ = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            rows += 1
            assert dense.loc[(name, metric), "value"] == value
            error = plain["results"][name][key.replace(",", "_stderr,")]
            assert error == "N/A" or dense.loc[(name, metric), "stderr"] == error
        assert (dense.loc[name, "n"] == plain["n-samples"][name]["effective"]).all()
    assert rows == len(dense) == 6
    assert (dense[["nominal", "decode", "total"]] == 0).all(axis=None) and set(dense["policy"]) == {"dense"}


def test_a_policy_that_never_skips_gives_the_dense_numbers(demo, folder, dense):
    never = run(demo, folder, NEVER)
    pd.testing.assert_frame_equal(never.drop(columns="policy"), dense.drop(columns="policy"), check_exact=True)
    assert harness.lm(*demo, NEVER, progress=False).loglikelihood(ASKED) == harness.lm(
        *demo, progress=False
    ).loglikelihood(ASKED)


def test_every_number_stands_beside_what_was_skipped(demo, static, dense):
    layers = demo[0].config.num_hidden_layers
    np.testing.assert_allclose(static["decode"], 2 / layers)
    assert (static["nominal"] == 1).all(), "both layers, at every token that is scored"
    total = static["total"].groupby("task").first()
    assert total["own_stories"] == pytest.approx(2 / layers), "of a text whose whole likelihood is asked"
    assert 0 < total["own_choice"] < 1 / layers, "the question is prefill"
    assert static.loc["own_stories", "value"].ne(dense.loc["own_stories", "value"]).all()


def test_a_score_is_that_of_our_own_evaluation(demo, folder, static):
    """The generation task, by the harness and by `quality.evaluate`: dense, skipping a little, and too much."""
    task = bundled("problems").head(COUNT)
    for policy in (None, STATIC, HEAVY, RULE):
        ours = st.quality.evaluate(*demo, task, policy=policy, progress=False)
        theirs = run(demo, folder, policy, ["own_answer"]).iloc[0]
        assert theirs["value"] == ours["correct"].mean() and theirs["n"] == len(ours)
        assert theirs["decode"] == pytest.approx(ours["answer_skipped"].sum() / max(ours["answer_blocks"].sum(), 1))
        assert (theirs["decode"] > 0) == (policy is not None)


def test_choices_are_taken_as_the_harness_takes_them(demo, folder):
    """Also per character, of choices as short as one letter."""
    lines = [json.loads(line) for line in (folder / "own_choice.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["choices"] += ["I", "she", "and then"]
    task = TaskManager(include_path=str(folder), include_defaults=False).load(["own_choice"])["tasks"]["own_choice"]
    examples = (Example(str(i), prompt=one["prompt"], choices=one["choices"], correct=1) for i, one in enumerate(lines))
    ours = st.quality.evaluate(*demo, Task("t", "choice", tuple(examples)), policy=FIRST, progress=False)
    pairs = [(line["prompt"], f" {choice}") for line in lines for choice in line["choices"]]
    nll = losses(*demo, pairs, policy=FIRST, progress=False)["nll"].to_numpy().reshape(len(lines), 6)
    theirs = [
        task.process_results(line, [(-value, False) for value in own]) for line, own in zip(lines, nll, strict=True)
    ]
    assert ours["correct"].tolist() == [one["acc"] for one in theirs]
    assert ours["correct_norm"].tolist() == [one["acc_norm"] for one in theirs]


def test_new_text_counts_up_to_the_cut(demo):
    """Rows go on until the last of their batch has stopped; what comes behind their own stop is not scored."""
    task = bundled("problems").head(8)
    model = harness.lm(*demo, HEAVY, progress=False)
    options = {"until": ["\n\n"], "max_gen_toks": task.max_new_tokens, "do_sample": False}
    given = [("generate_until", {}, (example.prompt, options), i) for i, example in enumerate(task)]
    model.generate_until([Instance(*one, metadata=("answers", one[-1], 1)) for one in given])
    ours = st.quality.evaluate(*demo, task, policy=HEAVY, progress=False)
    (counts,) = model._counted["answers"]
    decoded = counts["generated"] > 0
    assert decoded.sum() == ours["answer_blocks"].sum() // demo[0].config.num_hidden_layers > 0
    assert counts["skipped"][decoded].sum() == ours["answer_skipped"].sum()


def test_log_likelihoods_of_a_policy_are_those_worked_out_by_hand(demo):
    """One forward pass with zeros for the FFNs of some layers behind the context, written out."""
    model, tokenizer = demo
    context, continuation = ASKED[0].args
    ids = tokenizer(context + continuation).input_ids
    start = len(tokenizer(context).input_ids)

    def silenced(module, args, output):
        return torch.cat([output[:, :start], torch.zeros_like(output[:, start:])], dim=1)

    hooks = [model.model.layers[layer].mlp.register_forward_hook(silenced) for layer in HEAVY.layers]
    expected = likelihood(model, ids, start)
    for hook in hooks:
        hook.remove()
    skipping, dense = (harness.lm(*demo, policy, progress=False) for policy in (HEAVY, None))
    found = skipping.loglikelihood(ASKED)
    assert found[0][0] == pytest.approx(expected, rel=1e-5)
    assert abs(found[0][0] - dense.loglikelihood(ASKED)[0][0]) > 1e-3, "the policy acts"
    ours = losses(*demo, [request.args for request in ASKED], policy=HEAVY, progress=False)
    np.testing.assert_allclose([-answer for answer, _ in found], ours["nll"], rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_adaptive_rules_are_told_where_a_continuation_starts(demo, batch_size):
    """The paper's rule decodes behind the context, whatever stands in the batch; a warm-up counts from there."""
    for warmup in (0, 3):
        rule = st.FFNSkip(threshold=0.9, cold_start=2, cold_end=2, warmup=warmup)
        model = harness.lm(*demo, rule, batch_size=batch_size, progress=False)
        found = model.loglikelihood(ASKED)
        ours = losses(*demo, [request.args for request in ASKED], policy=rule, progress=False)
        np.testing.assert_allclose([-answer for answer, _ in found], ours["nll"], rtol=1e-4)
        assert (model.ratios("pairs").decode > 0) and model.ratios() == model.ratios("pairs")


def test_a_whole_text_counts_as_decode_from_its_start(demo):
    model, tokenizer = demo
    rule = st.FFNSkip(threshold=0.9, cold_start=2, cold_end=2, warmup=3)
    whole = bundled("stories").examples[0].text
    asked = harness.lm(*demo, rule, progress=False)
    found = asked.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (whole,), 0, metadata=("whole", 0, 1))])
    ids = [tokenizer.bos_token_id, *tokenizer(whole).input_ids]  # the harness has one token predict the first
    with st.skip(model, rule, start=0) as ledger:
        expected = likelihood(model, ids, 1)
    assert found == pytest.approx([expected], rel=1e-5)
    assert asked.ratios("whole") == ledger.ratios and ledger.ratios.decode > 0


def test_requests_that_differ_in_where_they_start_are_read_apart(demo):
    """The same tokens, once as a long context and once as a short one: a policy skips different ones of them."""
    model = harness.lm(*demo, STATIC, progress=False)
    text = demo[1]("One day a boy met a mouse.").input_ids
    asked = [(("", "a"), text[:3], text[3:]), (("", "b"), text[:-1], text[-1:])]
    with model._skipping("pairs", given=True):
        both = [answer for answer, _ in model._loglikelihood_tokens(asked)]
    alone = []
    for request in asked:
        with model._skipping("alone", given=True):
            alone += [answer for answer, _ in model._loglikelihood_tokens([request])]
    assert both == pytest.approx(alone, rel=1e-5)
    passes = model._counted["pairs"][0]["sequence"].nunique()
    assert passes == 2, "one pass for both would skip for one of them what the other reads in full"


def test_what_is_too_long_is_cut_on_the_left(demo):
    model = harness.lm(*demo, STATIC, progress=False)
    model._max_length = 12
    text = demo[1](bundled("stories").examples[0].text).input_ids[:30]
    with model._skipping("cut", given=True):
        model._loglikelihood_tokens([(("", "a"), text[:24], text[24:])])
    (counts,) = model._counted["cut"]
    assert counts["generated"].tolist() == [0] * 7 + [1, 2, 3, 4, 5], "12 tokens, 6 predicted, the last one not read"


@pytest.mark.parametrize("fails", [False, True])
def test_model_and_tokenizer_are_as_they_were(fails, monkeypatch):
    model, tokenizer = st.load("demo")
    tokenizer.pad_token = None
    before = {module: dict(vars(module)) for module in model.modules()}
    asked = harness.lm(model, tokenizer, STATIC, progress=False)
    if fails:
        monkeypatch.setattr(HFLM, "_select_cont_toks", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            asked.loglikelihood(ASKED)
    else:
        asked.loglikelihood(ASKED)
    for module in model.modules():
        assert "forward" not in vars(module) and not module._forward_hooks and not module._forward_pre_hooks
        assert vars(module).keys() == before[module].keys()
    assert tokenizer.pad_token is None, "the harness sets one, on a copy"
    with st.skip(model, NEVER):  # nobody holds the model
        pass


def test_generators_go_on_where_they_stood(demo, folder):
    """The harness sets them all to seeds of its own."""
    torch.manual_seed(7)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    run(demo, folder, names=["own_stories"])
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == states


def test_padding_is_seen_by_who_watches(demo):
    """Rows of a batch are padded on the right; a recorder takes down real tokens only."""
    model, tokenizer = demo
    with st.recording.watch(model, tokenizer=tokenizer) as recorder:
        harness.lm(model, tokenizer, progress=False).loglikelihood(ASKED)
    read = [len(tokenizer("".join(request.args)).input_ids) - 1 for request in ASKED]
    assert sorted(recorder.trace().tokens.groupby("sequence").size()) == sorted(read)


def test_the_model_computes_as_the_harness_lets_it(demo):
    """Hooks see a mask, the layers do not: on a GPU it would take another kernel. Other threads keep their own."""
    model, tokenizer = demo
    seen: list[tuple[str, bool]] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, named, name=name: seen.append((name, named.get("attention_mask") is not None)),
            with_kwargs=True,
        )
        for name, module in {"outside": model, "inside": model.model}.items()
    ]
    asked = harness.lm(model, tokenizer, progress=False)
    asked.loglikelihood(ASKED)
    assert seen == [("outside", True), ("inside", False)]
    inputs = tokenizer(["One day", "One"], padding=True, return_tensors="pt")
    with asked._skipping("pairs", given=True):
        elsewhere = Thread(target=lambda: model(**inputs))
        elsewhere.start()
        elsewhere.join()
    assert seen[2:] == [("outside", True), ("inside", True)]
    for hook in hooks:
        hook.remove()


def test_another_order_of_the_harness_is_noticed(demo, monkeypatch):
    sentence = (
        "expected lm-evaluation-harness to read its requests longest first and padded with zeros on the right, "
        f"but version {lm_eval.__version__} does otherwise; install lm-eval 0.4.13"
    )
    monkeypatch.setattr(
        "lm_eval.models.huggingface.Collator.get_batched", lambda self, n, batch_fn: iter([[ASKED_TOKENS[1]]])
    )
    model = harness.lm(*demo, STATIC, progress=False)
    with pytest.raises(RuntimeError, match=re.escape(sentence)), model._skipping("pairs", given=True):
        model._loglikelihood_tokens(ASKED_TOKENS)


ASKED_TOKENS = [(("", "a"), [5, 6, 7], [8, 9]), (("", "b"), [5, 6], [9])]


def test_without_the_package_it_says_what_to_do(demo, monkeypatch):
    imported = builtins.__import__

    def missing(name, *args, **named):
        if name.partition(".")[0] == "lm_eval":
            raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")
        return imported(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    sentence = (
        "expected the package lm-eval (lm-evaluation-harness), but it is not installed; install it with "
        "'pip install lm-eval'"
    )
    with pytest.raises(ImportError, match=re.escape(sentence)):
        harness.evaluate(*demo, "any")


def test_what_is_not_there_is_named(demo, folder, monkeypatch):
    made = TaskManager.__init__

    def without_its_own(self, include_path=None, include_defaults=True):  # thousands of files, which take a while
        made(self, include_path=include_path, include_defaults=False)

    monkeypatch.setattr(TaskManager, "__init__", without_its_own)
    with pytest.raises(ValueError, match=re.escape("expected tasks that lm-evaluation-harness knows, got 'none'; ")):
        harness.evaluate(*demo, ["own_choice", "none"], include_path=folder)
    with pytest.raises(ValueError, match=re.escape("expected a folder of task files, but nowhere is none; correct")):
        harness.evaluate(*demo, "own_choice", include_path="nowhere")


def test_the_command_runs_tasks_of_the_harness(folder, tmp_path, static):
    """Dense and skipping, the same numbers as in Python, a row per task and metric."""
    out = tmp_path / "rows.csv"
    rule = tmp_path / "rule.json"
    rule.write_text(STATIC.to_json())
    words = ["eval", "demo", "--lm-eval", "own_choice, own_stories", "--include-path", folder, "--policy", rule]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--batch-size", 8, "-o", out]])
    assert done.exit_code == 0, done.stderr
    rows = pd.read_csv(out)
    assert rows["policy"].unique().tolist() == ["dense", STATIC.describe()]
    sparse = rows[rows["policy"] != "dense"].set_index(["task", "metric"])
    expected = static.loc[sparse.index]
    np.testing.assert_allclose(sparse["value"], expected["value"], rtol=1e-12)
    assert "bits_per_byte" in done.stdout


@pytest.mark.parametrize("policy", [None, STATIC], ids=["dense", "static"])
def test_the_harness_finds_its_batch_size_itself(demo, folder, policy):
    """As its users ask for it; its trial passes are dense and not counted, and the numbers do not change."""
    manager, found, ratios = TaskManager(include_path=str(folder), include_defaults=False), [], []
    for batch_size in ("auto", 2):
        model = harness.lm(*demo, policy, batch_size=batch_size, progress=False)
        model.max_batch_size, model._max_length = 2, 80  # else five trials of 64 whole contexts
        names = ["own_choice", "own_answer"]
        done = lm_eval.simple_evaluate(model, tasks=names, task_manager=manager, limit=2, log_samples=False)
        found.append(done["results"])
        ratios.append(model.ratios())
    assert found[0] == found[1]
    assert ratios[0] == ratios[1] and (policy is None or ratios[0].decode > 0)


@pytest.mark.parametrize("given", [0, -1, 2.5, True, "largest", "auto:0"])
def test_a_batch_size_that_is_none_is_refused(demo, given):
    sentence = f"expected batch_size to be a whole number from 1, 'auto' or such as 'auto:4', got {given!r}; name one"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        harness.evaluate(*demo, "any", batch_size=given)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"log_samples": True},
            "expected options of lm_eval.simple_evaluate that are not set here, got log_samples=True; for samples call "
            "lm_eval.simple_evaluate with the model that saturation.harness.lm gives",
        ),
        ({"limit": 0}, "expected limit to be more than 0, got 0; leave it out for all examples"),
        (
            {"num_fewshot": -1},
            "expected num_fewshot to be a whole number from 0, got -1; leave it out for the task's own",
        ),
        (
            {"num_fewshot": 500},
            "expected tasks with at least num_fewshot=500 examples to put before a question, but lm-eval said: Sample "
            "larger than population or is negative; ask for fewer",
        ),
    ],
    ids=lambda given: "" if isinstance(given, str) else next(iter(given)),
)
def test_options_of_the_harness_are_refused_in_a_sentence(demo, folder, options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        harness.evaluate(*demo, "own_choice", include_path=folder, progress=False, **({"limit": 2} | options))


def test_skip_says_that_likelihoods_were_left_dense(demo, folder, plain, caplog):
    """Around the harness's own call all of a likelihood is prefill; its numbers are the dense ones."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    model = HFLM(pretrained=demo[0], tokenizer=demo[1], batch_size=8)
    names = ["own_answer", "own_stories"]
    with st.skip(demo[0], STATIC) as ledger:
        found = lm_eval.simple_evaluate(model, tasks=names, task_manager=manager, log_samples=False)
    stories = found["results"]["own_stories"]
    assert stories["word_perplexity,none"] == plain["results"]["own_stories"]["word_perplexity,none"]
    assert ledger.ratios.decode > 0 and 0 < ledger.idle_passes < ledger.passes
    assert [record.getMessage() for record in caplog.records if record.name.startswith("saturation")] == [
        f"in {ledger.idle_passes} of {ledger.passes} forward passes nothing could be skipped: they read text that "
        "nothing was decoded after, as tasks of likelihood do, and the policy leaves prefill alone "
        f"({STATIC.describe()}); give skip their start=, or run tasks of lm-evaluation-harness with "
        "saturation.harness.evaluate"
    ]


def test_nothing_is_said_of_text_whose_start_is_given(demo, folder, caplog):
    """A continuation of one token is predicted and never read: nothing could be skipped, and nothing is amiss."""
    run(demo, folder, STATIC, ["own_choice"])
    assert [record.getMessage() for record in caplog.records if record.name.startswith("saturation")] == []
