"""A notebook open in JupyterLab in a browser: run it as a person does, and ask the page what it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page

from .lab import Lab

PATIENCE = 1_200_000  # ms until a cell that does not end counts as hanging: a guard, not a measure of speed
# What the page knows about the notebook at `path`; undefined as long as it is not open.
PANEL = "[...window.jupyterapp?.shell.widgets('main') ?? []].find(one => one.context?.path === path)"
READY = f"path => ({PANEL})?.sessionContext.session?.kernel?.status === 'idle'"
CELLS = f"path => [...({PANEL}).content.model.cells].map(cell => cell.toJSON())"
RUN = f"""([path, cell]) => {{
    const panel = {PANEL};
    panel.content.activeCellIndex = cell;
    panel.content.activeCell.model.executionCount = null;  // so that it counts as run only when it has run again
    window.jupyterapp.commands.execute('notebook:run-cell');
}}"""
# The cell asked for, or every one, was run and the kernel rests; or a cell failed, which ends the run.
DONE = f"""([path, cell]) => {{
    const panel = {PANEL};
    const code = [...panel.content.model.cells].filter((one, index) =>
        one.type === 'code' && one.sharedModel.source.trim() && (cell === null || index === cell));
    const failed = code.some(one => one.outputs.toJSON().some(output => output.output_type === 'error'));
    const status = panel.sessionContext.session?.kernel?.status;
    return failed || (code.every(one => one.executionCount) && status === 'idle');
}}"""


@dataclass(frozen=True)
class Notebook:
    """One open notebook; `root` is its part of the page."""

    page: Page
    path: str

    @classmethod
    def open(cls, page: Page, lab: Lab, path: str) -> Notebook:
        """Go to the notebook's address and wait for its kernel."""
        page.goto(lab.page(path))
        page.wait_for_function(READY, arg=path, timeout=PATIENCE)
        return cls(page, path)

    @property
    def root(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:visible")

    def run(self, cell: int) -> None:
        """Run one cell, the first being 0, without waiting for its end."""
        self.page.evaluate(RUN, [self.path, cell])

    def run_all(self) -> None:
        """Run > Run All Cells, then wait until all have ended; AssertionError shows the traceback of one that fails."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait()

    def wait(self, cell: int | None = None) -> None:
        """Wait until one cell, or every one, has run; AssertionError shows the traceback of one that failed."""
        self.page.wait_for_function(DONE, arg=[self.path, cell], timeout=PATIENCE)
        assert not self.errors(), "\n".join(self.errors())

    def cells(self) -> list[dict[str, Any]]:
        """The cells as they would be saved, outputs included."""
        return self.page.evaluate(CELLS, self.path)

    def printed(self, cell: int) -> str:
        """What one cell printed."""
        outputs = self.cells()[cell]["outputs"]
        return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")

    def outputs(self) -> list[dict[str, Any]]:
        """Every output of every cell, in order."""
        return [output for cell in self.cells() for output in cell.get("outputs", [])]

    def errors(self) -> list[str]:
        """Tracebacks of the cells that failed, without colours."""
        failed = [output for output in self.outputs() if output["output_type"] == "error"]
        return [re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"])) for output in failed]


def written(page: Page, lab: Lab, name: str, sources: list[str]) -> Notebook:
    """A new notebook of these code cells, open on the page and not yet run."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), lab.folder / name)
    return Notebook.open(page, lab, name)
