"""The command: what it writes, and that every error is one sentence with nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import saturation as st
from saturation import loading
from saturation.cli import app, arguments, doctor
from saturation.cli.app import SKIPPED, SKIPPED_ANSWER
from saturation.loading import bundled
from saturation.recording import texts
from saturation.tasks import bundled as task
from tests.families import build

PROMPT = "Question: Where was Mara Vance born?\nAnswer:"
RULE = '{"policy": "FFNSkip", "threshold": 0.99, "warmup": 0}'
FILES = {
    "broken.jsonl": '{"prompt": "a"}\n{"question": "b"}\n',
    "empty.jsonl": '{"prompt": ""}',
    "number.jsonl": '{"prompt": 5}',
    "none.jsonl": '{"prompt": null, "text": null}',
    "latin.jsonl": '{"prompt": "é"}\né',
}
STATIC = '{"policy": "StaticFFN", "layers": [3, 4]}'


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "trace.parquet"
    code, out, _ = run("record", "demo", "-p", PROMPT, "-n", 8, "-o", path)
    assert code == 0 and "tokens x 16 layers" in out
    return path


def test_record_reads_prompts_from_files(tmp_path):
    lines = [{"prompt": "One fine day"}, {"text": "Two sat there"}]
    (tmp_path / "given.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "given.txt").write_text("Three came\n\nFour went\n")
    for name in ("given.jsonl", "given.txt"):
        code, _, _ = run(
            "record", "demo", "--prompts", tmp_path / name, "-o", tmp_path / "t.parquet", "--also", "block"
        )
        loaded = st.Trace.load(tmp_path / "t.parquet")
        assert code == 0 and loaded.tokens["sequence"].nunique() == 2 and loaded.block_distance is not None


def test_generate_writes_text_and_numbers(tmp_path):
    dense = run("generate", "demo", "-p", PROMPT, "-n", 6)
    sparse = run("generate", "demo", "-p", PROMPT, "-n", 6, "--policy", RULE, "-o", tmp_path / "t.parquet")
    model, tokenizer = st.load("demo")
    assert dense[0] == 0 and dense[1] == st.generate(model, tokenizer, PROMPT, max_new_tokens=6).texts[0] + "\n"
    assert sparse[0] == 0 and "of decoded FFNs skipped), ideal speed-up" in sparse[2]
    assert st.Trace.load(tmp_path / "t.parquet").skipped.any()


def test_replay_prints_and_keeps_a_table(trace, tmp_path):
    rule = tmp_path / "rule.json"
    rule.write_text('{"policy": "FFNSkip", "threshold": null, "warmup": 0, "cold_end": 2}')
    code, out, _ = run("replay", trace, "--policy", rule, "--thresholds", "0.9,0.99", "-o", tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    expected = st.policies.replay_thresholds(st.FFNSkip(None, warmup=0, cold_end=2), st.Trace.load(trace), [0.9, 0.99])
    pd.testing.assert_frame_equal(table, expected)
    assert code == 0 and "nominal" in out and out.endswith(f"\n{SKIPPED}\n")
    code, out, _ = run("replay", trace, "--policy", STATIC)
    assert code == 0 and "0.1250" in out


def test_sweep_scores_policies_beside_the_dense_model(tmp_path):
    own = tmp_path / "seed=1" / "own.jsonl"  # a sign that names published files too
    own.parent.mkdir()
    own.write_text(json.dumps({"prompt": PROMPT, "answers": ["nowhere"], "stop": "\n"}), encoding="utf-8")
    words = ["sweep", "demo", "-t", "factoid", "-t", own, "--policy", STATIC]
    code, out, _ = run(*words, "--examples", 5, "-o", tmp_path / "runs")
    rows, summary = (pd.read_csv(tmp_path / "runs" / f"{name}.csv") for name in ("rows", "summary"))
    assert code == 0 and len(rows) == 12 and "static FFN, layers 3, 4" in out and out.endswith(f"\n{SKIPPED_ANSWER}\n")
    correct = summary[summary["score"] == "correct"].set_index(["task", "policy"])["mean"]
    assert correct["factoid", "dense"] == 1 and correct["own", "dense"] == 0
    assert summary.loc[summary["policy"] != "dense", "decode"].eq(0.125).all()
    code, _, err = run("sweep", "demo", "-t", "facts", "-o", tmp_path / "none")
    assert code == 1 and "expected a bundled task among" in err and not (tmp_path / "none").exists()


def test_eval_compares_policies_with_the_dense_model(tmp_path):
    """The rows are those of `quality.evaluate`; the tests that of `quality.compare`, task by task."""
    words = ["eval", "demo", "-t", "problems", "-t", "stories", "--examples", 6, "--policy", STATIC]
    code, out, err = run(*words, "-o", tmp_path / "rows.parquet")
    assert code == 0, err
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(rows) == 24 and rows["text"].notna().sum() == 12, "every example, whole"
    dense, sparse = (
        st.quality.evaluate(*st.load("demo"), task("problems").head(6), policy=policy, progress=False)
        for policy in (None, st.policies.from_json(STATIC))
    )
    kept = rows[rows["task"] == "problems"]
    assert kept["text"].tolist() == [*dense["text"], *sparse["text"]]
    skipped, scored = out.split("mean over n rows and its 95 % interval; difference from the dense run, ")
    assert "answer, of all at the decode steps that wrote the scored answer" in skipped and "nominal" in skipped
    found = st.quality.compare(sparse, dense, "correct")
    (line,) = (line for line in scored.splitlines() if " correct " in line and "static" in line)
    said = f"{found['difference']:.4f} {found['lost']} {found['won']} {found['p']:.2g}"
    assert " ".join(line.split()).endswith(said)
    assert "agreement static" in " ".join(scored.split()) and "agreement dense" not in " ".join(scored.split())
    assert rows["kl"].notna().all() and (rows.loc[rows["policy"] == "dense", "kl"] == 0).all()
    dense, sparse = (rows[(rows["task"] == "stories") & (rows["policy"] == name)] for name in rows["policy"].unique())
    (line,) = (line for line in scored.splitlines() if " nll " in line and "static" in line)
    rise = (sparse["nll"].sum() - dense["nll"].sum()) / dense["tokens"].sum()
    assert f" {rise:.4f} " in line, "nats per token"


def test_eval_keeps_rows_as_csv_and_says_nothing_of_one_run(tmp_path):
    code, out, _ = run("eval", "demo", "-t", "factoid", "--examples", 3, "-o", tmp_path / "rows.csv")
    assert code == 0 and "nominal" not in out and "McNemar" not in out.partition("\n     task")[2]
    assert pd.read_csv(tmp_path / "rows.csv")["policy"].eq("dense").all()


def test_the_doctor_names_what_is_at_hand():
    code, out, _ = run("doctor", "demo")
    said = {line[4:16].strip(): (line[:2], line[17:]) for line in out.splitlines()}
    model, _ = st.load("demo")
    blocks = st.anatomy.find_blocks(model)
    share = sum(p.numel() for block in blocks for module in block.chain for p in module.parameters())
    share /= sum(p.numel() for p in model.parameters())
    assert code == 0 and said["saturation"][1].startswith(st.__version__)
    assert torch.__version__ in said["packages"][1] and said["demo model"][1].startswith("as committed")
    assert said["FFN blocks"][1].startswith(f"{len(blocks)} found, behind attention, {share:.0%} of the weights; ")
    assert {"CPU", "lm-eval", "datasets", "openai", "playwright", "Chromium"} <= said.keys()
    assert (said["CUDA"][0] == "--") if "CUDA" in said else torch.cuda.is_available()


def test_the_doctor_counts_the_experts_that_a_token_reads(monkeypatch):
    model = build("mixtral")
    monkeypatch.setattr(doctor, "open_model", lambda *options: (model, None))
    held = sum(p.numel() for layer in model.model.layers for p in layer.mlp.parameters())
    held += sum(layer.post_attention_layernorm.weight.numel() for layer in model.model.layers)
    idle = sum(p.numel() for layer in model.model.layers for p in layer.mlp.experts.parameters()) / 3
    whole = model.get_memory_footprint() / 4
    saved = (held - idle) / (whole - idle) / 4
    said = f"{held / whole:.0%} of the weights; a quarter of them skipped saves {saved:.0%} of the bytes read, "
    assert said + f"{1 / (1 - saved):.2f}x in speed" in run("doctor", "mixtral")[1]


def test_the_doctor_tells_a_fault_from_what_few_need(monkeypatch, tmp_path):
    broken = shutil.copytree(loading.DEMO, tmp_path / "demo")
    (broken / "config.json").write_text("{}")
    monkeypatch.setattr(loading, "DEMO", broken)
    versions = {"lm-eval": None, "playwright": None, "torch": "1.0"}
    installed = doctor.metadata.version

    def version(package):
        if package in versions and versions[package] is None:
            raise doctor.metadata.PackageNotFoundError(package)
        return versions.get(package) or installed(package)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    code, out, _ = run("doctor")
    assert code == 1
    assert "!!  packages     torch>=2.11 is needed, found 1.0; pip install --upgrade the ones named\n" in out
    assert (
        f"!!  demo model   expected the bundled model as it was committed, but {broken / 'config.json'} differs" in out
    )
    assert "--  lm-eval      not installed, needed for: saturation eval --lm-eval; pip install lm-eval\n" in out
    assert "--  Chromium     none found, needed for: tests and pictures in a browser; playwright install" in out


def test_the_doctor_says_why_a_model_cannot_be_skipped(monkeypatch):
    model, tokenizer = st.load("demo")
    monkeypatch.setattr(doctor, "open_model", lambda *options: (model.model, tokenizer))
    code, out, _ = run("doctor", "demo")
    assert code == 1 and "!!  FFN blocks   expected a causal language model (a decoder, as AutoModelForCausalLM" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["record", "demo", "-o", "t.parquet"], "expected a prompt, got none; give --prompt TEXT, or --prompts FILE"),
        (
            ["record", "demo", "-p", "a", "-o", "nowhere/t.parquet"],
            "expected a folder to write t.parquet into, but nowhere does not exist; make it first",
        ),
        *(
            (
                ["harm", "demo", "-p", "a", "-o", "h.parquet", "--action", given],
                f"expected an action among narrow:0.5, mean, scale and map:64, got '{given}'; name one of them",
            )
            for given in ("half", "narrow:x", "mean:3", "map:.5")
        ),
        (
            ["harm", "demo", "-p", "a", "-o", "h.parquet", "--fit", "stories"],
            "expected --fit beside --action, got it alone; name an action, or leave --fit out",
        ),
        (
            ["record", "demo", "-p", "a", "-o", "t.csv"],
            "expected a name that ends in .parquet for the trace, got t.csv; rename it",
        ),
        (
            ["record", "demo", "--prompts", "broken.jsonl", "-o", "t.parquet"],
            "expected a field 'prompt' or 'text' in line 2 of broken.jsonl, found none; add it",
        ),
        (
            ["generate", "demo", "-p", "a", "--policy", '{"policy": "FFNSkip", "threshold": 3}'],
            "expected a threshold that is a cosine in [-1, 1], or None to never skip, got 3; a saturated block has a "
            "cosine such as 0.999",
        ),
        (
            ["eval", "demo"],
            "expected either --task or --lm-eval, got neither; name the tasks with one of them",
        ),
        (
            ["eval", "demo", "-t", "factoid", "--lm-eval", "mmlu"],
            "expected either --task or --lm-eval, got both; name the tasks with one of them",
        ),
        (
            ["eval", "demo", "-t", "factoid", "-t", "factoid"],
            "expected tasks with a name each, got 'factoid' twice; leave one out or rename its file",
        ),
        (
            ["eval", "demo", "-t", "factoid", "--num-fewshot", "2"],
            "expected --include-path and --num-fewshot with --lm-eval only, got --task; leave them out",
        ),
        (
            ["eval", "demo", "-t", "factoid", "--policy", "nowhere.json"],
            "expected a policy such as ffnskip:threshold=0.999,warmup=0, JSON or a file of it, got 'nowhere.json', and "
            "there is no such file",
        ),
        (
            ["eval", "demo", "-t", "factoid", "-o", "rows.txt"],
            "expected a name that ends in .csv or .parquet for the rows, got rows.txt; rename it",
        ),
        (
            ["eval", "demo", "-t", "factoid", "-o", "nowhere/rows.csv"],
            "expected a folder to write rows.csv into, but nowhere does not exist; make it first",
        ),
        (
            ["eval", "demo", "-t", "factoid", "--policy", STATIC, "--policy", STATIC],
            "expected policies that a table can tell apart, got 'static FFN, layers 3, 4' twice; run one of them, or "
            "saturation.sweep with names of your own",
        ),
        *(
            (
                ["generate", "demo", "--prompts", f"{name}.jsonl"],
                f"expected 'prompt' or 'text' in line 1 of {name}.jsonl to be a text, not empty, got {got}; correct it "
                "or remove the line",
            )
            for name, got in (("empty", "''"), ("number", "5"), ("none", "None"))
        ),
        (
            ["generate", "demo", "-p", "a", "--policy", '{"policy": "StaticFFN", "layers": 3}'],
            "expected layers of StaticFFN to be a list of whole numbers, got 3; write one as (3,)",
        ),
        (
            ["generate", "demo", "-p", "a", "--dtype", "foo"],
            "expected a type of weights such as 'float32', 'bfloat16' or 'auto', got 'foo'; name one of them",
        ),
        (
            ["generate", "demo", "--prompts", "nowhere.txt"],
            "expected a file of prompts, but nowhere.txt cannot be read: No such file or directory; correct the path",
        ),
        *(
            (
                words,
                f"expected {what} in UTF-8, but latin.jsonl is not; save it as UTF-8",
            )
            for words, what in (
                (["generate", "demo", "--prompts", "latin.jsonl"], "a file of prompts"),
                (["generate", "demo", "-p", "a", "--policy", "latin.jsonl"], "a policy"),
                (["eval", "demo", "-t", "latin.jsonl"], "a file of JSON lines"),
                (["eval", "demo", "-t", "gsm8k=latin.jsonl"], "the file of gsm8k"),
            )
        ),
        (
            ["sweep", "demo", "-t", "gsm8k=nowhere", "-o", "out"],
            "expected the file of gsm8k, but nowhere cannot be read: No such file or directory; correct the path",
        ),
        (
            ["replay", "none.parquet", "--thresholds", "0.9,abc"],
            "expected --thresholds to be numbers with commas between them, such as 0.99,0.999, got '0.9,abc'; correct "
            "them",
        ),
        (
            ["eval", "demo", "-t", "factoid", "-o", "folder.csv"],
            "expected a file for the rows, but folder.csv is a folder; name a file in it",
        ),
        *(
            (
                words,
                f"expected a place to write to with --out, but {words[-1]} cannot be written: Not a directory; name "
                "another",
            )
            for words in (
                ["demo", "-o", "none.jsonl"],
                ["sweep", "demo", "-t", "factoid", "-o", "none.jsonl/out"],
            )
        ),
        (
            ["generate", "demo", "-p", "a", "--policy", '{"policy": '],
            'expected a policy as JSON, got \'{"policy": \'; write it like \'{"policy": "FFNSkip", "threshold": '
            "0.999}', or as ffnskip:threshold=0.999,warmup=0",
        ),
    ],
)
def test_an_error_is_one_sentence_and_leaves_nothing(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="latin-1")
    Path("folder.csv").mkdir()
    monkeypatch.setattr(bundled, "verify", lambda folder: pytest.fail("a model is loaded before the error is known"))
    code, out, err = run(*words)
    assert (code, out, err) == (1, "", f"saturation: {expected}\n")
    assert {path.name for path in Path().iterdir()} == {*FILES, "folder.csv"}


OUT = {
    "record": ["demo", "-p", "a", "-o", "{}/t.parquet"],
    "generate": ["demo", "-p", "a", "-o", "{}/t.parquet"],
    "replay": ["none.parquet", "-o", "{}/t.csv"],
    "eval": ["demo", "-t", "factoid", "-o", "{}/rows.csv"],
    "sweep": ["demo", "-t", "factoid", "-o", "{}/runs"],
    "tune": ["demo", "-t", "factoid", "--policy", "static:layers=3", "-o", "{}/runs"],
    "figure": ["layers", "none.parquet", "-o", "{}/f.pdf"],
    "demo": ["-o", "{}/runs"],
}


@pytest.mark.parametrize("command", OUT)
def test_a_place_that_cannot_be_written_is_found_before_the_work(command, tmp_path, monkeypatch):
    def refused(dir):
        raise PermissionError(13, "Permission denied", dir)

    monkeypatch.setattr(arguments, "TemporaryFile", refused)  # a superuser may write anywhere
    monkeypatch.setattr(bundled, "verify", lambda folder: pytest.fail("a model is loaded before the error is known"))
    words = [word.format(tmp_path) for word in OUT[command]]
    assert run(command, *words) == (
        1,
        "",
        f"saturation: expected a place to write to with --out, but {words[-1]} cannot be written: Permission denied; "
        "name another\n",
    )
    assert not any(tmp_path.iterdir())


def test_even_an_error_that_nobody_thought_of_is_one_sentence(monkeypatch):
    def broken(*_, **__):
        raise KeyError("text")

    monkeypatch.setattr(loading, "load", broken)
    code, out, err = run("generate", "demo", "-p", "a")
    said = "saturation: failed with KeyError: 'text'; where what you gave is right, please report this\n"
    assert (code, out, err) == (1, "", said)


def test_an_interrupt_keeps_what_was_recorded(tmp_path, monkeypatch):
    read = texts._Reading.__call__
    passes = []

    def interrupted(self, model, batch):
        if passes:
            raise KeyboardInterrupt
        passes.append(batch)
        read(self, model, batch)

    monkeypatch.setattr(texts._Reading, "__call__", interrupted)
    out = tmp_path / "t.parquet"
    code, _, err = run("record", "demo", "-p", "One fine day", "-p", "Two sat there", "--batch-size", 1, "-o", out)
    kept = st.Trace.load(out)
    assert code == 130 and kept.provenance["complete"] is False and len(kept) == len(passes[0][0])
    assert err == f"saturation: interrupted; {len(kept)} tokens are in {out}, marked incomplete\n"


def test_the_command_is_installed_and_its_errors_have_no_traceback(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("saturation"), "figure", "layers", tmp_path / "none.parquet", "-o", "f.pdf"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and done.stderr.startswith("saturation: ") and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
