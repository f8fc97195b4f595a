"""Small fonts, made for a test and known to matplotlib during it: no test may lean on what a machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection
from matplotlib import font_manager

from saturation.figures import labels


def build(path: Path, family: str, letters: str, *, cff: bool) -> Path:
    """A font in which every letter is a square, its outlines CFF or TrueType; a collection where the path ends in c."""
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in letters)]
    font = FontBuilder(1000, isTTF=not cff)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): f"uni{ord(letter):04X}" for letter in letters})
    called = family.replace(" ", "")
    if cff:
        font.setupCFF(called, {}, {name: _square(T2CharStringPen(1000, None)).getCharString() for name in names}, {})
    else:
        font.setupGlyf({name: _square(TTGlyphPen(None)).glyph() for name in names})
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular", "psName": called})
    font.setupOS2()
    font.setupPost()
    if path.suffix != ".ttc":
        font.save(path)
        return path
    collection = TTCollection()
    collection.fonts = [font.font]
    collection.save(path)
    return path


def _square(pen: Any) -> Any:
    pen.moveTo((100, 0))
    for corner in ((900, 0), (900, 800), (100, 800)):
        pen.lineTo(corner)
    pen.closePath()
    return pen


@contextmanager
def installed(*paths: Path) -> Iterator[None]:
    """Let matplotlib know only its own fonts and these."""
    manager = font_manager.fontManager
    before = list(manager.ttflist)
    own = Path(font_manager.findfont("DejaVu Sans")).parent
    manager.ttflist = [font for font in before if Path(font.fname).parent == own]
    for path in paths:
        manager.addfont(path)
    _forget()
    try:
        yield
    finally:
        manager.ttflist = before
        _forget()


def _forget() -> None:
    font_manager.fontManager._findfont_cached.cache_clear()
    for remembered in (labels.families, labels._drawable):
        remembered.cache_clear()
