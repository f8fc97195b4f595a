"""Tables on data/README.md, each between the two marks that carry its name."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parent / "README.md"


def put(name: str, text: str, *, page: Path = PAGE) -> None:
    """Replace what stands between the marks of a name.

    Raises
    ------
    ValueError
        Where the page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"expected the marks {begin} and {end} in {page}, got none; put them where the text goes")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def table(columns: dict[str, str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table; the columns are headings with "<" for left or ">" for right."""
    rule = ["--:" if side == ">" else "---" for side in columns.values()]
    return [f"| {' | '.join(columns)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in rows)]
