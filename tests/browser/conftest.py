"""A real JupyterLab and a real Chromium; every test leaves a picture of its page in runs/browser/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.browser import chromium
from benchmarks.lab import ROOT, Lab, jupyterlab
from tests.conftest import PICTURE
from tests.makefile import make

PICTURES = ROOT / "runs" / "browser"
SIZE = {"width": 1400, "height": 1000}
expect.set_options(timeout=180_000)  # ms until what does not come counts as missing: a guard, not a measure of speed


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; where none starts, every test that asks for one fails and says how to get one."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, but on a copy of notebooks/ and with nobody's own settings."""
    (started,) = re.findall(r"^cd notebooks && .* -m jupyterlab (.*)$", make(ROOT, "--dry-run", "lab").stdout, re.M)
    with jupyterlab(tmp_path_factory.mktemp("lab"), *shlex.split(started)) as lab:
        yield lab


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Path:
    """Where the picture of this test's page goes."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / (re.sub(r"[^\w.-]+", "-", request.node.name).strip("-") + ".png")
    request.node.user_properties.append((PICTURE, str(path)))
    return path


@contextmanager
def fresh_page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """A new page. Afterwards all kernels are stopped, and the widgets' scripts must have caught their own errors.

    anywidget loads those from blobs; what JupyterLab's scripts leave uncaught among themselves is not ours.
    """
    page = browser.new_page(viewport=SIZE)
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(f"{error}\n{error.stack}"))
    try:
        yield page
    finally:
        page.close()
        lab.close_kernels()
    assert [error for error in thrown if "blob:" in error] == [], "errors that a widget's script did not catch"


@pytest.fixture
def page(browser: Browser, lab: Lab, picture: Path) -> Iterator[Page]:
    """A page for one test, of which a picture is kept."""
    with fresh_page(browser, lab) as page:
        yield page
        page.screenshot(path=picture)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed browser test names the picture of its page beside its traceback."""
    report = yield
    if report.failed:
        report.sections += [(name, str(value)) for name, value in item.user_properties]
    return report
