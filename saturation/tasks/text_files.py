"""Text files, and prompt templates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import located


def text_of(path: str | Path, what: str) -> str:
    """Read a text file; OSError where it cannot be read, ValueError where it is not UTF-8."""
    try:
        return located(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected {what} in UTF-8, but {path} is not; save it as UTF-8") from error
    except OSError as error:
        raise type(error)(f"expected {what}, but {path} cannot be read: {error.strerror}; correct the path") from error


def filled(template: str, fields: Mapping[str, Any]) -> str:
    """Fill a template such as "Question: {question}"; KeyError for a missing field."""
    try:
        return template.format_map(fields)
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(
            f"expected a template with names of fields in braces, such as '{{question}}', got {template!r} ({error}); "
            "correct it, and write a brace that is meant as such twice"
        ) from error
