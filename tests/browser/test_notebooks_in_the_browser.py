"""Every notebook, run from top to bottom in a real JupyterLab by a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from benchmarks.lab import ROOT, Lab
from benchmarks.notebook import Notebook

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_shows_pictures(page: Page, lab: Lab, name: str) -> None:
    notebook = Notebook.open(page, lab, name)
    notebook.run_all()
    drawn = [output for output in notebook.outputs() if "image/png" in output.get("data", {})]
    assert drawn
