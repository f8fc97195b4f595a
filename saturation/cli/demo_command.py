"""`saturation demo`: the whole pipeline on one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app import app, example, plainly
from .arguments import read_texts, writable_folder


@app.command(epilog=example("demo --model smollm2 --texts own.txt"))
@plainly
def demo(
    model: Annotated[str, typer.Option("--model", help=options.MODEL)] = "demo",
    texts: Annotated[
        str | None,
        typer.Option(
            help="texts of your own: a file with one to a line, or .jsonl with 'text'; a bundled task; a published "
            "set with its file: wikitext-2=test.txt; or a set of the hub, such as c4"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder for what it writes; default: runs/demo, or runs/demo_MODEL"),
    ] = None,
) -> None:
    """Record, skip and draw: on the bundled model, or another and its texts; ends by naming what it wrote."""
    place = out or Path("runs") / ("demo" if model == "demo" else f"demo_{Path(model).resolve().name}")
    writable_folder(place)
    given = read_texts(texts) if texts is not None else None
    from .demo import demonstrate

    demonstrate(place, typer.echo, name=model, texts=given, source=texts)
