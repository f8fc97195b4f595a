"""The map as a picture in a page, and a page of the API for each room of the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

import saturation

from .drawing import PAGES, Room, drawn, imports, rooms
from .writing import keep

STOREYS = {
    "words": "numbers and decisions, without torch",
    "model": "what touches a model",
    "experiments": "many runs, and what they say",
    "faces": "what a person sees and types",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before the source is read; add the picture's directive; see to docstrings."""
    app.add_directive("map-of-rooms", MapOfRooms)
    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    app.connect("autodoc-skip-member", skipped)
    app.connect("autodoc-process-docstring", escaped, priority=100)  # before numpydoc reads it
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class MapOfRooms(Directive):
    """The picture, drawn where ``{map-of-rooms}`` stands."""

    def run(self) -> list[nodes.Node]:
        """A node of plain HTML."""
        return [nodes.raw("", drawn(rooms(), imports()), format="html")]


def write(folder: Path) -> None:
    """A page for each room, and one before them all."""
    rows, pairs = rooms(), imports()
    for room in rows:
        keep(folder / PAGES / f"{room.name}.md", page(room, pairs))
    keep(folder / PAGES / "index.md", index(rows))


def page(room: Room, pairs: list[tuple[str, str]]) -> str:
    """The page of one room: what it imports, and every public name with its docstring."""
    ways = {
        "imports": [to for one, to in pairs if one == room.name],
        "is imported by": [one for one, to in pairs if to == room.name],
    }
    told = [f"*{room.storey}*"]
    told += [f"{way} {', '.join(f'[{one}]({one}.md)' for one in found)}" for way, found in ways.items() if found]
    about = f".. automodule:: saturation.{room.name}\n   {'' if room.name == 'cli' else ':members:'}"
    text = f"# {room.name}\n\n{' · '.join(told)}\n\n```{{eval-rst}}\n{about}\n```\n"
    if lent := lent_by_others(room.name):
        text += f"\nAlso here: {', '.join(lent)}.\n"
    return text + ("\n[The command line](../command.md) has every verb.\n" if room.name == "cli" else "")


def lent_by_others(room: str) -> list[str]:
    """Public names of a room that another room documents, as links."""
    module = getattr(saturation, room)
    homes = {name: _home(getattr(module, name)) for name in getattr(module, "__all__", ())}
    return [f"{{py:obj}}`saturation.{home}.{name}`" for name, home in homes.items() if home not in (None, room)]


def _home(thing: Any) -> str | None:
    """The room that made a function or class, None for anything else."""
    parts = (getattr(thing, "__module__", None) or "").split(".") if hasattr(thing, "__qualname__") else []
    return parts[1] if parts[:1] == ["saturation"] and len(parts) > 1 else None


def skipped(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """True for what another room documents."""
    page = Path(app.env.docname)
    room = page.name if page.parent.name == PAGES else None
    return True if what == "module" and room is not None and _home(obj) not in (None, room) else None


def escaped(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let |h| in a docstring stand for itself, where reStructuredText would look for a substitution."""
    literal: int | None = None  # indentation of the line whose literal block this is in
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None:
            lines[number] = re.sub(r"``.*?``|`[^`]*`|\|", lambda found: found[0].replace("|", r"\|"), line)
            literal = indent if line.rstrip().endswith("::") else None


def index(rows: list[Room]) -> str:
    """The first page of the API: what `saturation` lends at its top, and the rooms."""
    parts = [
        "# API",
        "Every public name with its docstring, a page for each room of [the map](../map.md). A room is a module:",
        "`saturation.figures.save` is the function `save` of the room `figures`.",
        "\n## At the top of the package\n\nLent by their rooms, so that `import saturation as st` is enough:\n",
        *(f"- {{py:obj}}`st.{name} <saturation.{room}.{name}>`" for name, room in saturation._HOMES.items()),
    ]
    for storey in dict.fromkeys(room.storey for room in rows):
        own = [room for room in rows if room.storey == storey]
        parts.append(f"\n## {storey.capitalize()}: {STOREYS[storey]}\n\n| room | what it is for |\n|---|---|")
        parts += [f"| [{room.name}]({room.name}.md) | {room.says} |" for room in own]
    tree = "\n".join(["\n```{toctree}", ":hidden:", "", *(room.name for room in rows), "```"])
    return "\n".join([*parts, tree]) + "\n"
