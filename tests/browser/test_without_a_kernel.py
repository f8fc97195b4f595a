"""A notebook with tuner and explorer, saved and reopened in JupyterLab where no kernel runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from benchmarks.lab import Lab
from benchmarks.notebook import PANEL, written
from benchmarks.tuning import TUNER, TunerPage
from tests.browser.conftest import fresh_page

pytestmark = pytest.mark.timeout(1500)  # a guard against hanging: on a busy machine the kernel alone takes minutes
BAR = "from saturation.progress import bar\nfor _ in bar(range(3), desc='counting'): pass"
CELLS = [TUNER, "st.widgets.SaturationExplorer(tuner.trace)", BAR]
# Saved as of a kernel that is nowhere, so that JupyterLab starts none; and in the page, so that it trusts the file.
SAVE = f"""async path => {{
    const context = ({PANEL}).context;
    context.model.sharedModel.setMetadata('kernelspec', {{name: 'gone', display_name: 'Gone', language: 'gone'}});
    context.model.sharedModel.setMetadata('language_info', {{name: 'gone'}});
    await context.save();
}}"""
DRAWN = f"""path => {{
    const outputs = [...({PANEL}).content.model.cells].slice(0, 1).flatMap((cell) => cell.outputs.toJSON());
    return outputs.map((output) => output.data?.['image/png']).find(Boolean);
}}"""
WITHOUT = f"path => ({PANEL})?.content.model?.cells.length === 3"
WIDTHS = "images => images.map((image) => image.naturalWidth)"


def pictures(root: Locator) -> Locator:
    """The still pictures on a page."""
    return root.locator(".jp-RenderedImage img")


@pytest.fixture(scope="module")
def saved(browser: Browser, lab: Lab) -> Iterator[str]:
    """The path of a notebook that has run and was saved when the tuner had rested; its kernel is gone."""
    with fresh_page(browser, lab) as page:
        notebook = written(page, lab, "seen.ipynb", CELLS)
        notebook.run_all()
        first = page.evaluate(DRAWN, notebook.path)
        TunerPage(notebook.root.locator(".st-tuner")).rest()
        expect(pictures(notebook.root)).to_have_count(2)
        for number in range(2):
            expect(pictures(notebook.root).nth(number)).to_be_hidden()  # the live view stands there
        page.wait_for_function(f"([path, first]) => ({DRAWN})(path) !== first", arg=[notebook.path, first])
        page.evaluate(SAVE, notebook.path)
    lab.close_kernels()
    yield notebook.path


def test_still_pictures_stand_where_the_widgets_were(saved: str, browser: Browser, lab: Lab, picture: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 2000})
    try:
        page.goto(lab.page(saved))
        page.wait_for_function(WITHOUT, arg=saved)
        page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
        shown = pictures(page.locator(".jp-NotebookPanel:visible"))
        expect(shown).to_have_count(2)
        for number in range(2):
            expect(shown.nth(number)).to_be_visible()
        assert min(shown.evaluate_all(WIDTHS)) > 400
        assert page.locator(".jp-NotebookPanel .progress-bar").count() == 0, "no bar that stands still"
        expect(page.get_by_text("Loading widget...")).to_have_count(2)  # as README says; the pictures stand below
        assert not lab.ask("kernels"), "a kernel was started"
    finally:
        page.screenshot(path=picture)
        page.close()
