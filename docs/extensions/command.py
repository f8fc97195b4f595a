"""The page of the command line, written from the command's own help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from saturation.cli import app as command
from saturation.cli.app import ORDER

from .writing import keep

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE = "command.md"  # git ignores it
BEGIN = """# The command line

`saturation VERB` does from a shell what the functions of the same names do in Python. Errors end as one sentence.
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the page before the source is read."""
    app.connect("builder-inited", lambda app: keep(Path(app.srcdir) / PAGE, page()))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def page() -> str:
    """The help of every verb."""
    return BEGIN + "".join(f"\n## {verb}\n\n```text\n{told(verb)}\n```\n" for verb in ORDER)


def told(verb: str) -> str:
    """What `saturation VERB --help` prints."""
    done = CliRunner().invoke(command, [verb, "--help"], prog_name="saturation", env={"COLUMNS": "84"})
    if done.exit_code:
        raise RuntimeError(f"saturation {verb} --help failed: {done.output}")
    return done.output.strip()
