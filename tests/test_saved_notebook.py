"""A saved notebook without a kernel: what nbconvert shows of widgets and bars."""

from __future__ import annotations

import re
from hashlib import sha256

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from benchmarks.lab import ROOT

CELLS = (
    "import sys\n"
    f"sys.path.insert(0, {str(ROOT)!r})\n"
    "import saturation as st\n"
    "from saturation.policies import StaticFFN\n"
    "from saturation.widgets import SaturationExplorer, ThresholdTuner\n"
    "model, tokenizer = st.load('demo')",
    "tuner = ThresholdTuner(model, tokenizer, 'Once', policy=StaticFFN((6,)), max_new_tokens=3)\ntuner",
    "SaturationExplorer(tuner.trace)",
    "from hashlib import sha256\n"
    "assert tuner.settle()\n"
    "tuner.redraw()\n"
    "print(sha256(tuner._pictured().encode()).hexdigest())",
)
PICTURE = re.compile(r'<img[^>]*src="data:image/png;base64,([^"]+)"')


@pytest.fixture(scope="module")
def saved() -> nbformat.NotebookNode:
    """A notebook that has run, as its file keeps it."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=300, kernel_name="python3", store_widget_state=False).execute()
    return notebook


def test_widgets_are_pictures_and_bars_are_gone(saved: nbformat.NotebookNode) -> None:
    page, _ = HTMLExporter().from_notebook_node(saved)
    assert len(PICTURE.findall(page)) == 2, "one of the tuner, one of the explorer"
    body = page[page.index("<body") :]
    assert "HTML(value" not in body and "VBox(" not in body and "0%" not in body and "Error displaying" not in body


def test_the_picture_is_of_what_was_measured_last(saved: nbformat.NotebookNode) -> None:
    """It was drawn when the cell ended, before anything was measured, and once more afterwards."""
    live, still = (output["data"] for output in saved.cells[1].outputs[-2:])
    assert "application/vnd.jupyter.widget-view+json" in live and "image/png" not in live
    assert sha256(still["image/png"].encode()).hexdigest() == saved.cells[3].outputs[-1]["text"].strip()
