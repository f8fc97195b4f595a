"""Sweeps: cells on disk that are reused, never mixed, and survive a kill."""

import logging
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
from tqdm.std import tqdm

import saturation as st
from saturation import quality
from saturation.sweeps import cell_keys, sweeping
from saturation.tasks import Example, Task, bundled

POLICIES = {"dense": None, "static": st.StaticFFN(layers=(5, 6), sink=0), "random": st.RandomFFN(0.25)}


@pytest.fixture(scope="module")
def demo():
    return st.load("demo")


@pytest.fixture
def tasks():
    return [bundled("factoid").head(6), bundled("stories").head(3)]


@pytest.fixture
def calls(monkeypatch):
    """Which cells are really run."""
    made, evaluate = [], quality.evaluate

    def counted(model, tokenizer, task, **options):
        made.append(task.name)
        return evaluate(model, tokenizer, task, **options)

    monkeypatch.setattr(quality, "evaluate", counted)
    return made


def run(demo, tasks, out, **options):
    return st.sweep(*demo, options.pop("policies", POLICIES), tasks, out=out, progress=False, **options)


def test_a_table_of_policies_tasks_and_seeds(demo, tasks, tmp_path):
    table = run(demo, tasks, tmp_path, seeds=(0, 1))
    counts = table.groupby(["task", "policy"], sort=False).size().to_dict()
    assert counts == {
        ("factoid", "dense"): 6, ("factoid", "static"): 6, ("factoid", "random"): 12,
        ("stories", "dense"): 3, ("stories", "static"): 3, ("stories", "random"): 6,
    }  # fmt: skip
    assert table.loc[table["policy"] == "random", "seed"].unique().tolist() == [0, 1]
    assert table.loc[table["policy"] != "random", "seed"].isna().all()
    alone = quality.evaluate(*demo, tasks[0], policy=POLICIES["static"], progress=False)
    own = table[(table["task"] == "factoid") & (table["policy"] == "static")]
    assert own["text"].tolist() == alone["text"].tolist()
    summary = quality.summarise(table)
    assert set(summary["score"]) >= {"correct", "nll"} and summary["n"].max() == 12


def test_a_repeated_sweep_runs_nothing(demo, tasks, tmp_path, calls):
    first = run(demo, tasks, tmp_path)
    assert len(calls) == 6
    again = run(demo, tasks, tmp_path)
    assert len(calls) == 6
    pd.testing.assert_frame_equal(first, again)
    run(demo, tasks, tmp_path, policies={**POLICIES, "never": st.FFNSkip(None)})
    assert len(calls) == 8, "only the new policy is run, on both tasks"


def test_a_cell_is_named_afresh_without_running_again(demo, tasks, tmp_path, calls):
    run(demo, tasks[:1], tmp_path)
    renamed = run(demo, tasks[:1], tmp_path, policies={"two layers": POLICIES["static"]})
    assert len(calls) == 3 and set(renamed["policy"]) == {"two layers"}


def test_a_changed_model_is_never_mixed_in(demo, tasks, tmp_path, calls):
    run(demo, tasks[:1], tmp_path, policies=[None])
    model, tokenizer = st.load("demo")
    weight = model.model.layers[3].mlp.down_proj.weight
    with torch.no_grad():
        weight[0, 0] += 1e-3
    table = run((model, tokenizer), tasks[:1], tmp_path, policies=[None])
    assert len(calls) == 2 and len(table) == 6
    with torch.no_grad():
        weight[0, 0] = demo[0].model.layers[3].mlp.down_proj.weight[0, 0]
    run((model, tokenizer), tasks[:1], tmp_path, policies=[None])
    assert len(calls) == 2, "the same weights are the same cell"


def test_another_end_token_is_another_model(demo):
    model, _ = st.load("demo")
    before = cell_keys.fingerprint(model)
    model.generation_config.eos_token_id = [1, 5]
    assert cell_keys.fingerprint(model) != before


def test_a_buffer_that_is_not_saved_is_part_of_the_model(demo):
    model, _ = st.load("demo")
    model.model.rotary_emb.inv_freq *= 1.5
    assert "model.rotary_emb.inv_freq" not in model.state_dict()
    assert cell_keys.fingerprint(model) != cell_keys.fingerprint(demo[0])


@pytest.mark.parametrize("offload", ["disk", "one block", "cpu"])
def test_an_offloaded_model_is_the_same_model(demo, tasks, tmp_path, calls, offload):
    model, tokenizer = st.load("demo")
    if offload == "disk":
        accelerate.disk_offload(model, tmp_path / "weights", execution_device="cpu")
    elif offload == "cpu":
        accelerate.cpu_offload(model, execution_device="cpu", offload_buffers=True)
    else:
        where = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        where |= {f"model.layers.{layer}": "disk" if layer == 3 else "cpu" for layer in range(16)}
        accelerate.dispatch_model(model, where, main_device="cpu", offload_dir=tmp_path / "weights")
    assert any(tensor.is_meta for tensor in model.parameters())
    assert cell_keys.fingerprint(model) == cell_keys.fingerprint(demo[0]) and cell_keys.place(model) == cell_keys.place(
        demo[0]
    )
    first = run((model, tokenizer), tasks[:1], tmp_path / "cells", policies=[None])
    assert run(demo, tasks[:1], tmp_path / "cells", policies=[None]).equals(first) and len(calls) == 1


def test_another_kind_of_device_or_attention_is_another_place(demo, monkeypatch):
    model, _ = st.load("demo")
    assert cell_keys.place(model) == cell_keys.place(demo[0])
    model.set_attn_implementation("eager")
    assert cell_keys.place(model) != cell_keys.place(demo[0])
    before = cell_keys.place(model)
    monkeypatch.setattr(cell_keys, "input_device", lambda model: torch.device("cuda:1"))
    assert cell_keys.place(model) != before


@pytest.mark.parametrize(
    "part",
    [
        *(st.anatomy, st.generation, st.patching, st.policies, st.recording, st.similarity, st.skipping),
        *(quality.evaluating, quality.likelihood),
    ],
)
def test_another_code_of_what_decides_a_row_is_another_cell(part, tmp_path, monkeypatch):
    before = cell_keys.code()
    file = tmp_path / Path(part.__file__).name
    file.write_text("")
    with monkeypatch.context() as changed:
        changed.setattr(part, "__file__", str(file))
        assert cell_keys.code() != before
    assert cell_keys.code() == before


@pytest.mark.parametrize("package", ["torch", "transformers", "sacrebleu"])
def test_another_version_that_computes_is_another_cell(package, monkeypatch):
    before, version = cell_keys.code(), cell_keys.metadata.version
    monkeypatch.setattr(cell_keys.metadata, "version", lambda name: "0" if name == package else version(name))
    assert cell_keys.code() != before


def test_judges_are_told_apart_by_what_they_were_given():
    def rated(example, answer, *, most):
        return most

    def made(most):
        return lambda example, answer: most

    class Rater:
        def __init__(self, name):
            self.name, self.asked = name, []

        def __call__(self, example, answer):
            return 1.0

        def rate(self, example, answer):
            return 2.0

    def pairs():
        yield partial(rated, most=1), partial(rated, most=2)
        yield made(1), made(2)
        yield Rater("a"), Rater("b")
        yield Rater("a").rate, Rater("b").rate
        yield Rater("a"), Rater("a").rate
        yield max, min

    for (one, other), (again, _) in zip(pairs(), pairs(), strict=True):
        assert cell_keys.of_judge(one) != cell_keys.of_judge(other)
        assert cell_keys.of_judge(one) == cell_keys.of_judge(again)
    rater = Rater("a")
    before = cell_keys.of_judge(rater)
    rater.asked.append(1)
    assert cell_keys.of_judge(rater) == before, "what it gathers does not make it another"


def test_a_tokenizer_is_what_it_does_not_where_it_lies(demo):
    _, tokenizer = st.load("demo")
    before = cell_keys.tokens(tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=8)
    tokenizer.name_or_path = "elsewhere"
    assert cell_keys.tokens(tokenizer) == before
    tokenizer.clean_up_tokenization_spaces = not tokenizer.clean_up_tokenization_spaces
    assert cell_keys.tokens(tokenizer) != before
    before = cell_keys.tokens(tokenizer)
    tokenizer.add_tokens(["<new>"])
    assert cell_keys.tokens(tokenizer) != before


def test_another_code_of_the_scores_is_another_cell(demo, tasks, tmp_path, calls, monkeypatch):
    run(demo, tasks[:1], tmp_path, policies=[None])
    monkeypatch.setattr(cell_keys, "code", lambda: "another")
    run(demo, tasks[:1], tmp_path, policies=[None])
    assert len(calls) == 2


def finished(folder):
    """Cells that are whole; a kill may leave a hidden part."""
    return [path for path in folder.glob("*.parquet") if not path.name.startswith(".")]


KILLED = """
import sys
import saturation as st
from saturation.tasks import bundled
policies = {"dense": None, **{str(layer): st.StaticFFN(layers=(layer,)) for layer in range(4, 7)}}
st.sweep(*st.load("demo"), policies, [bundled("factoid").head(10)], out=sys.argv[1], progress=False)
"""


def test_a_killed_sweep_goes_on(demo, tmp_path, calls):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)])
    until = time.monotonic() + 150
    while len(finished(killed)) < 4 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in finished(killed)}
    assert 4 <= len(kept) < 8, "killed in the middle: four cells, each as written and beside the dense run"
    policies = {"dense": None, **{str(layer): st.StaticFFN(layers=(layer,)) for layer in range(4, 7)}}
    task = [bundled("factoid").head(10)]
    resumed = run(demo, task, killed, policies=policies)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "no finished file is written again"
    assert len(calls) == 4 - sum(path.name.count(".") == 1 for path in kept), "and no finished run is run again"
    unbroken = run(demo, task, whole, policies=policies)
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), unbroken.drop(columns="seconds"))


def test_every_policy_is_held_against_dense_wherever_that_stands(demo, tasks, tmp_path, calls):
    alone = run(demo, tasks, tmp_path, policies={"static": POLICIES["static"]})
    assert "agreement" not in alone and "kl" not in alone, "without the dense run there is nothing to drift from"
    table = run(demo, tasks, tmp_path, policies={"static": POLICIES["static"], "dense": None})
    assert calls == ["factoid", "stories", "factoid", "stories"], "what the policy wrote is reused"
    assert table["policy"].unique().tolist() == ["static", "dense"], "in the order that was given"
    drift = table[table["task"] == "factoid"].groupby("policy")[["agreement", "kl", "dense_nll"]].mean()
    assert drift.loc["dense"].tolist()[:2] == [1, 0] and drift.loc["static", "kl"] > 0
    texts = table[table["task"] == "stories"].groupby("policy")["kl"].mean()
    assert texts["dense"] == 0 and texts["static"] > 0
    scores = quality.summarise(table).set_index(["task", "policy", "score"])
    ratios = scores.loc[("factoid", "static", "kl"), ["nominal", "decode", "total"]]
    assert ratios.tolist() == [1, 0.125, 0.125]


@pytest.mark.parametrize("harm", ["cut", "another"])
def test_a_damaged_cell_is_made_again_and_it_is_said(demo, tasks, tmp_path, calls, caplog, harm):
    policies = {"static": POLICIES["static"]}
    first = run(demo, tasks, tmp_path, policies=policies)
    one, other = (tmp_path / f"{key}.parquet" for key in first["key"].unique())
    one.write_bytes(one.read_bytes()[:200] if harm == "cut" else other.read_bytes())
    with caplog.at_level(logging.WARNING):
        again = run(demo, tasks, tmp_path, policies=policies)
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"))
    assert calls == ["factoid", "stories", "factoid"]
    reason = "Parquet" if harm == "cut" else "it holds 3 rows where 6 of this cell belong"
    assert f"{one} is damaged and made again: " in caplog.text and reason in caplog.text


def test_a_full_disk_leaves_finished_cells_and_says_so(demo, tasks, tmp_path, calls, monkeypatch):
    policies, write = {"static": POLICIES["static"], "random": POLICIES["random"]}, pd.DataFrame.to_parquet
    written = []

    def full(self, path, **options):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        write(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        sentence = (
            r"^cannot save a cell of the sweep to .*: No space left on device; nothing was written there, so free the "
            rf"place or name another path; 2 of 4 cells are finished and stay in {re.escape(str(tmp_path))}, run the "
            r"same sweep again to go on$"
        )
        with pytest.raises(OSError, match=sentence):
            run(demo, tasks, tmp_path, policies=policies)
    assert len(list(tmp_path.iterdir())) == 2, "nothing half-written"
    table = run(demo, tasks, tmp_path, policies=policies)
    assert len(calls) == 5 and table["key"].nunique() == 4, "the third was run twice, the first two once"


def test_other_options_are_another_cell(demo, tasks, tmp_path, calls):
    run(demo, tasks[:1], tmp_path, policies=[None])
    run(demo, tasks[:1], tmp_path, policies=[None], stride=8)
    run(demo, tasks[:1], tmp_path, policies=[None], chat=False)
    assert len(calls) == 3


def rates(limit):
    """A judge that fails on every answer until it has been asked so often."""
    asked = []

    def judge(example, answer):
        asked.append(answer)
        if len(asked) <= limit:
            raise TimeoutError("too slow")
        return 7.0

    judge.asked = asked
    return judge


def test_a_failing_judge_marks_its_rows_and_is_asked_again_about_them_only(demo, tasks, tmp_path, calls):
    given = [*tasks[:1], bundled("summaries").head(3)]
    plain = run(demo, given, tmp_path, policies=[None])
    assert "judge" not in plain
    failing = rates(2)
    table = run(demo, given, tmp_path, policies=[None], judge=failing)
    own = table[table["task"] == "summaries"]
    assert len(calls) == 2, "the texts are there already"
    assert own["judge"].tolist()[2] == 7 and own["judge"].isna().tolist() == [True, True, False]
    assert own["judge_error"].tolist() == ["TimeoutError: too slow"] * 2 + [""]
    assert table.loc[table["task"] == "factoid", "judge"].isna().all() and len(failing.asked) == 3
    table = run(demo, given, tmp_path, policies=[None], judge=failing)
    assert len(failing.asked) == 5 and (table.loc[table["task"] == "summaries", "judge"] == 7).all()
    run(demo, given, tmp_path, policies=[None], judge=failing)
    assert len(failing.asked) == 5, "now there is nothing to ask"
    summary = quality.summarise(table).set_index("score")
    assert (summary.loc["judge", "mean"], summary.loc["judge", "n"]) == (7, 3)


def test_another_judge_has_a_file_of_its_own(demo, tmp_path):
    task = [bundled("summaries").head(2)]
    one = run(demo, task, tmp_path, policies=[None], judge=lambda example, answer: 1.0)
    other = run(demo, task, tmp_path, policies=[None], judge=lambda example, answer: 2.0)
    assert (one["judge"] == 1).all() and (other["judge"] == 2).all()
    assert cell_keys.of_judge(quality.Judge("a", key="")) != cell_keys.of_judge(quality.Judge("b", key=""))
    assert cell_keys.of_judge(quality.Judge("a", key="")) == cell_keys.of_judge(quality.Judge("a", key=""))


def test_the_bar_counts_what_is_there_already(demo, tasks, tmp_path, monkeypatch):
    """So that the time left is judged by the cells that are really run."""
    bars, told = [], []

    class Bar(tqdm):
        def __init__(self, *, progress, **options):
            super().__init__(**options)
            bars.append((options["initial"], options["total"]))

        def update(self, n=1):
            told.append(n)
            return super().update(n)

    monkeypatch.setattr(sweeping, "bar", Bar)
    run(demo, tasks[:1], tmp_path, policies=[None])
    run(demo, tasks[:1], tmp_path)
    assert bars == [(0, 6), (6, 18)] and told == [6, 0, 6, 6]


@pytest.mark.parametrize(("where", "inner"), [("a terminal", True), ("a notebook", False)])
def test_a_notebook_has_one_bar_for_a_sweep(demo, tasks, tmp_path, monkeypatch, where, inner):
    """Each bar of a run inside it would leave an empty output, and a widget that is gone when it is opened again."""

    class Bar(tqdm):
        def __init__(self, *, progress, **options):
            super().__init__(**options)

        if where == "a notebook":
            container = "as tqdm.notebook.tqdm has it"

    asked, evaluate, against = [], quality.evaluate, quality.against
    monkeypatch.setattr(sweeping, "bar", Bar)
    monkeypatch.setattr(quality, "evaluate", lambda *a, **o: asked.append(o["progress"]) or evaluate(*a, **o))
    monkeypatch.setattr(quality, "against", lambda *a, **o: asked.append(o["progress"]) or against(*a, **o))
    st.sweep(*demo, POLICIES, tasks[:1], out=tmp_path)
    assert len(asked) >= 5 and set(asked) == {inner}


def test_conversations_are_cells_with_a_row_per_turn(demo, tmp_path, calls):
    talks = (Example("a", prompt="Hello.", turns=("And?",)), Example("b", prompt="Who?"))
    task = [Task("talks", "conversation", talks, max_new_tokens=4)]
    table = run(demo, task, tmp_path, policies=[None, POLICIES["static"]])
    assert table["example"].tolist() == ["a/1", "a/2", "b/1"] * 2 and table["kl"].notna().all()
    run(demo, task, tmp_path, policies=[None, POLICIES["static"]])
    assert len(calls) == 2


def test_what_cannot_work_is_said_before_anything_runs(demo, tasks, tmp_path, calls):
    with pytest.raises(ValueError, match="expected layers of a model with 16, numbered from 0 to 15, got 16"):
        run(demo, tasks, tmp_path, policies=[None, st.StaticFFN(layers=(16,))])
    arrays = {"ids": np.arange(3), "harm": np.zeros((3, 16)), "mean": np.zeros(16)}
    table = st.TokenFFN(4, st.policies.Arrays(arrays), "another")
    with pytest.raises(ValueError, match=r"^expected a TokenFFN that was fitted on 'demo', got one of 'another';"):
        run(demo, tasks, tmp_path, policies={"dense": None, "table": table})
    few = st.policies.LowRank(0, st.policies.Arrays({"mean 0": np.zeros(128, np.float32)}), "demo")
    with pytest.raises(ValueError, match=r"^expected stand-ins of a model with 16 layers, got those of 'demo' wi"):
        run(demo, tasks, tmp_path, policies=[None, st.StaticFFN(layers=(5,), action=few)])
    with pytest.raises(
        ValueError, match=r"^expected at least one seed for policies that draw, got none; leave seeds= out to take 0$"
    ):
        run(demo, tasks, tmp_path, seeds=())
    sentence = (
        "expected a list of tasks as saturation.tasks.bundled or read gives them, got 'factoid' in it; give such as "
        "[saturation.tasks.bundled('factoid')]"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        run(demo, ["factoid"], tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    sentence = f"expected a folder for the cells of a sweep, but {file} is a file; name another place"
    with pytest.raises(NotADirectoryError, match="^" + re.escape(sentence) + "$"):
        run(demo, tasks, file)
    sentence = (
        f"expected a folder for the cells of a sweep, but {file / 'in'} cannot be made: Not a directory; "
        "name another place"
    )
    with pytest.raises(NotADirectoryError, match="^" + re.escape(sentence) + "$"):
        run(demo, tasks, file / "in")
    assert not calls


def test_the_comparison_with_dense_halves_its_batches_too(demo, tasks, tmp_path, monkeypatch, caplog):
    """Where the CPU has no memory left, torch says so only in words."""
    sizes, against = [], quality.against

    def small(*given, **options):
        sizes.append(options["batch_size"])
        if options["batch_size"] > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return against(*given, **options)

    monkeypatch.setattr(quality, "against", small)
    with caplog.at_level(logging.WARNING):
        run(demo, tasks[:1], tmp_path, policies=[None], batch_size=8)
    assert sizes == [8, 4] and "out of memory: dense on factoid goes on with batches of 4" in caplog.text
    monkeypatch.setattr(quality, "against", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("another reason")))
    with pytest.raises(RuntimeError, match="another reason"):
        run(demo, tasks[1:], tmp_path, policies=[None])


def test_batches_are_halved_where_memory_runs_out(demo, tasks, tmp_path, monkeypatch, caplog):
    sizes, evaluate = [], quality.evaluate

    def small(model, tokenizer, task, **options):
        sizes.append(options["batch_size"])
        if options["batch_size"] > 2:
            raise torch.OutOfMemoryError("no room")
        return evaluate(model, tokenizer, task, **options)

    monkeypatch.setattr(quality, "evaluate", small)
    with caplog.at_level(logging.WARNING):
        table = run(demo, tasks[:1], tmp_path, policies=[None], batch_size=8)
    assert sizes == [8, 4, 2] and len(table) == 6
    assert "out of memory: dense on factoid goes on with batches of 2" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        monkeypatch.setattr(quality, "evaluate", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
        run(demo, tasks[1:], tmp_path, policies=[None])


@pytest.mark.parametrize(
    ("policies", "sentence"),
    [
        ([], "expected at least one of the policies, got none; name what to run"),
        ([None, None], "expected policies with a name each, got 'dense' twice; rename one or leave it out"),
    ],
)
def test_what_makes_no_sweep(demo, tasks, tmp_path, policies, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(demo, tasks, tmp_path, policies=policies)
