"""`save`: writes a figure at the width of a venue's column with its data, and checks the written file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from threading import Lock
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from saturation.atomic import located, writing_together

from . import labels, sidecars
from .legibility import SMALLEST, faults, tiny
from .read_back import Misprint, check, measure
from .source import Paper, Source, source_of
from .venues import Venue, Width, inches

_LOG = getLogger(__name__)
_SUFFIXES = (".pdf", ".svg", ".png")
_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}  # same figure, same bytes
_SETTINGS = {  # read by matplotlib while it writes
    "pdf.fonttype": 42,  # TrueType, which a paper's publisher accepts and a reader can search
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "saturation",
    "svg.image_inline": True,  # one file
    "savefig.bbox": "standard",  # "tight" would change the width
}
_ONE_AT_A_TIME = Lock()  # matplotlib's settings belong to the whole process


def save(
    figure: Figure,
    path: str | os.PathLike[str],
    venue: Venue | None = None,
    width: Width = "column",
    *,
    height: float | None = None,
    formats: Sequence[str] = (),
    alone: bool = False,
    data: pd.DataFrame | None = None,
    about: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a figure as PDF, SVG or PNG (300 dots an inch) with its data beside it, all or nothing.

    Beside `fig2.pdf` are laid `fig2.data.csv`, the numbers in it; `fig2.table.tex` (for LaTeX's booktabs), where
    they are a table to be printed; and `fig2.manifest.json`: what was asked for and what was read back, the data's
    hash, models, versions and the command. The essentials are in the picture's own metadata too. Nothing is dated,
    so that the same figure is the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It is laid out anew at the width asked for, its text as large as before, and left at its own size. Text
        that a reader would miss there (cut off, overprinted, under 6 points, without a font) is named in a logged
        warning.
    path : path
        Ends in .pdf, .svg or .png, or in none of them where there are `formats`.
    venue : "acl", "neurips" or "icml", optional
        Whose width the figure gets; without one it keeps its own. For a venue, text under 6 points is an error.
    width : "column" or "text"
        One column or the whole text, which are the same at NeurIPS.
    height : float, optional
        Height in inches; by default the figure's own, or what its text needs at that width.
    formats : sequence of str
        Several pictures of one name, such as ("pdf", "png").
    alone : bool
        True lays nothing beside the picture.
    data : pandas.DataFrame, optional
        The numbers in a figure of your own; those of `saturation.figures` bring theirs.
    about : mapping, optional
        More for the manifest that JSON can hold: model, revision, dtype, seed.

    Returns
    -------
    list of pathlib.Path
        What was written, pictures first.

    Raises
    ------
    ValueError
        For a suffix, venue or width that is not among these.
    Misprint
        If a picture, read back, has not the width asked for, or a font that is not embedded as TrueType (CFF in an
        OpenType font is refused for a venue only), or, for a venue, text under 6 points (exponents and indices in it
        may have .7 of that).
    OSError
        If the path cannot be written; nothing is left there.
    """
    pictures = _pictures(located(path), formats)
    across = inches(venue, width) if venue else float(figure.get_figwidth())
    size = (across, height or _height(figure, across))
    source = source_of(figure, data, about or {})
    files = {} if alone else sidecars.files(source)
    places = [*pictures, *(sidecars.place(pictures[0], name) for name in files)]
    with writing_together(places, "the figure") as parts:
        found = _draw(figure, size, parts[: len(pictures)], source, strict=venue is not None)
        printed = {path.name: measure(part) for part, path in zip(parts, pictures, strict=False)}
        for name, picture in printed.items():
            found += check(name, picture, across, strict=venue is not None)
        asked = {"venue": venue, "width": width if venue else None, "inches": size}
        told = sidecars.manifest(source, asked=asked, files=[path.name for path in places], printed=printed)
        for part, content in zip(parts[len(pictures) :], {**files, sidecars.MANIFEST: told}.values(), strict=False):
            part.write_bytes(content)
    for fault in found:
        _LOG.warning("%s: %s", pictures[0], fault)
    return places


def _pictures(path: Path, formats: Sequence[str]) -> list[Path]:
    """Paths of the pictures: the path itself, or one for each format."""
    known = path.suffix.lower() in _SUFFIXES
    stem = path.stem if known else path.name
    if path.name in ("", ".."):
        raise ValueError(f"expected the name of a picture, got {str(path)!r}, which is a folder; name a file in it")
    asked = [formats] if isinstance(formats, str) else formats
    paths = [path.with_name(f"{stem}.{name.lower().removeprefix('.')}") for name in asked] or [path]
    if unknown := [each for each in paths if each.suffix.lower() not in _SUFFIXES]:
        raise ValueError(f"expected a path ending in {', '.join(_SUFFIXES)}, got {str(unknown[0])!r}")
    return paths


def _height(figure: Figure, across: float) -> float:
    """Height of a figure in inches at a width: its own, unless its text is wrapped again."""
    fit = figure.fit if isinstance(figure, Paper) else None
    return fit(across) if fit else float(figure.get_figheight())


def _draw(figure: Figure, size: tuple[float, float], parts: list[Path], source: Source, *, strict: bool) -> list[str]:
    """Write the pictures; returns sentences about illegible text."""
    found: list[str] = []
    with _ONE_AT_A_TIME, _sized(figure, size), labels.noticed(found):
        found += faults(figure)
        if strict and (small := tiny(figure)):
            raise Misprint(
                f"expected text of at least {SMALLEST:g} points in a figure for a venue, but {small[0]}; make it larger"
            )
        for part in parts:
            suffix = part.suffix.lower()
            metadata = _UNDATED[suffix] | sidecars.essentials(source, suffix)
            figure.savefig(part, format=suffix[1:], dpi=300, metadata=metadata)
    return found


@contextmanager
def _sized(figure: Figure, size: tuple[float, float]) -> Iterator[None]:
    before = figure.get_figwidth(), figure.get_figheight()
    figure.set_size_inches(*size)
    try:
        with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]
            yield
    finally:
        figure.set_size_inches(*before)
