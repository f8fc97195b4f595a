"""What surrounds a tuner's widgets in the browser: style, keys, names, what is said, and what is not answered yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from .. import assets


class Frame(anywidget.AnyWidget):
    """Stands among the children of a tuner and looks after them there.

    Attributes
    ----------
    said
        What those who hear the page are told; each text once.
    asked, answered
        How often a hand in the browser has moved something, and how often the kernel has known it: as long as it is
        busy, the browser marks what stands there as stale.
    """

    _esm = assets.module(*assets.FRAME)
    _css = (Path(__file__).parent / "tuner.css").read_text(encoding="utf-8")

    said = traitlets.Unicode("").tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    answered = traitlets.Int(0).tag(sync=True)

    @traitlets.observe("asked")
    def _heard(self, change: dict[str, Any]) -> None:
        self.answered = change["new"]
