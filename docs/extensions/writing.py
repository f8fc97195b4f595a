"""Pages that are written by a program."""

from __future__ import annotations

from pathlib import Path


def keep(path: Path, text: str) -> None:
    """Write a page where it changed, so that a second build reads only what is new."""
    path.parent.mkdir(exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
