"""Styles of policies: which settings form one line, and the look of each family in every figure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .style import Look, look

DENSE = "dense"  # the name of the run without skipping
FAMILIES = (  # how `Policy.describe()` begins; a family's place in this list is its look
    *("FFN-SkipLLM", "static", "random", "ShortGPT", "SLEB", "SkipDecode", "early exit", "unified", "AdaSkip"),
)
_OTHERS = 10  # place of the first policy of no family: a colour that the first families do not have
_DENSE = Look("#606060", "*", (0, (2, 2)))
_VARIANTS: tuple[tuple[str | None, Any, bool], ...] = (  # marker (its family's own: None), line, hollow; then again
    *((None, (0, (4, 1.5)), True), ("d", (0, (1, 1)), False), ("p", (0, (6, 1, 1, 1)), True)),
    *(("h", (0, (2, 1)), False), ("P", (0, (8, 2)), True)),
)
_SETTING = re.compile(
    r",? (?:cosine (?:[\d.]+|per layer)|(?:target )?\d+(?:\.\d+)? ?%|layers? (?:none|\d+(?:, \d+)*)|\d+ seeds)"
    r"(?=[ ,]|$)"
)


def series(name: str) -> str:
    """A policy's name without its setting: "FFN-SkipLLM, cosine 0.999, next 4" -> "FFN-SkipLLM, next 4"."""
    return _SETTING.sub("", name)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each line: its family's own, and other markers for further lines of the same family."""
    found: dict[str, Look] = {}
    seen: list[str] = []
    for name in dict.fromkeys(names):
        family = family_of(name)
        base = _DENSE if name == DENSE else look(FAMILIES.index(family)) if family in FAMILIES else None
        others = sum(each not in FAMILIES for each in seen)
        turn = seen.count(family)
        found[name] = base or look(_OTHERS + others)
        if turn:
            marker, line, hollow = _VARIANTS[(turn - 1) % len(_VARIANTS)]
            found[name] = replace(found[name], marker=marker or found[name].marker, line=line, hollow=hollow)
        seen.append(family)
    return found


def family_of(name: str) -> str:
    """The family whose name a policy's begins with, or the name itself."""
    return next((family for family in FAMILIES if name.lower().startswith(family.lower())), name)
