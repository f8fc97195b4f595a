"""The map of the package as a picture, read from its docstring and from its imports.

The functions of tests/test_map.py read them, so that no picture says other than the test that holds the imports to the
map.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

import saturation
from tests.test_map import ROW, imports_of

PACKAGE = Path(saturation.__file__).parent
PAGES = "api"  # folder of the rooms' pages
LINE, NAMES, SAYS, RIGHT = 27, 108, 212, 820  # px: height of a row, and where its parts begin
BULGE = 125  # px, of the widest arc


class Room(NamedTuple):
    """A row of the map."""

    storey: str
    name: str
    says: str


def rooms() -> list[Room]:
    """The rows of the map from its top to its foot."""
    found: list[Room] = []
    for row in ROW.finditer(saturation.__doc__ or ""):
        storey = row["storey"] or found[-1].storey
        found.append(Room(storey, row["room"], row["says"]))
    return found


def imports() -> list[tuple[str, str]]:
    """Which room imports which, once each, in the order of the map."""
    names = [room.name for room in rooms()]
    asked = ((one.room, one.path) for one in imports_of(PACKAGE))
    pairs = {(room, path[1]) for room, path in asked if path[0] == PACKAGE.name and len(path) > 1}
    return sorted(
        (pair for pair in pairs if pair[0] != pair[1] and pair[1] in names),
        key=lambda pair: (names.index(pair[0]), names.index(pair[1])),
    )


def drawn(rows: list[Room], pairs: list[tuple[str, str]]) -> str:
    """The map as SVG: a line for each room, and an arc from each room up to every room that it imports."""
    middle = {room.name: LINE * (number + 0.5) for number, room in enumerate(rows)}
    parts = [_storey(storey, [room.storey for room in rows]) for storey in dict.fromkeys(room.storey for room in rows)]
    for room in rows:
        parts.append(_room(room, middle, [to for one, to in pairs if one == room.name]))
    label = "The rooms of saturation from top to bottom; arcs lead from each room up to those that it imports"
    view = f'viewBox="0 0 {RIGHT + BULGE + 5} {LINE * len(rows)}"'
    return f'<div class="map"><svg {view} role="img" aria-label="{label}">{"".join(parts)}</svg></div>'


def _storey(storey: str, storeys: list[str]) -> str:
    top, tall = LINE * storeys.index(storey), LINE * storeys.count(storey)
    return (
        f'<rect class="{storey}" x="0" y="{top + 1}" width="{RIGHT}" height="{tall - 2}" rx="6"/>'
        f'<text class="storey" x="12" y="{top + LINE / 2}">{storey}</text>'
    )


def _room(room: Room, middle: dict[str, float], imported: list[str]) -> str:
    y = middle[room.name]
    return (
        f'<g class="room"><title>{room.name} imports {", ".join(imported) or "no other room"}</title>'
        f'<a href="{PAGES}/{room.name}.html"><text class="name" x="{NAMES}" y="{y}">{room.name}</text></a>'
        f'<text class="says" x="{SAYS}" y="{y}">{escape(room.says.replace("`", ""))}</text>'
        f"{''.join(_arc(y, middle[to]) for to in imported)}</g>"
    )


def _arc(start: float, end: float) -> str:
    """From a room at one height to one above it, bulging to the right."""
    radius = abs(start - end) / 2
    across = min(0.55 * radius, BULGE)
    return f'<path d="M {RIGHT} {start} A {across:.1f} {radius:.1f} 0 0 0 {RIGHT} {end}"/>'
