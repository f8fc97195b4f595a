"""Every notebook is committed without results; those with widgets also run from top to bottom without a browser."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from benchmarks.lab import ROOT, desk, surroundings
from tests import tables

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 1200  # a guard against hanging, not a measure of speed: a busy machine takes many times as long

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path: Path) -> str:
    """All code of a notebook."""
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def traces_of_a_run(notebook: nbformat.NotebookNode) -> list[str]:
    """What an execution left in a notebook and a commit should not hold."""
    cells = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    return [
        *(f"cell {number} holds outputs" for number, cell in cells if cell.outputs),
        *(f"cell {number} holds an execution count" for number, cell in cells if cell.execution_count is not None),
        *(f"cell {number} holds execution times" for number, cell in cells if "execution" in cell.metadata),
        *(["the notebook holds the state of widgets"] if "widgets" in notebook.metadata else []),
    ]


def test_notebooks_are_found() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names[0] == "01_record_saturation" and "06_your_model" in names
    assert any("widgets" in code(path) for path in NOTEBOOKS)


def committed(path: Path) -> nbformat.NotebookNode:
    """A notebook as git would commit it now; JupyterLab saves results into the file itself, which harms nobody."""
    text = subprocess.run(["git", "show", f":./{path.name}"], cwd=path.parent, capture_output=True, check=False).stdout
    return nbformat.reads((text or path.read_bytes()).decode(), as_version=4)


@every_notebook
def test_notebook_is_committed_without_results(path: Path) -> None:
    notebook = committed(path)
    nbformat.validate(notebook)
    clean = f"jupyter nbconvert --clear-output --inplace notebooks/{path.name}"
    assert traces_of_a_run(notebook) == [], f"clear it before it is committed: .venv/bin/{clean}"
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown", "the first cell tells the reader what the notebook shows"


def test_results_in_a_notebook_are_noticed() -> None:
    cell = nbformat.v4.new_code_cell("1", execution_count=3, metadata={"execution": {}})
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "1"}, execution_count=3)]
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}})
    assert traces_of_a_run(notebook) == [
        "cell 0 holds outputs",
        "cell 0 holds an execution count",
        "cell 0 holds execution times",
        "the notebook holds the state of widgets",
    ]


def execute(path: Path, model: str = "demo", seconds: int = SECONDS) -> nbformat.NotebookNode:
    """Run a notebook where it lies; an error in a cell raises `CellExecutionError` with its traceback."""
    place = {"metadata": {"path": str(path.parent)}}
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('MODEL = "demo"', f'MODEL = "{model}"')
    return NotebookClient(notebook, timeout=seconds, kernel_name="python3", resources=place).execute()


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if "widgets" in code(path)], ids=lambda path: path.stem)
@pytest.mark.timeout(SECONDS)
def test_notebook_executes_where_no_widget_can_live(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other notebooks are run in a browser only, by tests/browser."""
    for name, value in surroundings(tmp_path / "jupyter").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel draws inline, as it does for a person
    executed = execute(desk(tmp_path) / path.name)
    cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    assert cells and all(cell.execution_count for cell in cells)
    assert tables.cut(output for cell in cells for output in cell.outputs) == []


@pytest.mark.parametrize(
    ("rows", "columns", "letters"), [(2, 2, 60), (70, 2, 3), (2, 30, 3)], ids=["a long text", "many rows", "columns"]
)
def test_a_table_that_is_cut_is_noticed(rows: int, columns: int, letters: int) -> None:
    table = pd.DataFrame([["x" * letters] * columns] * rows)
    whole = {"display.max_colwidth": None, "display.max_columns": None, "display.max_rows": None}
    with pd.option_context("display.max_columns", 20):  # as in a kernel, which has no terminal
        assert tables.cut([{"data": {"text/html": table._repr_html_()}}])
    with pd.option_context(*(part for option in whole.items() for part in option)):
        assert not tables.cut([{"data": {"text/html": table._repr_html_()}}])


@pytest.mark.skipif(
    not os.environ.get("SATURATION_SLOW"), reason="takes a quarter of an hour with SmolLM2; SATURATION_SLOW=1 runs it"
)
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if 'MODEL = "' in code(path)], ids=lambda path: path.stem)
@pytest.mark.timeout(3 * SECONDS)
def test_notebook_executes_with_a_real_model(
    path: Path, fetched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asserted about one model only is said to be of that model."""
    for name, value in surroundings(tmp_path / "jupyter").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)
    executed = execute(desk(tmp_path) / path.name, model=fetched, seconds=3 * SECONDS)
    assert any(f'MODEL = "{fetched}"' in cell.source and cell.execution_count for cell in executed.cells)


def test_every_notebook_that_names_a_model_names_it_once() -> None:
    named = {path.stem: code(path).count('MODEL = "demo"') for path in NOTEBOOKS if "st.load(" in code(path)}
    assert named.keys() >= {"01_record_saturation", "02_tune_threshold", "03_compare_policies", "06_your_model"}
    assert set(named.values()) == {1}, named
