"""`saturation study`: which calibration texts keep what, for pruning and for skipping."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app import app, as_text, example, plainly, write_csv
from .arguments import open_model, read_tasks, writable_folder
from .pruning import SOURCE, Length, Tokens, Whole, share_of


@app.command(epilog=example("study demo -s mixture -s stories -t factoid --out runs/study"))
@plainly
def study(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for cells, rows.csv and rises.csv")],
    source: Annotated[list[str] | None, typer.Option("--source", "-s", help=SOURCE)] = None,
    task: Annotated[list[str] | None, options.TASKS] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="magnitude, wanda, sparsegpt, neurons, ffnskip or static")
    ] = None,
    sparsity: Annotated[list[str] | None, typer.Option(help="a share, or N:M; default: 0.5")] = None,
    form: Annotated[
        list[str] | None, typer.Option("--format", help="such as qa, icl:5 or cot; default: each source's own")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the drawing of texts; default: 0, 1 and 2")] = None,
    tokens: Tokens = 16_384,
    length: Length = None,
    whole: Whole = True,
    examples: options.Examples = None,
    accuracy: Annotated[bool, typer.Option(help="let answers be written and judged too")] = True,
    batch_size: options.BatchSize = 16,
    opening: options.Opening = options.OPENING,
) -> None:
    """Prune, or fit skipping, on each source, format, method and seed; tell how far the loss of each task rises."""
    from ..study import recipes, rises
    from ..study import study as studied

    tasks = read_tasks(task or ["factoid", "problems", "stories"], examples)
    writable_folder(out)
    asked = recipes(
        source or ["mixture", "stories", "problems"],
        methods=method or ("wanda", "sparsegpt"),
        sparsity=[share_of(given) for given in sparsity or ("0.5",)],
        formats=[_format(given) for given in form or ("",)],
        seeds=seed or (0, 1, 2),
        tokens=(tokens,),
        length=length,
        whole=whole,
    )
    loaded, tokenizer = open_model(model, opening)
    rows = studied(loaded, tokenizer, asked, tasks, out=out, accuracy=accuracy, batch_size=batch_size)
    found = rises(rows)
    for name, table in {"rows": rows, "rises": found}.items():
        write_csv(table, out / f"{name}.csv")
    shown = ["task", "source", "format", "method", "sparsity", "dense", "rise", "low", "high", "spread"]
    typer.echo(as_text(found[shown]))
    typer.echo("loss of reference answers in nats a token: of the dense model, and how much more, with a 95 % interval")


def _format(given: str) -> tuple[str | None, int | None]:
    """Parse a format, with its shots after a colon."""
    name, colon, shots = given.partition(":")
    if colon and not (shots.isascii() and shots.isdigit()):
        raise ValueError(f"expected a format such as qa or icl:5, got {given!r}; correct it")
    return name or None, int(shots) if colon else None
