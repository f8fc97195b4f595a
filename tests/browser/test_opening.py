"""What a person sees who types `make lab`."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from benchmarks.lab import Lab
from benchmarks.notebook import PATIENCE, READY


def test_make_lab_opens_the_first_notebook_and_asks_nothing(page: Page, lab: Lab) -> None:
    page.goto(lab.front)
    page.wait_for_function(READY, arg="01_record_saturation.ipynb", timeout=PATIENCE)
    heading = page.locator(".jp-NotebookPanel:visible h1")
    expect(heading).to_have_text("Which feed-forward blocks are saturated?¶")
    expect(page.locator(".jp-Notebook-ExecutionIndicator:visible")).to_have_attribute("data-status", "idle")
    assert page.locator(".jp-Dialog").count() == 0, "no dialog"
    assert page.locator(".Toastify__toast").all_inner_texts() == [], "no question about news, updates or a build"
