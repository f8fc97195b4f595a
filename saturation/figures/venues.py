"""Widths of columns and text by venue."""

from __future__ import annotations

from typing import Literal

Venue = Literal["acl", "neurips", "icml"]
Width = Literal["column", "text"]

_CM = 1 / 2.54  # inches
_ACL = {
    "column": 7.7 * _CM,
    "text": 16.0 * _CM,
}  # acl-org/acl-style-files, acl.sty: \columnwidth and \textwidth


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
