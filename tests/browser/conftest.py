"""A real JupyterLab and a real Chromium; every test leaves a picture of its page in runs/browser/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from benchmarks.browser import chromium
from benchmarks.lab import ROOT, Lab, jupyterlab

PICTURES = ROOT / "runs" / "browser"
SIZE = {"width": 1400, "height": 1000}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; where none starts, every test that asks for one fails and says how to get one."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running JupyterLab that shows a copy of notebooks/."""
    with jupyterlab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Path:
    """Where the picture of this test's page goes."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES / (re.sub(r"[^\w.-]+", "-", request.node.name).strip("-") + ".png")


@pytest.fixture
def page(browser: Browser, lab: Lab, picture: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page. Afterwards: its picture, named where the test failed; kernels stopped; no error in its console."""
    page = browser.new_page(viewport=SIZE)
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    yield page
    page.screenshot(path=picture)
    request.node.add_report_section("call", "picture of the page", str(picture))
    page.close()
    lab.close_kernels()
    assert thrown == [], "errors that scripts on the page did not catch"
