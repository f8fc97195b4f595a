"""Tuner and explorer for those who use no mouse, or no screen, in a real JupyterLab."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, expect

from benchmarks.lab import Lab
from benchmarks.notebook import PANEL, Notebook, written
from benchmarks.tuning import TUNER, TunerPage
from tests.browser.conftest import fresh_page

pytestmark = pytest.mark.timeout(1500)  # a guard against hanging: on a busy machine the kernel alone takes minutes
EXPLORER = """
explorer = st.widgets.SaturationExplorer(tuner.trace, policy=st.FFNSkip(0.999, cold_start=1, cold_end=2, warmup=0))
explorer
"""
HEARD = (
    """path => {
    const {content} = """
    + PANEL
    + """;
    return [content.activeCellIndex, content.mode, [...content.model.cells].map(cell => cell.sharedModel.source)];
}"""
)
COMMANDS = ("a", "b", "x", "y", "m", "j", "k", "0", "ArrowDown", "ArrowUp", "PageDown", "Shift+ArrowUp", "Escape")
TUNED = {  # what can have the focus in a tuner
    "slider of the threshold": ".widget-hslider:has-text('skip more') .noUi-handle",
    "slider of the cold layers": ".widget-hslider:has-text('cold start') .noUi-handle",
    "menu of policies": ".widget-dropdown:has-text('policy') select",
    "menu of prompts": ".widget-dropdown select[title='prompt']",
    "checkbox": ".widget-checkbox input >> nth=0",
    "button": "button:has-text('Save policy')",
    "button that copies": "button:has-text('Copy as Python')",
    "point": ".st-pareto .point >> nth=0",
    "text": ".st-text > .widget-html-content >> nth=0",
    "zoom": "button[title^='zoom in']",
    "metric": ".sx-view select >> nth=0",
    "canvas": ".sx-cells",
}
EXPLORED = {
    "slider": ".sx-threshold input",
    "menu of the warm-up": ".sx-rule select",
    "number": ".sx-rule input[type=number] >> nth=0",
    "checkbox": ".sx-rule input[type=checkbox] >> nth=0",
    "menu of tokens": ".sx-view select >> nth=1",
    "zoom": "button[title^='zoom out']",
    "text": ".sx-text",
    "canvas": ".sx-cells",
}


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    """A tuner and an explorer between cells that a command could reach."""
    with fresh_page(browser, lab) as page:
        page.set_viewport_size({"width": 1400, "height": 1800})
        notebook = written(page, lab, "keys.ipynb", ["1 + 1", TUNER, EXPLORER, "print('last')"])
        for cell in range(3):
            notebook.run(cell)
            notebook.wait(cell)
        TunerPage(notebook.root.locator(".st-tuner")).rest()
        yield notebook


def heard(notebook: Notebook) -> list[object]:
    """Where the notebook stands, in which mode, and what its cells hold: all that a command could change."""
    return notebook.page.evaluate(HEARD, notebook.path)


def explorer(notebook: Notebook) -> Locator:
    return notebook.root.locator(".jp-CodeCell").nth(2).locator(".sx")


def tuner(notebook: Notebook) -> Locator:
    return notebook.root.locator(".st-tuner")


def assert_kept(notebook: Notebook, control: Locator) -> None:
    """Every key stays with the widget: it keeps the focus, and the notebook hears nothing."""
    control.scroll_into_view_if_needed()
    control.focus()
    before = heard(notebook)
    for key in COMMANDS:
        notebook.page.keyboard.press(key)
        assert heard(notebook) == before, f"the notebook heard {key}"
    assert notebook.page.evaluate("Boolean(document.activeElement.closest('.st-tuner, .sx'))")


@pytest.mark.parametrize("place", EXPLORED.values(), ids=EXPLORED)
def test_the_notebook_does_not_hear_what_the_explorer_is_told(notebook: Notebook, place: str) -> None:
    assert_kept(notebook, explorer(notebook).locator(place))


@pytest.mark.parametrize("place", TUNED.values(), ids=TUNED)
def test_the_notebook_does_not_hear_what_the_tuner_is_told(notebook: Notebook, place: str) -> None:
    TunerPage(tuner(notebook)).rest()  # points are drawn anew until then
    assert_kept(notebook, tuner(notebook).locator(place))


def test_arrows_move_the_explorers_slider_and_menu(notebook: Notebook) -> None:
    slider, menu = (explorer(notebook).locator(EXPLORED[name]) for name in ("slider", "menu of tokens"))
    slider.focus()
    before = slider.input_value()
    slider.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(float(before) + 0.01)
    menu.focus()
    menu.press("Home")
    menu.press("ArrowDown")
    expect(menu).to_have_value("prefill")
    menu.press("Home")


def test_arrows_move_the_tuners_slider_menu_and_points(notebook: Notebook) -> None:
    page = TunerPage(tuner(notebook))
    menu = page.root.get_by_label("policy")
    menu.select_option("FFN-SkipLLM")
    page.rest()
    visited = page.points.count()
    predicted = page.root.locator(".st-quiet", has_text="predicted")
    said = predicted.inner_text()
    page.handle.focus()
    for _ in range(20):
        page.handle.press("ArrowRight")
    expect(predicted).not_to_have_text(said)
    page.rest()
    expect(page.points).to_have_count(visited + 1)
    page.points.first.focus()
    for _ in range(visited):
        page.page.keyboard.press("ArrowRight")
    assert focused(page) == max(shares(page)), "the point that skips most"
    page.page.keyboard.press("ArrowLeft")
    assert focused(page) < max(shares(page))
    page.page.keyboard.press("Home")
    expect(page.points.first).to_be_focused()
    page.page.keyboard.press("Enter")
    expect(menu).to_have_value("dense")
    menu.focus()
    menu.press("ArrowUp")
    expect(menu).to_have_value("random")
    page.rest()


def shares(page: TunerPage) -> list[float]:
    """Per cent skipped, of every point as it is read."""
    return [float(name.rsplit("\n", 1)[1].split("%")[0]) for name in map(name_of, page.points.all())]


def focused(page: TunerPage) -> float:
    """Per cent skipped at the point that has the focus."""
    return float(name_of(page.page.locator(":focus")).rsplit("\n", 1)[1].split("%")[0])


def name_of(point: Locator) -> str:
    return point.get_attribute("aria-label") or ""


def test_commands_with_control_reach_the_notebook(notebook: Notebook, lab: Lab) -> None:
    """Shift with enter runs the cell, and control with S saves."""
    page = notebook.page
    slider = explorer(notebook).locator(EXPLORED["slider"])
    slider.focus()
    page.keyboard.press("Control+s")
    page.wait_for_function(f"path => !({PANEL}).context.model.dirty", arg=notebook.path)
    saved = json.loads((lab.folder / notebook.path).read_text(encoding="utf-8"))
    assert saved["cells"][2]["outputs"], "the page is saved with what it shows"
    slider.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(f"path => ({PANEL}).content.activeCellIndex === 3", arg=notebook.path)


def test_the_focus_is_seen_and_goes_on_with_tab(notebook: Notebook) -> None:
    page = TunerPage(tuner(notebook))
    outline = (
        "one => { const {outlineStyle, outlineWidth} = getComputedStyle(one); return [outlineStyle, outlineWidth]; }"
    )
    reached: list[str] = []
    page.root.get_by_label("policy").focus()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        focused = page.page.locator(":focus")
        if not focused.count() or not focused.evaluate("one => Boolean(one.closest('.st-tuner'))"):
            break
        what = focused.evaluate("one => one.getAttribute('aria-label') || one.textContent || one.className")
        reached.append(what)
        if not focused.evaluate("one => one.matches('.point')"):  # which draws its own ring
            assert focused.evaluate(outline) != ["none", "0px"], f"no focus to be seen on {what}"
    for name in ("cold start", "prompt", "zoom in", "of the dense model", "Export figure", "folder and name", "venue"):
        assert any(name in one for one in reached), f"Tab does not reach {name}: {reached}"


SPOKEN = ("slider", "combobox", "textbox", "button", "checkbox", "spinbutton", "progressbar", "region", "application")


def heard_of(widget: Locator) -> list[tuple[str, str]]:
    """Role and name of everything in a widget that can be used, as Chromium's accessibility tree has them."""
    page = widget.page
    widget.evaluate("one => { window.heard = one; }")
    tree = page.context.new_cdp_session(page)
    found = tree.send("Runtime.evaluate", {"expression": "window.heard"})["result"]["objectId"]
    nodes = tree.send("Accessibility.queryAXTree", {"objectId": found})["nodes"]
    return [
        (node["role"]["value"], str(node.get("name", {}).get("value", "")).strip())
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in SPOKEN
    ]


def assert_named(widget: Locator) -> list[str]:
    """Everything that can be used has a name of words; the names."""
    found = heard_of(widget)
    assert len(found) > 12, "the tree was not read"
    assert [role for role, name in found if not name] == []
    for _, name in found:
        private = [letter for letter in name if unicodedata.category(letter) in ("Co", "Cn")]
        assert not private, f"{name!r} is a glyph of an icon"
    return [f"{role} {name}" for role, name in found]


def findings(widget: Locator) -> list[str]:
    """What axe-core finds in a widget that is serious or critical."""
    widget.evaluate("one => { one.dataset.axe = 'here'; }")
    try:
        options: Any = {"include": [["[data-axe=here]"]]}
        violations = Axe().run(widget.page, context=options).response["violations"]
    finally:
        widget.evaluate("one => { delete one.dataset.axe; }")
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html']}" for one in serious for node in one["nodes"]]


def test_everything_in_the_explorer_has_a_name_and_reads_what_the_eye_reads(notebook: Notebook) -> None:
    shown = explorer(notebook)
    names = assert_named(shown)
    assert {"slider threshold, a cosine", "spinbutton cold start", "combobox metric"} <= set(names)
    slider = shown.locator(EXPLORED["slider"])
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", shown.locator(".sx-cosine").inner_text())
    said = shown.locator(".sx-status")
    expect(said).to_contain_text("predicted skip ratio: nominal")
    assert said.inner_text().split() == shown.locator(".sx-ratios").inner_text().split()
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "never")
    slider.press("Home")


def test_everything_in_the_tuner_has_a_name_and_reads_what_the_eye_reads(notebook: Notebook) -> None:
    page = TunerPage(tuner(notebook))
    page.root.get_by_label("policy").select_option("FFN-SkipLLM")
    page.rest()
    names = assert_named(page.root)
    wanted = ("slider threshold", "slider cold start", "combobox prompt", "textbox folder and name", "combobox venue")
    wanted += ("combobox what is drawn", "button previous prompt", "button next prompt", "progressbar progress")
    assert set(wanted) <= set(names)
    line = page.root.locator(".st-cosine")
    expect(line).to_contain_text("from cosine 0.99")
    expect(page.handle).to_have_attribute("aria-valuetext", line.inner_text().strip())
    layers = page.root.locator(".widget-hslider", has_text="cold start")
    expect(layers.locator(".noUi-handle")).to_have_attribute(
        "aria-valuetext", layers.locator(".widget-readout").inner_text()
    )
    page.root.get_by_role("checkbox", name="per layer").check()
    each = page.root.get_by_role("slider", name="threshold of layer 3")
    assert (each.get_attribute("aria-valuetext") or "").startswith("from cosine 0.9")
    page.root.get_by_role("checkbox", name="per layer").uncheck()
    page.rest()


def test_what_goes_on_is_said_once(notebook: Notebook) -> None:
    page = TunerPage(tuner(notebook))
    page.page.evaluate(
        """() => {
            const told = document.querySelector(".st-told");
            window.told = [];
            new MutationObserver(() => window.told.push(told.textContent)).observe(told, {childList: true});
        }"""
    )
    page.slide(9)
    told = page.page.evaluate("window.told")
    assert all(one != next_ for one, next_ in pairwise(told)), "nothing is said twice"
    assert "FFN-SkipLLM: writing" in told and told[-1].startswith("FFN-SkipLLM, cosine"), told
    assert "skipped" in told[-1] and page.root.locator("[role=status], [aria-live]").count() == 2


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_serious(notebook: Notebook, theme: str) -> None:
    page = TunerPage(tuner(notebook))
    change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    page.page.evaluate(change, theme)
    try:
        page.root.get_by_role("checkbox", name="per layer").check()
        page.rest()
        assert findings(page.root) == []
        assert findings(explorer(notebook)) == []
        page.root.evaluate("root => root.querySelectorAll('.st-pane')[1].classList.add('st-stale')")
        assert findings(page.root) == [], "what is stale can be read as well"
    finally:
        page.root.get_by_role("checkbox", name="per layer").uncheck()
        page.page.evaluate(change, "JupyterLab Light")
        page.rest()
