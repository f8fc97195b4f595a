"""Sweeps: cells on disk that are reused, never mixed, and survive a kill."""

import logging
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

import saturation as st
from saturation import quality
from saturation.sweeps import keys
from saturation.tasks import bundled

POLICIES = {"dense": None, "static": st.StaticFFN(layers=(5, 6)), "random": st.RandomFFN(0.25)}


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


def test_a_tokenizer_is_what_it_does_not_where_it_lies(demo):
    _, tokenizer = st.load("demo")
    before = keys.tokens(tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=8)
    tokenizer.name_or_path = "elsewhere"
    assert keys.tokens(tokenizer) == before
    tokenizer.add_tokens(["<new>"])
    assert keys.tokens(tokenizer) != before


def test_another_code_of_the_scores_is_another_cell(demo, tasks, tmp_path, calls, monkeypatch):
    run(demo, tasks[:1], tmp_path, policies=[None])
    monkeypatch.setattr(keys, "code", lambda: "another")
    run(demo, tasks[:1], tmp_path, policies=[None])
    assert len(calls) == 2


def finished(folder):
    """Cells that are whole; a kill may leave a hidden part."""
    return [path for path in folder.glob("*.parquet") if not path.name.startswith(".")]


KILLED = """
import sys
import saturation as st
from saturation.tasks import bundled
policies = {str(layer): st.StaticFFN(layers=(layer,)) for layer in range(4, 12)}
st.sweep(*st.load("demo"), policies, [bundled("factoid").head(40)], out=sys.argv[1], progress=False)
"""


def test_a_killed_sweep_goes_on(demo, tmp_path, calls):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)])
    until = time.monotonic() + 90
    while len(finished(killed)) < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(finished(killed))
    assert 2 <= kept < 8, "killed in the middle"
    policies = {str(layer): st.StaticFFN(layers=(layer,)) for layer in range(4, 12)}
    task = [bundled("factoid").head(40)]
    resumed = run(demo, task, killed, policies=policies)
    assert len(calls) == 8 - kept, "every finished cell is reused"
    unbroken = run(demo, task, whole, policies=policies)
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), unbroken.drop(columns="seconds"))


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


def test_a_failed_cell_leaves_nothing_half_written(demo, tasks, tmp_path, monkeypatch):
    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(demo, tasks[:1], tmp_path, policies=[None])
    assert not list(tmp_path.iterdir())


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
