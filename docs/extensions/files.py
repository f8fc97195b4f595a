"""Pages made of Markdown files that lie elsewhere in the repository, such as data/README.md.

They are written for readers of the repository. Links between two of them, or to pictures, lead on in the site; a link
to anything else of the repository, which the site does not hold, becomes the path as code.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .writing import keep

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "files"  # of the pages, which git ignores
PAGES = {
    "data/README.md": "data.md",
    "data/families.md": "families.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
PICTURES = (".png", ".svg", ".jpg")
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before the source is read."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(folder: Path) -> None:
    """Every page, from its file."""
    for name, page in PAGES.items():
        text = (folder.parent / name).read_text(encoding="utf-8")
        keep(folder / FOLDER / page, moved(text, name, folder.parent))


def moved(text: str, name: str, root: Path) -> str:
    """The text of a file, its links as they must be in the folder of pages."""
    return LINK.sub(lambda link: _moved(link, Path(name).parent, root), text)


def _moved(link: re.Match[str], beside: Path, root: Path) -> str:
    target, hash_, anchor = link["target"].partition("#")
    if not target or ":" in target:
        return link[0]
    path = os.path.normpath(beside / target)
    if not (root / path).exists():
        raise ValueError(f"{beside}: expected a link to a file of the repository, got {link['target']!r}; correct it")
    if path in PAGES:
        return f"[{link['text']}]({PAGES[path]}{hash_}{anchor})"
    if link["picture"] and path.endswith(PICTURES):
        return f"![{link['text']}](../../{path})"
    said = link["text"].strip("`")
    return f"`{path}`" if said.rstrip("/") in path else f"{link['text']} (`{path}`)"
