"""The JavaScript and CSS that a widget sends to the browser, put together from the package's own files."""

from __future__ import annotations

import re
from importlib.resources import files

EXPLORER = (
    *("rule", "traces", "colours", "columns", "heatmap", "curves", "painting"),  # numbers, then pictures
    *("controls", "layout", "strip", "keys", "pointing", "words", "explorer"),
)
FRAME = ("rule", "traces", "colours", "keys", "naming", "waiting", "frame")  # around the tuner
_STYLES = ("theme", "controls", "plots", "words")
_IMPORTS = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)


def module(*names: str) -> str:
    """One module from files of `canvas`: what they import of each other stands above in the same text.

    Each file is a plain ES module; anywidget takes one text, and a build step is spared by putting them together here.
    """
    return "\n".join(_IMPORTS.sub("", source(f"{name}.js")) for name in names)


def style() -> str:
    """The style sheets of `canvas` as one."""
    return "\n".join(source(f"{name}.css") for name in _STYLES)


def source(name: str) -> str:
    """Text of a file of `canvas`."""
    return files(__package__).joinpath("canvas", name).read_text(encoding="utf-8")
