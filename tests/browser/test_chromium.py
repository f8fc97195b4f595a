"""Where the browser of these tests comes from: named, found, installed, or refused in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.browser import NAMED, NAMES
from benchmarks.lab import ROOT

AS_ROOT = "import sys; from benchmarks import browser; browser.is_root = lambda: {root}; print(browser.install())"


@pytest.fixture(scope="module")
def real() -> str:
    """The Chromium that the other tests use."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.browser"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Environment of a machine without any Chromium, where Playwright cannot download its own."""
    (tmp_path / "bin").mkdir()
    nowhere = {"PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "own"), "PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9"}
    kept = {name: value for name, value in os.environ.items() if name != NAMED}
    return {**kept, **nowhere, "PATH": str(tmp_path / "bin")}


def command(folder: Path, name: str, script: str) -> Path:
    """A program that a bare machine has after all."""
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def install(env: dict[str, str], root: bool) -> subprocess.CompletedProcess[str]:
    """What `make browser` does, as root or as somebody else."""
    code = AS_ROOT.format(root=root)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)


def test_a_browser_that_is_there_is_found_and_nothing_is_said(real: str) -> None:
    done = install(dict(os.environ), root=True)
    assert (done.stdout.strip(), done.stderr) == (real, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_usual_name_is_found(real: str, bare: dict[str, str], tmp_path: Path, name: str) -> None:
    there = command(tmp_path, name, f'exec "{real}" "$@"')
    done = install(bare, root=True)
    assert (done.stdout.strip(), done.stderr) == (str(there), "")


def test_where_playwright_offers_none_root_gets_the_distributions(
    real: str, bare: dict[str, str], tmp_path: Path
) -> None:
    brought = f"""printf '#!/bin/sh\\nPATH={os.environ["PATH"]} exec "{real}" "$@"\\n' > {tmp_path}/bin/chromium"""
    command(tmp_path, "apt-get", f'case "$*" in install*chromium) {brought}; chmod +x {tmp_path}/bin/chromium;; esac')
    done = install(bare, root=True)
    assert done.stdout.strip() == str(tmp_path / "bin" / "chromium"), done.stderr
    assert done.stderr.splitlines() == [
        f"No Chromium starts yet, trying: {sys.executable} -m playwright install --no-shell chromium",
        "No Chromium starts yet, trying: apt-get update --quiet",
        "No Chromium starts yet, trying: apt-get install --quiet --yes --no-install-recommends chromium",
    ]


def test_nobody_but_root_installs_packages(bare: dict[str, str], tmp_path: Path) -> None:
    command(tmp_path, "apt-get", f"touch {tmp_path}/called")
    done = install(bare, root=False)
    assert done.returncode == 1
    assert not (tmp_path / "called").exists()
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: The browser tests need a Chromium that starts, but neither Playwright nor the system has one. "
        "Install one with `make browser` (on Debian as root: apt-get install chromium), or name one: "
        "SATURATION_CHROMIUM=/path/to/chromium"
    )


def test_a_named_browser_that_does_not_start_is_refused(bare: dict[str, str], tmp_path: Path) -> None:
    broken = command(tmp_path, "broken", "echo error while loading shared libraries: libnss3.so >&2; exit 127")
    done = install(bare | {NAMED: str(broken)}, root=True)
    assert done.returncode == 1
    assert f"but {broken} does not start (" in done.stderr
    assert "libnss3.so" in done.stderr
    assert "trying" not in done.stderr, "whoever names a browser wants that one"
