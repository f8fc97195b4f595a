"""The explorer in a real JupyterLab: what is done in the page reaches the kernel, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from playwright.sync_api import Page, expect

from benchmarks.lab import Lab
from benchmarks.notebook import Notebook, written

SHOW = """import saturation as st
from saturation.widgets import SaturationExplorer

trace = st.Trace.load({path!r})
explorer = SaturationExplorer(trace, policy=st.FFNSkip(0.99, cold_start=1, cold_end=2, warmup=3))
explorer"""
ASK = """import json
kept = {name: getattr(explorer, name) for name in ("limit", "selection", "view", "predicted")}
print(json.dumps(kept | {"threshold": explorer.policy.threshold, "ratios": explorer.ratios()._asdict()}))"""
MOVE = "explorer.policy = st.RandomFFN(0.25)"


@pytest.fixture
def notebook(page: Page, lab: Lab, tmp_path: Path) -> Notebook:
    """A notebook whose first cell shows an explorer."""
    path = tmp_path / "trace.parquet"
    traces.trace(sequences=6, length=60, prefill=12).save(path)
    notebook = written(page, lab, "explorer.ipynb", [SHOW.format(path=str(path)), ASK, MOVE])
    run(notebook, 0)
    expect(page.locator(".sx-ratios")).to_contain_text("nominal", timeout=30_000)
    return notebook


def run(notebook: Notebook, number: int) -> str:
    """Run one cell, and return what it printed."""
    notebook.run(number)
    notebook.wait(number)
    return notebook.printed(number)


def told(notebook: Notebook) -> dict[str, Any]:
    """What the kernel knows, once it has been told of a selection and a view: that is when the hand rests."""
    for _ in range(30):
        said = json.loads(run(notebook, 1))
        if said["selection"] and np.diff(said["view"]) < 360 and said["predicted"] == pytest.approx(said["ratios"]):
            break
        notebook.page.wait_for_timeout(300)
    return said


def test_page_and_kernel_agree(notebook: Notebook) -> None:
    page = notebook.page
    live, still = (output["data"] for output in notebook.outputs() if "data" in output)  # more: letters without a font
    assert "application/vnd.jupyter.widget-view+json" in live and "image/png" in still
    slider = page.locator(".sx-threshold input")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.34, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.45, middle, steps=8)
    page.mouse.up()
    cells = page.locator(".sx-cells").bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(cells["x"] + 100, cells["y"] + 100)
    page.mouse.down()
    page.mouse.move(cells["x"] + 200, cells["y"] + 100, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.get_by_label("zoom in (+)").click()
    said = told(notebook)
    assert -3.2 < said["limit"] < -2.2
    assert said["threshold"] == pytest.approx(1 - 10 ** said["limit"], abs=1e-6)
    assert said["predicted"] == pytest.approx(said["ratios"])
    assert np.diff(said["selection"]) > 10
    assert np.diff(said["view"]) == 180
    run(notebook, 2)
    expect(page.locator(".sx-cosine")).to_have_text("random FFN, 25%")


def test_keys_on_the_canvas_are_not_commands_of_jupyterlab(notebook: Notebook) -> None:
    page = notebook.page
    active = """path => [...window.jupyterapp.shell.widgets("main")]
        .find(one => one.context?.path === path).content.activeCellIndex"""
    page.locator(".sx-cells").click()
    before = page.evaluate(active, notebook.path)
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowRight", "+", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate(active, notebook.path) == before
    expect(page.locator(".sx-cells")).to_be_focused()
    expect(page.locator(".sx-status")).to_contain_text("layer")


def test_it_follows_the_theme(notebook: Notebook, picture: Path) -> None:
    page = notebook.page
    canvas = page.locator(".sx-cells")
    canvas.scroll_into_view_if_needed()
    light = canvas.screenshot(path=picture.with_stem(picture.stem + "-light"))
    page.evaluate("jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    try:
        page.wait_for_function(
            "['#111', '#111111', 'rgb(17, 17, 17)'].includes("
            "getComputedStyle(document.querySelector('.sx')).getPropertyValue('--sx-back').trim().toLowerCase())"
        )
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        dark = canvas.screenshot(path=picture.with_stem(picture.stem + "-dark"))
    finally:
        page.evaluate("jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
        page.wait_for_function("document.body.dataset.jpThemeLight === 'true'")
    assert dark != light
