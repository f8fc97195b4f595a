"""Read-back of written pictures: width, fonts and size of the text, from the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from saturation.atomic import located

from .labels import EASTERN
from .legibility import SMALLEST

_OFF = 0.01  # inches that a picture's width may be off
_EXPONENT = 0.7  # size of exponents and indices relative to their text, as matplotlib sets them
POINTS = 72.0  # to an inch
_SIZE = re.compile(rb"/\S+ ([\d.]+) Tf")  # matplotlib scales text only by this operator, never by a matrix
_STYLE = re.compile(r"font-size: ([\d.]+)px; font-family: '?([^',;]+)")
CFF = "OpenType CFF"
_TRUETYPE = "set the text in a TrueType font such as DejaVu Sans"
_ELSEWHERE = f", or for Chinese, Japanese and Korean in {EASTERN}"
_PROGRAMS = {b"OTTO": CFF, b"\0\1\0\0": "TrueType", b"true": "TrueType"}  # the first bytes of a font program
_BARE = ("/CIDFontType0C", "/Type1C")  # CFF without a wrapper
_KINDS = {"/CIDFontType2": "TrueType", "/TrueType": "TrueType", "/Type3": "Type 3", "/Type1": "Type 1"}


class Font(NamedTuple):
    """A font of a picture: its name, its kind ("TrueType", "Type 3", ...) and whether the file carries it.

    The kind is what the font program itself is: a PDF may call one TrueType that holds CFF outlines.
    """

    name: str
    kind: str
    embedded: bool


@dataclass(frozen=True)
class Printed:
    """Properties of a picture, read from its file.

    Attributes
    ----------
    width, height : float
        Inches.
    fonts : tuple of Font
        Of its text; empty for a PNG, whose text is pixels. An SVG only names its fonts.
    smallest : float, optional
        Points of its smallest text, exponents and indices included; None where it has none to be read.
    """

    width: float
    height: float
    fonts: tuple[Font, ...] = ()
    smallest: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "fonts": [font._asdict() for font in self.fonts]}


class Misprint(ValueError):
    """A written picture differs from the request; its file is not kept."""


def measure(path: str | os.PathLike[str]) -> Printed:
    """Read width, height, fonts and the smallest text from a picture that `save` wrote.

    Parameters
    ----------
    path : path
        A .pdf, .svg or .png file.

    Returns
    -------
    Printed

    Raises
    ------
    ValueError
        For another suffix.
    OSError
        If the file cannot be read.
    """
    path = located(path)
    readers = {".pdf": _pdf, ".svg": _svg, ".png": _png}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"expected a picture ending in {', '.join(readers)}, got {path.name}; name one that save wrote"
        )
    return readers[path.suffix.lower()](path)


def check(name: str, picture: Printed, width: float, *, strict: bool) -> Iterator[str]:
    """Raise Misprint unless a picture has this width in inches, its fonts embedded and, if strict, no tiny text.

    Yields
    ------
    str
        What is no fault, but would be one if strict.
    """
    if abs(picture.width - width) > _OFF:
        raise Misprint(
            f"expected {name} to be {width:.3f} inches wide, but its file says {picture.width:.3f}; leave the "
            "figure's size to save"
        )
    for font in picture.fonts:
        if name.lower().endswith(".pdf") and (font.kind != "TrueType" or not font.embedded):
            cure = _TRUETYPE + _ELSEWHERE * (font.kind == CFF)
            if font.kind == CFF and font.embedded and not strict:
                yield f"the font {font.name} is {CFF}, which is refused for a venue; for one, {cure}"
                continue
            raise Misprint(
                f"expected {name} to embed every font as TrueType, but {font.name} is {font.kind}"
                f"{'' if font.embedded else ' and not embedded'}; {cure}"
            )
    if strict and picture.smallest is not None and picture.smallest < SMALLEST * _EXPONENT - 0.01:
        raise Misprint(
            f"expected text of at least {SMALLEST:g} points in {name}, and {SMALLEST * _EXPONENT:g} in exponents, but "
            f"its file says {picture.smallest:g}; make it larger"
        )


def _pdf(path: Path) -> Printed:
    from pypdf import PdfReader

    page = PdfReader(path).pages[0]
    fonts, streams = set(), [page.get_contents()]
    for resources in _resources(page):
        fonts |= {_font(font.get_object()) for font in resources.get("/Font", {}).values()}
        streams += [part for part in _objects(resources) if part["/Subtype"] == "/Form"]
    sizes = [float(size) for stream in streams if stream is not None for size in _SIZE.findall(stream.get_data())]
    width, height = float(page.mediabox.width) / POINTS, float(page.mediabox.height) / POINTS
    return Printed(width, height, tuple(sorted(fonts)), min(sizes, default=None))


def _resources(part: Any) -> Iterator[Any]:
    """The resources of a page, and those of the forms in it."""
    if resources := part.get("/Resources"):
        yield resources.get_object()
        for inner in _objects(resources.get_object()):
            yield from _resources(inner)


def _objects(resources: Any) -> list[Any]:
    return [part.get_object() for part in resources.get("/XObject", {}).values()]


def _font(font: Any) -> Font:
    """Kind of a composite font (Type 0), from its only descendant."""
    inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
    descriptor = inner["/FontDescriptor"].get_object() if "/FontDescriptor" in inner else {}
    programs = [descriptor[key].get_object() for key in descriptor if str(key).startswith("/FontFile")]
    name = str(font.get("/BaseFont", font.get("/Name", ""))).lstrip("/").rpartition("+")[2]
    kind = str(inner["/Subtype"])
    carried = next(filter(None, map(_program, programs)), _KINDS.get(kind, kind.lstrip("/")))
    return Font(name, carried, kind == "/Type3" or bool(programs))


def _program(stream: Any) -> str | None:
    """Kind of a font program; None where only the font object tells it."""
    if stream.get("/Subtype") in _BARE:
        return CFF
    return _PROGRAMS.get(stream.get_data()[:4])


def _svg(path: Path) -> Printed:
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.attrib[side].removesuffix("pt")) / POINTS for side in ("width", "height"))
    found = [_STYLE.search(part.get("style", "")) for part in root.iter() if part.tag.endswith(("}text", "}tspan"))]
    styles = [match.groups() for match in found if match]
    fonts = sorted({Font(name, "named", False) for _, name in styles})
    return Printed(width, height, tuple(fonts), min((float(size) for size, _ in styles), default=None))


def _png(path: Path) -> Printed:
    from PIL import Image

    with Image.open(path) as image:
        across, down = image.info["dpi"]
        return Printed(image.width / across, image.height / down)
