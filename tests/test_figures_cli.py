"""`saturation figure`: one figure of traces, and a paper's set from the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import traces
from typer.testing import CliRunner

from saturation import figures
from saturation.cli import app, paper_figures
from saturation.trace import Harm


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["figure", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def rows() -> pd.DataFrame:
    """Scored examples as a sweep keeps them."""
    policies = {
        "dense": 0,
        "FFN-SkipLLM, cosine 0.99": 2,
        "FFN-SkipLLM, cosine 0.9, warm-up 5": 3,
        "static FFN, layer 3": 1,
    }
    found = [
        {"task": "factoid", "example": f"factoid-{n:03}", "kind": ("town", "pet")[n % 2], "policy": name}
        | {
            "text": f" {name} says {n}",
            "correct": bool(n % (skipped + 1) == 0),
            "seed": {0: None, 3: 2}.get(skipped, 0),
            "collapsed": False,
            "repetition": 0.0,
        }
        | {"skipped": skipped, "blocks": 16, "answer_skipped": skipped, "answer_blocks": 16}
        for name, skipped in policies.items()
        for n in range(12)
    ]
    return pd.DataFrame(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run leaves behind: traces, tables, scored examples, and cells of a sweep that may be another model's."""
    (tmp_path / "run" / "cells").mkdir(parents=True)
    folder = tmp_path / "run"
    traces.trace(model="demo").save(folder / "read.parquet")
    traces.trace(model="demo", skip=0.2).save(folder / "sparse.parquet")
    rows().replace({"text": {" dense says 5": "None"}}).to_csv(folder / "rows.csv", index=False)
    rows().assign(policy="of another model", text=" None").to_parquet(folder / "cells" / "0.parquet")
    layers = pd.DataFrame(
        {"layer": range(4), "cosine": [0.9, 0.99, 0.98, 0.95], "rho": [0.4, 0.1, 0.2, 0.1], "loss rise": 0.01}
    )
    before = layers.drop(columns="layer").add_prefix("untrained ")
    pd.concat([layers, before], axis="columns").to_csv(folder / "layers.csv", index=False)
    loss = pd.DataFrame({"policy": "random", "ratio": [0.1, 0.2], "loss": 0.1, "low": 0.05, "high": 0.2})
    loss.to_csv(folder / "tradeoff.csv", index=False)
    training = pd.DataFrame(
        {"tokens": [0, 0, 1000, 1000], "layer": [0, 1, 0, 1], "cosine": [0.8, 0.9, 0.9, 0.99], "rho": [1, 0.2, 1, 0.3]}
    )
    training.to_csv(folder / "training.csv", index=False)
    return folder


def test_all_draws_what_the_files_allow(folder: Path, tmp_path: Path) -> None:
    code, out, err = run("--all", folder, "-o", tmp_path / "paper", "--venue", "icml")
    assert (code, err) == (0, "")
    written = {Path(line) for line in out.splitlines()}
    assert set((tmp_path / "paper").iterdir()) == written
    names = {path.name.removesuffix(".pdf") for path in written if path.suffix == ".pdf"}
    assert names == {
        *("layers", "growth", "distribution", "tokens_read", "tokens_sparse", "skipped_sparse"),
        *("tradeoff_loss", "layers_rise", "training", "by_category_factoid", "answers_factoid"),
    }
    for name in names:
        across = figures.measure(tmp_path / "paper" / f"{name}.pdf").width
        assert across == pytest.approx(3.25, abs=0.01) or across == pytest.approx(6.75, abs=0.01)
        for suffix in ("png", "data.csv", "manifest.json"):
            assert tmp_path / "paper" / f"{name}.{suffix}" in written
    tables = {path.name.partition(".")[0] for path in written if path.suffix == ".tex"}
    assert tables == {"tradeoff_loss", "by_category_factoid"}
    about = json.loads((tmp_path / "paper" / "tradeoff_loss.manifest.json").read_text())["about"]
    assert [one["model"] for one in about["traces"]] == ["demo", "demo"] and about["seeds"] == [0, 2]
    assert set(pd.read_csv(tmp_path / "paper" / "layers.data.csv")["trace"]) == {"read"}  # the other one skips
    asked = pd.read_csv(tmp_path / "paper" / "answers_factoid.data.csv")
    assert asked["prompt"].str.startswith("Question: ").all()
    assert "None" in paper_figures.read(folder, pytest.fail).rows["text"].tolist(), "a text, not a missing one"
    assert set(asked["policy"]) == {"dense", "FFN-SkipLLM, cosine 0.9, warm-up 5", "static FFN, layer 3"}


def test_an_empty_text_is_drawn_as_one(tmp_path: Path) -> None:
    """A CSV file does not tell it from a text that is missing, nor a text of digits from a number."""
    sparse = "static FFN, layer 3"
    told = rows()[rows()["policy"].isin(["dense", sparse])].replace({"kind": {"pet": ""}})
    told["text"] = ["18"] * 12 + [""] * 6 + ["7"] * 6
    choice = told.assign(task="choice", text=None)
    pd.concat([told, choice]).to_csv(tmp_path / "rows.csv", index=False)
    code, out, err = run("--all", tmp_path)
    assert (code, err) == (0, "") and "answers_choice" not in out and "by_category_factoid" in out
    kept = pd.read_csv(tmp_path / "figures" / "answers_factoid.data.csv", keep_default_na=False, dtype=str)
    assert kept.loc[kept["policy"] == "dense", "text"].eq("18").all()
    assert kept.loc[kept["policy"] == sparse, "text"].eq("").all() and "nan" not in kept.to_csv()
    read = paper_figures.read(tmp_path, pytest.fail).rows
    assert read["text"][:24].tolist() == told["text"].tolist() and read["text"][24:].isna().all()
    assert set(read["kind"]) == {"town", ""}


def test_all_reads_the_summary_of_a_sweep(tmp_path: Path) -> None:
    from saturation.quality import summarise

    rows().assign(task="own").to_csv(tmp_path / "rows.csv", index=False)
    summarise(rows().assign(task="own")).to_csv(tmp_path / "summary.csv", index=False)
    code, out, _ = run("--all", tmp_path)
    assert code == 0
    names = {Path(line).stem for line in out.splitlines() if line.endswith(".pdf")}
    assert names == {"tradeoff_own", "warmup_own", "by_category_own", "answers_own"}
    assert {Path(line).parent for line in out.splitlines()} == {tmp_path / "figures"}
    again = run("--all", tmp_path)
    assert again == (0, out, "")  # what it drew is not taken for a run's table


def test_texts_that_differ_and_policies_of_two_kinds_are_shown() -> None:
    names = ["dense", "FFN-SkipLLM, target 25%", "random, target 25%", "static, target 25%", "static, target 15%"]
    given = pd.DataFrame(
        [
            {"example": f"{n}", "policy": name, "skipped": n, "blocks": 9, "text": f"{n}{name * (n in odd)}"}
            for name, odd in zip(names, [(), (5,), (1, 2, 3), (7,), ()], strict=True)
            for n in range(9)
        ]
    )
    given.loc[given["policy"] == names[-1], "skipped"] = 0
    policies = paper_figures._telling(given)
    assert policies == ["dense", "FFN-SkipLLM, target 25%", "static, target 25%"]
    assert paper_figures._differing(given, policies) == ["5", "7", "0"]


def test_what_cannot_be_drawn_is_left_out_in_a_sentence(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        path.unlink()
    dead = traces.trace(skip=1.1)
    dead.save(folder / "dead.parquet")
    (folder / "torn.parquet").write_bytes((folder / "dead.parquet").read_bytes()[:5000])
    pd.DataFrame({"a": [1]}).to_parquet(folder / "other.parquet")
    code, out, _ = run("--all", folder)
    assert code == 0 and (folder / "figures" / "layers_rise.pdf").exists()
    expected = "nothing to draw: the trace 'made-up' has no distance, for every block in it was skipped"
    assert f"tokens_dead is left out: {expected}" in out.splitlines()
    assert f"torn.parquet is left out: cannot load {folder / 'torn.parquet'}: it is damaged or no Parquet file" in out
    assert "other" not in out, "a table of something else is none of its business"


def test_all_refuses_a_folder_without_traces_and_one_that_cannot_be_made(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "empty" / "a.csv")
    expected = (
        f"saturation: expected traces or tables of a run in {tmp_path / 'empty'}, found none; make some with "
        "saturation demo, record or sweep, or name another folder with --all\n"
    )
    assert run("--all", tmp_path / "empty") == (1, "", expected)
    assert not (tmp_path / "empty" / "figures").exists()
    expected = f"expected the folder of a run, but there is no folder {tmp_path / 'none'}; name one with --all"
    assert run("--all", tmp_path / "none") == (1, "", f"saturation: {expected}\n")
    taken = tmp_path / "empty" / "a.csv" / "figures"
    expected = f"saturation: cannot make the folder {taken}: Not a directory; name another with --out\n"
    assert run("--all", folder, "-o", taken) == (1, "", expected)


def test_several_traces_are_labelled(folder: Path, tmp_path: Path) -> None:
    one, out = folder / "read.parquet", tmp_path / "two.svg"
    code, _, _ = run("layers", one, one, "--label", "one", "--label", "other", "-o", out)
    assert code == 0 and ">other<" in out.read_text()


@pytest.mark.parametrize("kind", ["layers", "tokens", "distribution", "growth", "skipped"])
def test_figure_draws_every_kind(kind: str, folder: Path, tmp_path: Path) -> None:
    code, out, err = run(kind, folder / "sparse.parquet", "-o", tmp_path / "figure.pdf", "--venue", "acl")
    assert code == 0, err
    assert [Path(line).name for line in out.splitlines()] == ["figure.pdf", "figure.data.csv", "figure.manifest.json"]
    assert figures.measure(tmp_path / "figure.pdf").width == pytest.approx(7.7 / 2.54, abs=0.01)
    told: dict[str, Any] = json.loads((tmp_path / "figure.manifest.json").read_text())
    assert told["figure"] == kind and told["about"]["traces"][0]["model"] == "demo"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["layers"], "expected files to draw, perhaps a kind before them, or --all FOLDER; give one or the other"),
        (["layers", "--all", "."], "expected either --all FOLDER or a kind and traces, got both; leave one out"),
        (
            ["skipped", "a"],
            "expected a trace in which blocks were skipped, but in a every one ran; make one with saturation generate "
            "MODEL --policy RULE --out FILE",
        ),
        (["tokens", "a", "b"], "expected one trace to draw as tokens, got 2; draw them apart"),
        (
            ["layers", "a", "a"],
            "expected a label of its own for each of 2 traces, got ['a', 'a']; give --label",
        ),
    ],
)
def test_what_the_command_refuses(words: list[str], expected: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        traces.trace().save(tmp_path / f"{name}.parquet")
    given = [tmp_path / f"{word}.parquet" if word in ("a", "b") else word for word in words]
    out = ["-o", tmp_path / "figure.pdf"] if len(words) > 1 else []
    assert run(*given, *out) == (1, "", f"saturation: {expected}\n")
    assert not (tmp_path / "figure.pdf").exists()


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["dense"], "layers"), (["sparse"], "skipped"), (["dense", "sparse"], "layers"), (["harm", "dense"], "harm")],
)
def test_the_kind_of_a_figure_is_guessed(names: list[str], kind: str, tmp_path: Path) -> None:
    traces.trace().save(tmp_path / "dense.parquet")
    traces.trace(skip=0.2).save(tmp_path / "sparse.parquet")
    kl = traces.distances(60, seed=1)
    Harm(tokens=traces.tokens(), kl=kl, model="made-up", dtype="float32").save(tmp_path / "harm.parquet")
    code, out, err = run(*(tmp_path / f"{name}.parquet" for name in names))
    others = "layers, tokens, skipped, distribution, growth, harm"
    assert (code, err) == (0, f"drawn as {kind}; name another kind before the file: {others}\n")
    picture = tmp_path / f"{names[0]}.{kind}.pdf"
    assert out.splitlines()[0] == str(picture) and figures.measure(picture).fonts
    told = json.loads(picture.with_suffix(".manifest.json").read_text())
    assert told["figure"] == ("harm_against" if kind == "harm" else kind)


def test_a_kind_that_is_none_is_told(tmp_path: Path) -> None:
    traces.trace().save(tmp_path / "a.parquet")
    expected = "expected a kind among layers, tokens, skipped, distribution, growth, harm, or a file, got 'layrs'"
    assert run("layrs", tmp_path / "a.parquet") == (1, "", f"saturation: {expected}; correct it\n")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    code, out, err = run(tmp_path / "other.parquet")
    assert (code, out) == (1, "") and "which is neither; make one with saturation record" in err
