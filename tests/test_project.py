"""The files around the code agree with each other and keep what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from benchmarks.lab import NEWS
from tests.makefile import make

TARGETS = ("demo", "real", "study", "test", "check", "browser", "lab", "docs", "bench", "gpu", "clean", "help")
IGNORED = (
    ".venv/bin/python",
    "runs/demo/table.parquet",
    "runs/browser/test_opening.png",
    "out/layers.pdf",
    "checkpoints/last.pt",
    "notebooks/out/a.png",
    "docs/api/trace.md",
    "docs/files/data.md",
    "docs/command.md",
)
KEPT = (
    "saturation/trace.py",
    "data/demo-model/model.safetensors",
    "notebooks/01_record_saturation.ipynb",
    ".ci/run",
    "docs/index.md",
)
# Absolute paths of one machine; names and slashes stand apart, so that this file is not its own finding.
MACHINE = re.compile(r"(?<![\w.~}])/(?:" + "|".join(["work", "root", "tmp", "home", "Users"]) + r")/\w")


def name_of(requirement: str) -> str:
    """Package that a requirement asks for, spelled as the index does."""
    return re.split(r"[\s<>=!~\[;]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def pins_of(lines: list[str]) -> dict[str, str]:
    """Pinned packages among the lines of a requirements file or of the pip list in environment.yml."""
    found = (re.fullmatch(r"\s*(?:- )?([\w.-]+)==([\w.]+)\s*", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def files_of(root: Path) -> list[Path]:
    """Files that git tracks or would; in an unpacked archive, every file outside the ignored folders."""
    git = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := root / name).is_file()]
    hidden = re.compile(r"(^|/)(\.git|\.venv|\.\w+_cache|__pycache__|\.ipynb_checkpoints|runs|out|checkpoints)/")
    files = (path for path in root.rglob("*") if path.is_file())
    return [path for path in files if not hidden.search(path.relative_to(root).as_posix())]


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, str]:
    return pins_of((root / "requirements.txt").read_text(encoding="utf-8").splitlines())


def test_every_dependency_is_pinned_and_nothing_else_is(project: dict, pins: dict[str, str]) -> None:
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert sorted(name_of(requirement) for requirement in asked) == sorted(pins)


def test_conda_installs_the_pinned_versions(root: Path, pins: dict[str, str]) -> None:
    lines = (root / "environment.yml").read_text(encoding="utf-8").splitlines()
    assert pins_of(lines) == pins
    assert "      - --editable .[dev]" in lines


def test_conda_makes_a_python_that_the_project_accepts(root: Path, project: dict) -> None:
    text = (root / "environment.yml").read_text(encoding="utf-8")
    (made,) = re.findall(r"- python=3\.(\d+)$", text, re.MULTILINE)
    assert int(made) >= int(project["requires-python"].removeprefix(">=3."))


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_every_promised_target(root: Path, target: str) -> None:
    done = make(root, "--dry-run", target)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" not in done.stdout


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], ""),
        (["MODEL=smollm2"], "--model 'smollm2'"),
        (["MODEL=my models/m.gguf", "TEXTS=own.txt"], "--model 'my models/m.gguf' --texts 'own.txt'"),
    ],
)
def test_make_demo_hands_model_and_texts_on(set_up: Path, words: list[str], asked: str) -> None:
    (line,) = (line for line in make(set_up, "--dry-run", "demo", *words).stdout.splitlines() if "saturation" in line)
    assert line.split() == f".venv/bin/saturation demo {asked}".split()


def test_make_help_lists_every_promised_target(root: Path) -> None:
    told = make(root, "help").stdout
    assert set(TARGETS) <= set(re.findall(r"^  make (\w+)", told, re.MULTILINE))


@pytest.mark.parametrize(
    ("choice", "asked"),
    [
        ("cpu", "--index-url https://download.pytorch.org/whl/cpu torch=={version}+cpu"),
        ("cuda", "--index-url https://download.pytorch.org/whl/cu130 torch=={version}+cu130"),
        ("cu126", "--index-url https://download.pytorch.org/whl/cu126 torch=={version}+cu126"),
        ("index", ""),
    ],
)
def test_make_asks_for_the_chosen_build_of_torch(
    root: Path, pins: dict[str, str], tmp_path: Path, choice: str, asked: str
) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "uname").write_text("#!/bin/sh\necho Linux\n", encoding="utf-8")
    (tmp_path / "uname").chmod(0o755)
    told = make(tmp_path, "--dry-run", "lint", f"TORCH={choice}", path=f"{tmp_path}:").stdout
    *first, rest = (line for line in told.splitlines() if "pip install" in line)
    assert " -r requirements.txt --editable" in rest and "torch==" not in rest
    assert [line.split("--retries 1 ")[1].split(" ||")[0] for line in first] == [asked.format(version=pins["torch"])][
        : bool(asked)
    ]


def test_make_refuses_an_unknown_build_of_torch(root: Path) -> None:
    done = make(root, "--dry-run", "demo", "TORCH=gpu")
    said = done.stderr.strip().partition("*** ")[2]
    choices = "cpu, cuda or index (leave it out for index)"
    assert done.returncode == 2
    assert said == f"TORCH chooses the build of torch and must be {choices}, but is 'gpu'.  Stop."


@pytest.fixture
def set_up(root: Path, tmp_path: Path) -> Path:
    """A checkout whose environment is made; what make would do beyond that is seen by --dry-run."""
    for name in ("pyproject.toml", "requirements.txt", "Makefile"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready-index").write_text(f"{tmp_path}\n", encoding="utf-8")
    return tmp_path


def test_make_test_looks_for_a_browser_before_the_tests(set_up: Path) -> None:
    steps = make(set_up, "--dry-run", "test").stdout.splitlines()
    (looks,) = (number for number, step in enumerate(steps) if "-m benchmarks.browser" in step)
    assert " -m pytest " in steps[-1] and looks < len(steps) - 1


@pytest.mark.parametrize(("path", "looks"), [("bin/chromium", False), ("bin/removed", True)])
def test_make_remembers_the_browser_as_long_as_it_is_there(set_up: Path, path: str, looks: bool) -> None:
    (set_up / "bin").mkdir()
    (set_up / "bin" / "chromium").touch(mode=0o755)
    (set_up / ".venv" / ".chromium").write_text(f"{set_up / path}\n", encoding="utf-8")
    assert ("-m benchmarks.browser" in make(set_up, "--dry-run", "test").stdout) is looks


def test_make_lab_switches_the_question_about_news_off_once(set_up: Path) -> None:
    command = f"labextension disable --level=sys_prefix {NEWS}"
    assert command in make(set_up, "--dry-run", "lab").stdout
    settings = set_up / ".venv" / "etc" / "jupyter" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    settings.touch()
    assert command not in make(set_up, "--dry-run", "lab").stdout


def test_git_ignores_what_runs_leave_behind(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True, capture_output=True)
    ask = ["git", "-C", str(tmp_path), "check-ignore", *IGNORED, *KEPT]
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split() == list(IGNORED)


def test_no_file_names_a_path_of_one_machine(root: Path) -> None:
    found = []
    files = files_of(root)
    assert root / "pyproject.toml" in files
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # weights and pictures
            continue
        where = path.relative_to(root)
        found += [f"{where}:{n}: {line[:90]}" for n, line in enumerate(lines, 1) if MACHINE.search(line)]
    assert found == []


def test_ci_runs_what_people_run(root: Path) -> None:
    script = root / ".ci" / "run"
    assert script.stat().st_mode & 0o111, ".ci/run is not executable"
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"
