"""Text labels: visible white space of tokens, and replacement of letters that no font can draw."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from logging import getLogger
from pathlib import Path

import matplotlib
from matplotlib import font_manager

_LOG = getLogger(__name__)
LONGEST = 12  # most characters of a label
EMPTY = "∅"
EASTERN = "WenQuanYi Micro Hei"  # TrueType with the letters of Chinese, Japanese and Korean
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # overrides of the reading direction
_UNKNOWN = "□"
_SIGNS = {" ": "·", "\n": "↵", "\r": "↵", "\t": "⇥"}
_SCRIPTS = (  # scripts that DejaVu Sans lacks in whole or in part, by the names of Unicode and the Noto fonts
    *("Arabic", "Hebrew", "Georgian", "Armenian", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil"),
    *("Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Myanmar", "Khmer", "Ethiopic", "Mongolian"),
    "Cherokee",
)
_FALLBACKS = (  # wide coverage, whichever is installed, after the one that comes with matplotlib
    *(EASTERN, "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
    *("Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS", "Noto Naskh Arabic"),
    *(f"Noto Sans {script}" for script in _SCRIPTS),
    *("Noto Emoji", "Symbola"),
)
_EASTERN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH", "KANGXI")
_NAMED = 10  # most letters named in a warning
_MISSING = re.compile(r"Glyph (\d+) .* missing from font")  # matplotlib's warning for each letter


def visible(text: str) -> str:
    """Label of a token: · for a space, ↵ and ⇥, □ for what no font has, ∅ for nothing, … for the rest."""
    shown = "".join(_SIGNS.get(letter) or drawable(letter) for letter in text)
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
    return shown or EMPTY


def drawable(text: str) -> str:
    """The text with □ for each letter that no font has, and for signs that would turn or break the line."""
    return "".join(letter if ord(letter) in _drawable() and not _acts(letter) else _UNKNOWN for letter in text)


def warn(texts: Iterable[str]) -> None:
    """Log once which letters of these texts no font has, and which fonts would have them."""
    if said := boxes(letter for text in texts for letter in text if ord(letter) not in _drawable()):
        _LOG.warning("%s", said)


@contextmanager
def noticed(found: list[str]) -> Iterator[None]:
    """Collect matplotlib's warnings about single letters inside the block into one sentence of a list."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    letters = [_MISSING.match(str(warning.message)) for warning in caught]
    for warning, match in zip(caught, letters, strict=True):
        if match is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if said := boxes(chr(int(match[1])) for match in letters if match):
        found.append(said)


def boxes(letters: Iterable[str]) -> str:
    """Warning about letters without a font; "" where only control characters are missing."""
    lacking = {letter: _font_of(letter) for letter in letters if unicodedata.category(letter)[0] not in "CZ"}
    if not lacking:
        return ""
    named = ", ".join(map(repr, list(lacking)[:_NAMED])) + ", ..." * (len(lacking) > _NAMED)
    what = f"letters that no font of this machine has are drawn as boxes, {named}; "
    if not (fonts := " and ".join(filter(None, dict.fromkeys(lacking.values())))):
        return f"{what}no font that labels are set in has them"
    return f"{what}install {fonts}, remove the list of fonts in {matplotlib.get_cachedir()}, and start Python anew"


def _font_of(letter: str) -> str:
    """A TrueType font among `families` that has a letter, "" where none is known."""
    script = unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]
    if script in _EASTERN:
        return EASTERN
    if script.title() in _SCRIPTS:
        return f"Noto Sans {script.title()}"
    if unicodedata.category(letter)[0] != "S":
        return ""
    return "Noto Emoji" if ord(letter) > 0xFFFF else "Symbola"


def _acts(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" or unicodedata.bidirectional(letter) in _TURNS


@cache
def families() -> list[str]:
    """Names of the fonts for labels in the order of use; fonts that publishers accept come first."""
    installed = set(font_manager.get_font_names())
    found = [name for name in _FALLBACKS if name in installed]
    return ["DejaVu Sans", *sorted(found, key=lambda name: is_cff(Path(font_manager.findfont(name))))]


def is_cff(path: Path) -> bool:
    """Whether a font, or the first of a collection, has CFF outlines, which publishers do not want."""
    with path.open("rb") as file:
        kind = file.read(4)
        if kind == b"ttcf":
            file.seek(12)
            file.seek(int.from_bytes(file.read(4), "big"))
            kind = file.read(4)
    return kind == b"OTTO"


@cache
def _drawable() -> frozenset[int]:
    """Code points that one of the fonts can draw."""
    paths = [font_manager.findfont(name) for name in families()]
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))
