"""A hidden widget in the tuner that adds style, keys, accessible names, spoken messages and marks of stale parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from .. import assets


class Frame(anywidget.AnyWidget):
    """A child of a tuner without visible content, which handles the browser side of the whole tuner.

    Attributes
    ----------
    said
        The last message to screen readers, which announce each text once.
    asked, answered
        Number of the last change that the user made in the browser, and of the last one that the kernel has received;
        while they differ, the browser marks the results shown as stale.
    """

    _esm = assets.module(*assets.FRAME)
    _css = (Path(__file__).parent / "tuner.css").read_text(encoding="utf-8")

    said = traitlets.Unicode("").tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    answered = traitlets.Int(0).tag(sync=True)

    @traitlets.observe("asked")
    def _heard(self, change: dict[str, Any]) -> None:
        self.answered = change["new"]
