"""Closing of widgets: ipywidgets keeps each widget and its listeners in memory until the widget is closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ProxyTypes, WeakSet, proxy

from ipywidgets import Widget

from ..progress import kernel

_MADE: dict[str, tuple[str, WeakSet[Widget]]] = {}  # cell -> the run that made widgets, and these widgets


def within(widget: Widget) -> Iterator[Widget]:
    """Iterate over a widget and all widgets inside it, with their layouts and styles."""
    yield widget
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Widget):
                yield from within(part)


def weakly(model: Any) -> Any:
    """A weak reference to a model, which frees the model when nothing else holds it."""
    return model if type(model) in ProxyTypes else proxy(model)  # `type` works on a dead proxy too


def supersede(widget: Widget) -> None:
    """Close the widgets that an earlier run of the same notebook cell made, so that they hold no model."""
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
    """Ids of the running notebook cell and of the message that started it; empty text where unknown."""
    running = kernel()
    parent = running.get_parent() if running is not None else {}
    return parent.get("metadata", {}).get("cellId", ""), parent.get("header", {}).get("msg_id", "")
