"""Every notebook, run from top to bottom in a real JupyterLab by a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.lab import ROOT, Lab
from benchmarks.notebook import Notebook
from benchmarks.tuning import TunerPage
from tests import tables

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
DRAWN = "async image => { image.scrollIntoView(); await image.decode(); return image.naturalWidth > 100; }"


def said(output: dict[str, Any]) -> str:
    """Its plain text."""
    return "".join(output["data"].get("text/plain", ""))


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.timeout(1500)
def test_notebook_runs_and_shows_its_pictures(page: Page, lab: Lab, name: str) -> None:
    notebook = Notebook.open(page, lab, name)
    notebook.run_all()
    drawn = [output for output in notebook.outputs() if "image/png" in output.get("data", {})]
    view = "application/vnd.jupyter.widget-view+json"
    ours = ("<ThresholdTuner", "<SaturationExplorer")  # with a still picture under each, hidden as long as it lives
    live = [out for out in notebook.outputs() if view in out.get("data", {}) and said(out).startswith(ours)]
    pictures = notebook.root.locator(".jp-RenderedImage img")
    expect(pictures).to_have_count(len(drawn))
    seen = [picture for picture in pictures.all() if picture.is_visible()]
    assert drawn and len(seen) == len(drawn) - len(live) and all(picture.evaluate(DRAWN) for picture in seen)
    for number in range(len(live)):  # a widget that has a picture for code hosts is alive here
        expect(notebook.root.locator("canvas.sx-cells").nth(number)).to_be_visible()
    assert page.locator(".jp-Dialog").count() == 0
    complaints = "".join("".join(out["text"]) for out in notebook.outputs() if out.get("name") == "stderr")
    assert not re.search(r"[a-z]Warning:|Traceback", complaints), complaints  # what the library itself logs may stand
    assert tables.cut(notebook.outputs()) == []
    for tuner in notebook.root.locator(".st-tuner").all():
        TunerPage(tuner).slide(10)
