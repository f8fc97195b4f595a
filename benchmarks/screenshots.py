"""`python -m benchmarks.screenshots FOLDER`: the widgets and a notebook as they look in JupyterLab, for the README."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from saturation.loading import cached

from .browser import chromium
from .lab import Lab, jupyterlab
from .notebook import Notebook, written
from .tuning import REAL_MODEL, TunerPage

# Layers one after the other, and the paper's rule, beside the setting at which the tuner begins.
REAL_VISITS = """
tuner.settle()  # by then it stands at its first setting
first = tuner.policy
rules = [st.FFNSkip.fit(tuner.trace, ratio=0.05, warmup=0)]
rules += [st.StaticFFN.fit(tuner.trace, count=count) for count in (2, 3)]
for rule in rules:
    tuner.policy = rule
    tuner.settle()
tuner.policy = first
tuner.settle()
"""
SIZE = {"width": 1580, "height": 1500}  # a widget is then 1,400 pixels wide
LOADING = """
import saturation as st

model, tokenizer = st.load("demo")
prompts = [example.prompt for example in st.tasks.bundled("stories").head(6)]
"""
EXPLORER = """
trace = st.record(model, tokenizer, prompts, max_new_tokens=96, progress=False)
policy = st.FFNSkip.fit(trace, ratio=0.15, warmup=8)
st.widgets.SaturationExplorer(trace, policy=policy)
"""
TUNER = """
tuner = st.widgets.ThresholdTuner(model, tokenizer, st.tasks.bundled("stories"), shown=3, max_new_tokens=48)
tuner
"""
VISITS = """
import math

start, end = tuner.policy.cold_start, tuner.policy.cold_end
for ratio in (0.05, 0.15, 0.2, 0.3):
    share = math.floor(16 * ratio)
    rules = [st.FFNSkip.fit(tuner.trace, ratio=ratio, cold_start=start, cold_end=end, warmup=0)]
    rules += [st.StaticFFN.fit(tuner.trace, count=share, cold_start=start, cold_end=end)] if share else []
    for rule in (*rules, st.RandomFFN(ratio, cold_start=start, cold_end=end)):
        tuner.policy = rule
        tuner.settle()
tuner.policy = st.FFNSkip.fit(tuner.trace, ratio=0.1, cold_start=start, cold_end=end, warmup=0)
tuner.settle()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Screenshots of the widgets and of a notebook.")
    parser.add_argument("folder", type=Path)
    out = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as lab, chromium() as browser:
        first_page(browser, lab, out / "notebook.png")  # first: its list of files shows what the other one writes
        widgets(browser, lab, out)
        if cached("smollm2"):
            real_model(browser, lab, out / "tuner_smollm2.png")
    print("written:", *sorted(path.name for path in out.glob("*.png")))


def widgets(browser: Browser, lab: Lab, out: Path) -> None:
    """The explorer and the tuner, each after some use."""
    page = browser.new_page(viewport=SIZE)
    notebook = written(page, lab, "widgets.ipynb", [LOADING, EXPLORER, TUNER, VISITS])
    page.keyboard.press("Control+b")  # the side bar makes room
    notebook.run_all()
    tuner = TunerPage(notebook.root.locator(".st-tuner"))
    tuner.rest()
    shoot(notebook.root.locator(".sx").first, out / "explorer.png")
    shoot(tuner.root, out / "tuner.png")
    page.close()
    lab.close_kernels()


def real_model(browser: Browser, lab: Lab, path: Path) -> None:
    """The tuner on SmolLM2, after a few other settings."""
    page = browser.new_page(viewport=SIZE)
    notebook = written(
        page,
        lab,
        "real.ipynb",
        [REAL_MODEL + "tuner = ThresholdTuner(model, tokenizer, questions, max_new_tokens=48)\ntuner", REAL_VISITS],
    )
    page.keyboard.press("Control+b")
    notebook.run_all()
    tuner = TunerPage(notebook.root.locator(".st-tuner"))
    tuner.rest()
    shoot(tuner.root, path)
    page.close()
    lab.close_kernels()


def first_page(browser: Browser, lab: Lab, path: Path) -> None:
    """What a person sees first, with its first picture."""
    page: Page = browser.new_page(viewport={"width": 1400, "height": 1230})
    notebook = Notebook.open(page, lab, "01_record_saturation.ipynb")
    for number, cell in enumerate(notebook.cells()):
        if cell["cell_type"] == "code" and not notebook.root.locator(".jp-RenderedImage").count():
            notebook.run(number)
            notebook.wait(number)
    heading = notebook.root.locator("h1").first
    heading.scroll_into_view_if_needed()
    expect(heading).to_be_in_viewport()
    expect(notebook.root.locator(".jp-RenderedImage img").first).to_be_in_viewport()
    page.wait_for_timeout(1000)  # JupyterLab fills in cells as they come into view
    page.screenshot(path=path)
    lab.close_kernels()


def shoot(widget: Locator, path: Path) -> None:
    widget.scroll_into_view_if_needed()
    widget.screenshot(path=path)


if __name__ == "__main__":
    main()
