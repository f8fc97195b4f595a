"""A Trace under the hand: widgets for Jupyter that threshold, zoom and read a trace without writing code.

`SaturationExplorer` shows every layer and token of a trace, however long, and what a rule would skip there. What it
draws in the browser lies in `canvas`, plain JavaScript that is sent along; nothing is fetched from elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explorer import SaturationExplorer as SaturationExplorer

_HOMES = {"SaturationExplorer": "explorer"}

__all__ = ["SaturationExplorer"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"saturation.widgets has no attribute {name!r}; it has {', '.join(_HOMES)}")
