"""Texts as labels: white space of tokens made visible, and no letter that the machine's fonts cannot draw."""

from __future__ import annotations

import unicodedata
from functools import cache

from matplotlib import font_manager

LONGEST = 12  # characters of a label
EMPTY = "∅"
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # overrides of the reading direction
_UNKNOWN = "□"
_SIGNS = {" ": "·", "\n": "↵", "\r": "↵", "\t": "⇥"}
_FALLBACKS = (  # wide coverage, whichever is installed, after the one that comes with matplotlib
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Naskh Arabic"),
    *("Noto Emoji", "Symbola"),
)


def visible(text: str) -> str:
    """Label of a token: · for a space, ↵ and ⇥, □ for what no font has, ∅ for nothing, … for the rest."""
    shown = "".join(_SIGNS.get(letter) or drawable(letter) for letter in text)
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
    return shown or EMPTY


def drawable(text: str) -> str:
    """The text with □ for each letter that no font has, and for signs that would turn or break the line."""
    return "".join(letter if ord(letter) in _drawable() and not _acts(letter) else _UNKNOWN for letter in text)


def _acts(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" or unicodedata.bidirectional(letter) in _TURNS


@cache
def families() -> list[str]:
    """Names of the fonts that labels are set in, in the order they are tried."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


@cache
def _drawable() -> frozenset[int]:
    """Code points that one of the fonts can draw."""
    paths = [font_manager.findfont(name) for name in families()]
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))
