"""Fonts by what they are, not by what a file calls them, and letters that no font has."""

from __future__ import annotations

import json
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pypdf import PdfWriter
from pypdf.generic import NameObject, StreamObject

from saturation import figures
from saturation.figures import labels
from saturation.figures.read_back import Font
from tests import fonts, traces

FAMILY = "Noto Sans CJK SC"  # one that labels are set in where it is installed
REFUSED = (
    "expected a.pdf to embed every font as TrueType, but NotoSansCJKSC is OpenType CFF; set the text in a TrueType "
    "font such as DejaVu Sans, or for Chinese, Japanese and Korean in WenQuanYi Micro Hei"
)
TOLD = (
    "the font NotoSansCJKSC is OpenType CFF, which is refused for a venue; for one, set the text in a TrueType font "
    "such as DejaVu Sans, or for Chinese, Japanese and Korean in WenQuanYi Micro Hei"
)


WORDS = ["the ", "日本", "ก", "日", "क", "\n", "🦊", "fox", "\u202e", "\ufffd"]


def spoken() -> Any:
    trace = traces.trace(sequences=1, length=len(WORDS), prefill=2, skip=0.2)
    return replace(trace, tokens=trace.tokens.assign(text=WORDS))


def titled(text: str, kind: type[Figure] = Figure) -> Figure:
    figure = kind(figsize=(3, 2))
    figure.add_subplot().set_title(text, fontfamily=labels.families())
    return figure


def rewritten(name: str, subtype: str | None) -> type[Figure]:
    """A figure whose PDF keeps its CFF fonts under another name, as other programs write them."""

    class Rewritten(Figure):
        def savefig(self, path: Any, **options: Any) -> None:
            super().savefig(path, **options)
            book = PdfWriter(clone_from=path)
            for font in book.pages[0]["/Resources"]["/Font"].values():
                inner = font.get_object()["/DescendantFonts"][0].get_object()
                descriptor = inner["/FontDescriptor"].get_object()
                program = descriptor["/FontFile2"].get_object()
                if program.get_data()[:4] != b"OTTO":
                    continue
                kept = StreamObject()
                kept.set_data(b"\1\0\4\1" if subtype == "/CIDFontType0C" else program.get_data())
                if subtype:
                    kept[NameObject("/Subtype")] = NameObject(subtype)
                del descriptor["/FontFile2"]
                descriptor[NameObject(name)] = book._add_object(kept)
            book.write(path)

    return Rewritten


@pytest.mark.parametrize("file", ["a.otf", "a.ttc"])
def test_a_cff_font_is_called_what_it_is(file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """matplotlib writes it as if it were TrueType."""
    font = fonts.build(tmp_path / file, FAMILY, "日本", cff=True)
    with fonts.installed(font):
        figures.save(titled("in 日本"), tmp_path / "a.pdf")
        found = figures.measure(tmp_path / "a.pdf").fonts
        assert found == (Font("DejaVuSans", "TrueType", True), Font("NotoSansCJKSC", "OpenType CFF", True))
        assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'a.pdf'}: {TOLD}"]
        told = json.loads((tmp_path / "a.manifest.json").read_text())["read back"]["a.pdf"]["fonts"]
        assert told == [font._asdict() for font in found]
        with pytest.raises(figures.Misprint, match=f"^{re.escape(REFUSED)}$"):
            figures.save(titled("in 日本"), tmp_path / "a.pdf", "acl")
        assert figures.measure(tmp_path / "a.pdf").fonts == found, "what stood there before is still there"


@pytest.mark.parametrize(
    ("name", "subtype"), [("/FontFile3", "/OpenType"), ("/FontFile3", "/CIDFontType0C"), ("/FontFile2", None)]
)
def test_a_cff_font_under_any_name(name: str, subtype: str | None, tmp_path: Path) -> None:
    with fonts.installed(fonts.build(tmp_path / "a.otf", FAMILY, "日本", cff=True)):
        figure = titled("日本", rewritten(name, subtype))
        with pytest.raises(figures.Misprint, match=f"^{re.escape(REFUSED)}$"):
            figures.save(figure, tmp_path / "a.pdf", "icml")
        figures.save(figure, tmp_path / "a.pdf", alone=True)
        assert Font("NotoSansCJKSC", "OpenType CFF", True) in figures.measure(tmp_path / "a.pdf").fonts


def test_truetype_letters_of_the_same_words_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cff = fonts.build(tmp_path / "a.otf", FAMILY, "日本", cff=True)
    true = fonts.build(tmp_path / "b.ttf", "Noto Sans Thai", "日本", cff=False)
    with fonts.installed(cff, true):
        assert labels.families() == ["DejaVu Sans", "Noto Sans Thai", FAMILY], "what a publisher takes comes first"
        figures.save(titled("in 日本"), tmp_path / "a.pdf", "acl")
        assert {font.kind for font in figures.measure(tmp_path / "a.pdf").fonts} == {"TrueType"}
    assert not caplog.records


def boxes(letters: str, fonts: str) -> str:
    named = ", ".join(map(repr, letters))
    return (
        f"letters that no font of this machine has are drawn as boxes, {named}; install {fonts}, remove "
        f"the list of fonts in {matplotlib.get_cachedir()}, and start Python anew"
    )


def rows(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"example": "a", "policy": ["dense", "mine"], "text": [" ".join(texts), "本"]})


@pytest.mark.parametrize("draw", [figures.tokens, figures.skipped, lambda trace: figures.answers(rows(WORDS))])
def test_letters_without_a_font_are_told_once(draw: Any, caplog: pytest.LogCaptureFixture) -> None:
    with fonts.installed():
        draw(spoken())
    assert [record.getMessage() for record in caplog.records] == [
        boxes("日本กक🦊", "WenQuanYi Micro Hei and Noto Sans Thai and Noto Sans Devanagari and Noto Emoji")
    ]


def test_letters_of_ones_own_words_are_told_when_they_are_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """matplotlib warns of each letter apart, and names no cure."""
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().set_title("in 日本")
    with fonts.installed(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figure, tmp_path / "a.pdf", formats=("pdf", "png"), alone=True)
    said = f"{tmp_path / 'a.pdf'}: {boxes('日本', 'WenQuanYi Micro Hei')}"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_where_every_letter_has_a_font_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with fonts.installed(fonts.build(tmp_path / "a.ttf", "Noto Sans Thai", "日本กक🦊", cff=False)):
        figures.tokens(spoken())
        assert labels.visible("日本") == "日本"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_letters_of_which_no_font_is_known() -> None:
    said = "letters that no font of this machine has are drawn as boxes, '𓀀'; no font that labels are set in has them"
    assert labels.boxes("𓀀") == said
    assert labels.boxes("\u202e\ue000 ") == ""
