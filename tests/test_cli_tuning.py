"""`saturation tune`: what it writes, all of it or nothing, and what it refuses before a model runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import saturation as st
from saturation import figures
from saturation.cli.tuning import keep
from saturation.policies import Arrays, LowRank
from tests.test_cli import run
from tests.test_cli_pruning import tiny  # noqa: F401
from tests.test_tuning import rows

FIGURE = {"tuned.pdf", "tuned.data.csv", "tuned.table.tex", "tuned.manifest.json"}
WRITTEN = {"evidence.csv", "sentence.txt", *FIGURE}


def made(folder):
    """Files of a choice, cells of the sweep aside."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".parquet")}


def test_it_writes_the_policy_its_evidence_and_what_one_can_quote(tiny, tmp_path):  # noqa: F811
    out = tmp_path / "tuned"
    rules = ("--policy", "static:layers=1,sink=0", "--policy", "static:layers=1+2,sink=0")
    words = ("tune", tiny, "-t", "factoid", "--examples", 4, *rules, "--budget", 0.5, "-o", out)
    code, told, err = run(*words)
    assert code == 0, err
    assert made(out) == WRITTEN | {"policy.json"}
    evidence = pd.read_csv(out / "evidence.csv")
    assert evidence["unread"].tolist() == pytest.approx([1 / 3, 2 / 3]) and (evidence["n"] == 4).all()
    assert st.policies.load(out / "policy.json") == st.StaticFFN((1, 2), sink=0)
    said = (out / "sentence.txt").read_text(encoding="utf-8")
    assert " leaves 66.7% of the FFN bytes unread and loses " in said and said.strip() in told
    assert f"{out / 'policy.json'}\n" in told
    cells = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(cells) == 6 and run(*words)[0] == 0, "three policies, as written and beside the dense run"
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == cells


def test_a_later_choice_takes_the_place_of_an_earlier_one(tmp_path):
    action = LowRank(0, Arrays({"mean 0": np.zeros(4, np.float32)}), "made")
    policies = {"skip 0.10": st.StaticFFN((0,), action=action)}
    table = rows(shares=[0.1]).assign(ffn_bytes=10.0, unread_bytes=5.0)
    keep(st.tune(table, budget=0.5, policies=policies), tmp_path)
    assert made(tmp_path) == WRITTEN | {"policy.json", "policy.safetensors"}
    assert st.policies.load(tmp_path / "policy.json") == policies["skip 0.10"]
    found = st.tune(rows(shares=[0.9]), budget=0.01, policies={"skip 0.90": st.StaticFFN((1,))})
    keep(found, tmp_path)
    assert made(tmp_path) == WRITTEN, "the dense model is no policy"
    assert (tmp_path / "sentence.txt").read_text(encoding="utf-8") == f"{found.sentence}\n"


@pytest.mark.parametrize("stop", [OSError("full"), KeyboardInterrupt()])
def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path, monkeypatch, stop):
    policies = {"skip 0.10": st.StaticFFN((1,)), "skip 0.20": st.StaticFFN((2,))}
    keep(st.tune(rows(shares=[0.1]), budget=0.5, policies=policies), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_, **__):
        raise stop

    monkeypatch.setattr(figures, "save", full)
    with pytest.raises(type(stop)):
        keep(st.tune(rows(shares=[0.1, 0.2]), budget=0.5, policies=policies), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-t", "factoid"), "expected policies to choose among, got none; give --policy once for each of them"),
        (
            ("-t", "factoid", "--policy", "static:layers=1", "--budget", 2),
            "expected a budget between 0 and 1, got 2.0; 0.05 loses one example in twenty",
        ),
        (
            ("-t", "factoid", "--policy", "static:layers=1", "--examples", 40, "--confidence", 0.9),
            "expected at least 45 examples to test on for a loss of 0.05 at 90%, which takes as many without one loss, "
            "got 30 of 40, the rest drawing up the order; give 61 or more, or promise less",
        ),
        (
            ("-t", "factoid", "--policy", "static:layers=1", "--examples", 60, "--confidence", 0.9, "--confirm", 0.5),
            "expected at least 45 examples to test on for a loss of 0.05 at 90%, which takes as many without one loss, "
            "got 22 of 30, the rest drawing up the order; give 61 or more, beside those that confirm, or promise less",
        ),
        (
            ("-t", "validation", "--policy", "static:layers=1"),
            "expected tasks whose answers are right or wrong, got 'validation', which is scored as text; leave it out, "
            "or name a column of losses in [0, 1] with --loss",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_runs(words, expected, tmp_path):
    code, _, err = run("tune", "demo", *words, "-o", tmp_path / "out")
    assert (code, err) == (1, f"saturation: {expected}\n") and not list(tmp_path.iterdir())
