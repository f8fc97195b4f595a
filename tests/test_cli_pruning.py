"""`saturation prune` and `saturation study`: what they write, and that every error is one sentence."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from transformers import AutoTokenizer

import saturation as st
from saturation import loading
from saturation.pruning import find_matrices
from tests.families import build
from tests.test_cli import run

FEW = ("--tokens", 600, "--source", "questions")


@pytest.fixture
def tiny(root, tmp_path):
    """Folder of a tiny random llama that reads the bundled model's tokens."""
    tokenizer = AutoTokenizer.from_pretrained(root / "data" / "demo-model")
    build("llama", vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_prune_saves_a_model_and_its_report(tiny, tmp_path):
    out = tmp_path / "pruned"
    code, told, _ = run("prune", tiny, "-o", out, *FEW, "--method", "sparsegpt", "--sparsity", "2:4", "--device", "cpu")
    assert code == 1 and "groups of 4" in run("prune", tiny, "-o", out, *FEW, "--sparsity", "2:4")[2]
    code, told, _ = run("prune", tiny, "-o", out, *FEW, "--method", "sparsegpt", "--sparsity", 0.5)
    assert code == 0 and "questions (qa), " in told and "50.0 % of the weights are gone" in told
    model, _ = loading.load(out)
    matrices = [matrix for layer in find_matrices(model) for matrix in layer]
    zeros = sum(int((matrix.weight == 0).sum()) for matrix in matrices)
    assert zeros / sum(matrix.weight.numel() for matrix in matrices) == pytest.approx(0.5, abs=1e-3)
    assert len(pd.read_csv(out / "pruning.csv")) == len(matrices)
    about = json.loads((out / "pruning.json").read_text(encoding="utf-8"))
    assert (about["method"], about["calibration"]["source"]) == ("sparsegpt", "questions")


def test_prune_takes_neurons_out(tiny, tmp_path):
    out = tmp_path / "narrow"
    code, told, _ = run("prune", tiny, "-o", out, *FEW, "--method", "neurons", "--sparsity", 0.25, "--widths", "one")
    assert code == 0 and "24.3 % of the neurons are gone" in told
    assert loading.load(out)[0].config.intermediate_size == 28


def test_study_writes_rows_and_rises_and_goes_on(tiny, tmp_path):
    out = tmp_path / "study"
    asked = ("-s", "questions", "-s", "dots", "-t", "stories", "--method", "wanda", "--seed", 0, "--tokens", 600)
    words = ("study", tiny, "-o", out, *asked, "--examples", 3, "--no-accuracy")
    code, told, _ = run(*words)
    assert code == 0 and "loss of reference answers in nats a token" in told
    rows, rises = (pd.read_csv(out / f"{name}.csv") for name in ("rows", "rises"))
    assert len(rows) == 9 and set(rises["source"]) == {"questions", "dots"}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert before and run(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before
    assert st.study.rises(rows.fillna({"policy": ""}))["rise"].tolist() == pytest.approx(rises["rise"].tolist())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("study", "demo", "--format", "icl:x"), "expected a format such as qa or icl:5, got 'icl:x'; correct it"),
        (
            ("study", "demo", "--method", "best"),
            "expected methods among magnitude, wanda, sparsegpt, neurons, ffnskip, static, got 'best'; name some of "
            "these",
        ),
    ],
)
def test_errors_are_one_sentence(tmp_path, words, sentence):
    code, _, said = run(*words, "-o", tmp_path / "out")
    assert code == 1 and said == f"saturation: {sentence}\n" and not list(tmp_path.iterdir())
