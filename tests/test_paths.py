"""Paths as people write them: the home folder, folders where a file is meant, and what no file can be called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from saturation import figures
from saturation.atomic import located, writing
from saturation.calibration import Sample
from saturation.cli import app
from saturation.tasks import read
from saturation.trace import Trace
from tests import traces


def refused(sentence: str, kind: type[Exception] = ValueError) -> Any:
    return pytest.raises(kind, match="^" + re.escape(sentence) + "$")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a test, beside the folder that it works in."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_the_home_folder_is_meant_wherever_a_path_is_given(home: Path) -> None:
    trace = traces.trace()
    trace.save("~/a.parquet")
    assert Trace.load("~/a.parquet").equals(trace)
    written = figures.save(figures.layers(trace), "~/fig.pdf", alone=True)
    assert written == [home / "fig.pdf"] and figures.measure("~/fig.pdf").fonts
    sample = Sample(((1, 2),), "texts", "text", seed=0, budget=2, examples=(("a",),))
    sample.save("~/texts.json")
    assert Sample.load("~/texts.json") == sample
    (home / "own.jsonl").write_text('{"prompt": "a", "answers": ["b"]}\n')
    assert len(read("~/own.jsonl")) == 1
    assert list(Path().iterdir()) == []


def test_the_shell_need_not_know_the_home_folder(home: Path) -> None:
    """bash leaves `--out=~/x` as it is."""
    traces.trace().save(home / "a.parquet")
    (home / "rule.json").write_text('{"policy": "FFNSkip", "threshold": 0.99, "warmup": 0}')
    words = ["replay", "~/a.parquet", "--policy=~/rule.json", "--out=~/table.csv"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, (home / "table.csv").is_file(), list(Path().iterdir())) == (0, True, []), done.output
    done = CliRunner().invoke(app, ["figure", "layers", "~/a.parquet", "--out=~/fig.svg"])
    assert (done.exit_code, (home / "fig.svg").is_file(), list(Path().iterdir())) == (0, True, []), done.output


@pytest.mark.parametrize("path", [".", "..", "a/.."])
def test_a_folder_is_no_file(home: Path, path: str) -> None:
    with (
        refused(f"expected a file to save the thing in, got {str(Path(path))!r}, which is a folder; name a file in it"),
        writing(path, "the thing"),
    ):
        pass
    with refused(f"expected the name of a picture, got {str(Path(path))!r}, which is a folder; name a file in it"):
        figures.save(figures.layers(traces.trace()), path, formats=("pdf",))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("path", "shown", "reason"),
    [
        ("a\0b", "'a\\x00b'", "embedded null byte"),
        ("a" * 300, f"'{'a' * 60}...'", "File name too long"),
        ("~nobody-of-this-name/a", "'~nobody-of-this-name/a'", "Could not determine home directory."),
    ],
)
def test_what_no_file_can_be_called(home: Path, path: str, shown: str, reason: str) -> None:
    sentence = f"expected a path that a file can have, got {shown} ({reason}); name another"
    with refused(sentence):
        located(path)
    with refused(sentence), writing(path, "the thing"):
        pass
    with refused(sentence):
        Trace.load(path)


def test_errors_name_the_full_path(home: Path) -> None:
    here = Path().absolute()
    with refused(
        f"cannot save the trace to {here / 'none' / 'a.parquet'}: there is no folder {here / 'none'}; make it first, "
        "or name another path",
        FileNotFoundError,
    ):
        traces.trace().save("none/a.parquet")
