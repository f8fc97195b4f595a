"""Widgets that go together: ipywidgets keeps each of them, and all that it listens for, until it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ProxyTypes, WeakSet, proxy

from ipywidgets import Widget

from ..progress import kernel

_MADE: dict[str, tuple[str, WeakSet[Widget]]] = {}  # by cell: the run that made them, and what it made


def within(widget: Widget) -> Iterator[Widget]:
    """A widget, its children and theirs, with their layouts and styles."""
    yield widget
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Widget):
                yield from within(part)


def weakly(model: Any) -> Any:
    """A model that goes when nobody else holds it."""
    return model if type(model) in ProxyTypes else proxy(model)  # which a dead proxy can be asked


def supersede(widget: Widget) -> None:
    """Close what an earlier run of the cell that now makes this widget had made, so that it holds no model."""
    cell, run = _running()
    if not cell:
        return
    before, made = _MADE.get(cell, (run, WeakSet()))
    if before != run:
        for old in list(made):
            old.close()
        made = WeakSet()
    made.add(widget)
    _MADE[cell] = run, made


def _running() -> tuple[str, str]:
    """The notebook cell that is running and the message that runs it; empty where there is none or it has no name."""
    running = kernel()
    parent = running.get_parent() if running is not None else {}
    return parent.get("metadata", {}).get("cellId", ""), parent.get("header", {}).get("msg_id", "")
