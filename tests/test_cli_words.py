"""The command's words: its help, examples, policies in a few words, and what it says of long work and to nobody."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import saturation as st
from saturation import progress
from saturation.cli import app
from saturation.cli.app import ORDER
from saturation.cli.arguments import read_policy
from saturation.policies import FFNSkip, Policy, RandomFFN, StaticFFN, from_words

SATURATION = (sys.executable, "-c", "from saturation.cli import app; app()")


def help_of(*verb: str) -> str:
    done = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


# The help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["", *ORDER])
def test_the_help_fits_80_columns_and_cuts_no_word(verb: str) -> None:
    """Every option stands there in full, every sentence with each of its words."""
    text = help_of(*filter(None, [verb]))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text and "..." not in text.replace("]...", "]"), "a sentence is cut"
    group: Any = typer.main.get_command(app)
    for command in [group.commands[verb]] if verb else group.commands.values():
        for option in command.params if verb else ():
            assert all(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in option.opts if "-" in name)
        assert " ".join(command.help.split()) in " ".join(text.split())


@pytest.mark.parametrize("verb", ORDER)
def test_each_verbs_help_ends_with_an_example_that_parses(verb: str) -> None:
    text = help_of(verb)
    *_, head, line = text.rstrip().splitlines()
    assert head.strip() == "Example:" and line.strip().startswith(f"saturation {verb} ")
    group: Any = typer.main.get_command(app)
    _, named, *words = shlex.split(line)
    with group.commands[named].make_context(named, words) as context:
        given = context.params.get("policy") or ()
        assert all(isinstance(read_policy(one), Policy) for one in ([given] if isinstance(given, str) else given))


# A policy in a few words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("ffnskip:threshold=0.999,warmup=0", FFNSkip(0.999, warmup=0)),
        ("FFNSkip: threshold=none", FFNSkip(None)),
        ("ffnskip:threshold=.999,prefill=True,causal=false,horizon=3", FFNSkip(0.999, prefill=True, horizon=3)),
        ("ffnskip:threshold=0.99+none+0.98,warmup_on=position", FFNSkip((0.99, None, 0.98), warmup_on="position")),
        ("static:layers=3+4,sink=0", StaticFFN((3, 4), sink=0)),
        ("staticffn:layers=3", StaticFFN((3,))),
        ("static", StaticFFN()),
        ("random:ratio=0.25,seed=7,per=run", RandomFFN(0.25, seed=7, per="run")),
    ],
)
def test_a_policy_in_a_few_words(text: str, policy: Policy) -> None:
    assert from_words(text) == policy == read_policy(text)


ONCE = "expected each option behind ffnskip: once, as in threshold=0.999,warmup=0, got"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ffnskip:threshold", f"{ONCE} 'threshold'; correct it"),
        ("ffnskip:threshold=1,threshold=0", f"{ONCE} 'threshold=0'; correct it"),
        ("random:ratio=much", "expected ratio of RandomFFN to be a number, got 'much'; correct it"),
        (
            "static:layers=3+x",
            "expected layers of StaticFFN to be a list of whole numbers, got (3, 'x'); write one as (3,)",
        ),
        (
            "static:layer=3",
            "expected options of StaticFFN among sink, action, layers, decode_only, got 'layer'; correct it",
        ),
    ],
)
def test_words_that_are_no_policy(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:
        from_words(text)
    assert str(refusal.value) == sentence


def test_a_name_that_is_no_policys() -> None:
    with pytest.raises(ValueError, match=r"^expected a policy among .*\bffnskip\b.*, got 'rondom'; name one of them$"):
        from_words("rondom:ratio=0.2")


def test_a_file_that_is_called_like_a_policy_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("static").write_text(StaticFFN((5,)).to_json())
    assert read_policy("static") == StaticFFN((5,))


# What it says, and to whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["doctor"], ["--help"], ["figure", "--help"], ["replay", "trace.parquet"]])
def test_nothing_is_said_to_a_pipe_that_nobody_reads(words: list[str], root: Path, tmp_path: Path) -> None:
    from tests import traces

    traces.trace().save(tmp_path / "trace.parquet")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run: dict[str, Any] = {"stdout": writing, "stderr": subprocess.PIPE, "text": True, "check": False}
        done = subprocess.run([*SATURATION, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, **run)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_long_work_is_told_in_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "record",
        "demo",
        "-p",
        "One day",
        "-p",
        "Two cats",
        "--batch-size",
        "1",
        "-o",
        str(tmp_path / "t.parquet"),
    ]
    quiet = CliRunner().invoke(app, words)
    assert (quiet.exit_code, quiet.stderr) == (0, ""), "short work says nothing"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    told = CliRunner().invoke(app, words)
    lines = told.stderr.splitlines()
    assert told.exit_code == 0 and told.stdout == quiet.stdout
    assert [re.sub(r"\d+ s", "", line) for line in lines] == [
        "recording: 1 of 2, 50%, ",
        "recording: 2 of 2, 100%, ",
        "recording: 2 of 2, 100%, ",
    ]


def test_a_library_call_says_nothing_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    st.record(*st.load("demo"), ["One day"])
    assert capfd.readouterr() == ("", "")
