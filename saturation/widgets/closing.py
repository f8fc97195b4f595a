"""Widgets that go together: ipywidgets keeps each of them, and all that it listens for, until it is closed."""

from __future__ import annotations

from collections.abc import Iterator

from ipywidgets import Widget


def within(widget: Widget) -> Iterator[Widget]:
    """A widget, its children and theirs, with their layouts and styles."""
    yield widget
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Widget):
                yield from within(part)
