"""A notebook open in JupyterLab in a browser: run it as a person does, and ask the page what it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page

from .lab import Lab

PATIENCE = 240_000  # ms until a cell that does not end counts as hanging: a guard, not a measure of speed
# What the page knows about the notebook at `path`; undefined as long as it is not open.
PANEL = "[...window.jupyterapp?.shell.widgets('main') ?? []].find(one => one.context?.path === path)"
READY = f"path => ({PANEL})?.sessionContext.session?.kernel?.status === 'idle'"
CELLS = f"path => [...({PANEL}).content.model.cells].map(cell => cell.toJSON())"
# Every cell was run and the kernel rests, or a cell failed, which ends the run.
DONE = f"""path => {{
    const panel = {PANEL};
    const code = [...panel.content.model.cells].filter(cell => cell.type === 'code' && cell.sharedModel.source.trim());
    const failed = code.some(cell => cell.outputs.toJSON().some(output => output.output_type === 'error'));
    const status = panel.sessionContext.session?.kernel?.status;
    return failed || (code.every(cell => cell.executionCount) && status === 'idle');
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

    def run_all(self) -> None:
        """Run > Run All Cells, then wait until all have ended; AssertionError shows the traceback of one that fails."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait()

    def wait(self) -> None:
        """Wait until every cell has run; AssertionError shows the traceback of one that failed."""
        self.page.wait_for_function(DONE, arg=self.path, timeout=PATIENCE)
        assert not self.errors(), "\n".join(self.errors())

    def cells(self) -> list[dict[str, Any]]:
        """The cells as they would be saved, outputs included."""
        return self.page.evaluate(CELLS, self.path)

    def outputs(self) -> list[dict[str, Any]]:
        """Every output of every cell, in order."""
        return [output for cell in self.cells() for output in cell.get("outputs", [])]

    def errors(self) -> list[str]:
        """Tracebacks of the cells that failed, without colours."""
        failed = [output for output in self.outputs() if output["output_type"] == "error"]
        return [re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"])) for output in failed]
