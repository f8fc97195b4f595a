"""Tables as a notebook shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_CUT = re.compile(r"<t[dh][^>]*>([^<]*\.\.\.)</t[dh]>")


def cut(outputs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The cells of tables in outputs that pandas shortened, and those that stand for rows or columns left out."""
    pages = ["".join(one.get("data", {}).get("text/html", "")) for one in outputs]
    return [cell for page in pages for cell in _CUT.findall(page)]
