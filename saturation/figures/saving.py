"""Write a figure at the width of a venue's column, with its text as text."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from saturation.trace import writing

from .legibility import faults

logger = logging.getLogger(__name__)

Venue = Literal["acl", "neurips", "icml"]
Width = Literal["column", "text"]

_CM = 1 / 2.54  # inches
_ACL = {
    "column": 7.7 * _CM,
    "text": 16.0 * _CM,
}  # acl-org/acl-style-files, acl.sty: \columnwidth and \textwidth
_SUFFIXES = (".pdf", ".svg", ".png")
_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}  # same figure, same bytes
_SETTINGS = {  # read by matplotlib while it writes
    "pdf.fonttype": 42,  # TrueType, which a paper's publisher accepts and a reader can search
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "saturation",
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
) -> None:
    """Write a figure as PDF, SVG or PNG (300 dots an inch), by the path's suffix, whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It is laid out anew at the width asked for, its text as large as before, and left at its own size. Text
        that a reader would miss there (cut off, overprinted, under 6 points) is named in a logged warning.
    path : path
        Ends in .pdf, .svg or .png.
    venue : "acl", "neurips" or "icml", optional
        Whose width the figure gets; without one it keeps its own.
    width : "column" or "text"
        One column or the whole text, which are the same at NeurIPS.
    height : float, optional
        Height in inches; the figure's own by default.

    Raises
    ------
    ValueError
        For a suffix, venue or width that is not among these.
    OSError
        If the path cannot be written; nothing is left there.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"expected a path ending in {', '.join(_SUFFIXES)}, got {str(path)!r}")
    size = (inches(venue, width) if venue else figure.get_figwidth(), height or figure.get_figheight())
    with writing(path, "the figure") as part, _ONE_AT_A_TIME, _sized(figure, size):
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=300, metadata=_UNDATED[path.suffix.lower()])
        found = faults(figure)
    for fault in found:
        logger.warning("%s: %s", path, fault)


@contextmanager
def _sized(figure: Figure, size: tuple[float, float]) -> Iterator[None]:
    before = figure.get_figwidth(), figure.get_figheight()
    figure.set_size_inches(*size)
    try:
        with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]
            yield
    finally:
        figure.set_size_inches(*before)


def inches(venue: str, width: str) -> float:
    """Width of a venue's column or text in inches."""
    from tueplots import figsizes

    sizes = {
        "acl": _ACL,
        "neurips": dict.fromkeys(("column", "text"), figsizes.neurips2024()["figure.figsize"][0]),
        "icml": {
            "column": figsizes.icml2024_half()["figure.figsize"][0],
            "text": figsizes.icml2024_full()["figure.figsize"][0],
        },
    }
    if venue not in sizes or width not in sizes[venue]:
        raise ValueError(
            f"expected a venue among {', '.join(sizes)} and a width among column, text, got {venue!r} and {width!r}"
        )
    return sizes[venue][width]
