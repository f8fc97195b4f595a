"""A Chromium for the tests and benchmarks that need a browser: found, started and, by `make browser`, installed.

The first of these that starts: the one named by SATURATION_CHROMIUM, Playwright's own, the system's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NAMED = "SATURATION_CHROMIUM"  # environment variable: the executable to use, and no other
MISSING = (
    "The browser tests need a Chromium that starts, but {tried}. Install one with `make browser` (on Debian as root: "
    f"apt-get install chromium), or name one: {NAMED}=/path/to/chromium"
)
PATIENCE = 900  # seconds that one step of an installation may take


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium, closed at the end with every page it opened."""
    with sync_playwright() as playwright:
        browser, _ = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


def launch(playwright: Playwright) -> tuple[Browser, str]:
    """The first Chromium that starts, and the path of its executable."""
    refusals = []
    for path in candidates(playwright):
        try:
            return playwright.chromium.launch(executable_path=path, args=arguments()), path
        except Error as error:
            refusals.append(f"{path} does not start ({last_words(error.message)})")
    raise RuntimeError(MISSING.format(tried="; ".join(refusals) or "neither Playwright nor the system has one"))


def candidates(playwright: Playwright) -> list[str]:
    """Executables that may be a Chromium, the most trusted first."""
    if named := os.environ.get(NAMED):
        return [named]
    found = map(shutil.which, (playwright.chromium.executable_path, *NAMES))
    return [path for path in found if path]


def arguments() -> list[str]:
    """Nothing is fetched in the background; for root, Chromium's sandbox does not start."""
    return ["--disable-background-networking", *(["--no-sandbox"] if is_root() else [])]


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def last_words(text: str) -> str:
    """What went wrong, out of Playwright's long message: the last line that the browser wrote, else the first line."""
    written = re.findall(r"\[err\] (.+)", text)
    return (written or text.strip().splitlines())[-1 if written else 0].strip()


def installers() -> Iterator[list[str]]:
    """Commands that may bring a Chromium, the gentlest first."""
    playwright = [sys.executable, "-m", "playwright"]
    yield [*playwright, "install", "--no-shell", "chromium"]
    if is_root() and shutil.which("apt-get"):
        yield ["apt-get", "update", "--quiet"]
        yield ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "chromium"]
        yield [*playwright, "install-deps", "chromium"]  # the libraries that its own may lack


def find() -> str:
    """Path of the Chromium that starts; RuntimeError says why none does."""
    with sync_playwright() as playwright:
        browser, path = launch(playwright)
        browser.close()
    return path


def install() -> str:
    """Path of the Chromium that starts, installed if there was none; RuntimeError says what was tried."""
    missing = RuntimeError()
    for command in (None, *installers()):
        if command:
            print("No Chromium starts yet, trying:", " ".join(command), file=sys.stderr)
            with suppress(subprocess.TimeoutExpired):  # as good as a failure
                subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
        try:
            return find()
        except RuntimeError as error:
            missing = error
        if os.environ.get(NAMED):
            break
    raise missing


if __name__ == "__main__":
    try:
        print(install())
    except RuntimeError as error:
        sys.exit(str(error))
