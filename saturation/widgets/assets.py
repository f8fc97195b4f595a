"""The JavaScript and CSS that a widget sends to the browser, joined from the files of the package."""

from __future__ import annotations

import re
from importlib.resources import files

EXPLORER = (
    *("rule", "traces", "colours", "columns", "heatmap", "curves", "painting"),  # those that compute come first
    *("controls", "layout", "strip", "keys", "pointing", "words", "explorer"),
)
FRAME = ("rule", "traces", "colours", "keys", "naming", "waiting", "frame")  # for the tuner, around its widgets
_STYLES = ("theme", "controls", "plots", "words")
_IMPORTS = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)


def module(*names: str) -> str:
    """One JavaScript module as text, joined from files of `canvas` in the order of their names here.

    Each file is a plain ES module, but anywidget takes a single text. The imports between the files are removed, so a
    file must come after those that it imports. No build step is needed.
    """
    return "\n".join(_IMPORTS.sub("", source(f"{name}.js")) for name in names)


def style() -> str:
    """The style sheets of `canvas` as one text."""
    return "\n".join(source(f"{name}.css") for name in _STYLES)


def source(name: str) -> str:
    """The text of a file of `canvas`."""
    return files(__package__).joinpath("canvas", name).read_text(encoding="utf-8")
