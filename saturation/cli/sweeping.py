"""`saturation sweep`: runs policies on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app import SKIPPED_ANSWER, app, as_text, example, plainly, write_csv
from .arguments import open_model, read_policy, read_tasks, writable_folder


@app.command(epilog=example("sweep demo -t factoid --policy static:layers=3+4 --out runs/mine"))
@plainly
def sweep(
    model: options.Model,
    task: Annotated[list[str], options.TASKS],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for cells, rows.csv and summary.csv")],
    policy: options.PolicyTexts = None,
    seed: Annotated[list[int] | None, typer.Option(help="of policies that draw; default: 0")] = None,
    scoring: options.Scoring = options.SCORING,
    opening: options.Opening = options.OPENING,
) -> None:
    """Score policies beside the dense model; what is in the folder already is not run again."""
    from ..quality import summarise
    from ..sweeps import sweep as swept

    tasks = read_tasks(task, scoring.examples)
    writable_folder(out)
    policies = [None, *map(read_policy, policy or ())]
    loaded, tokenizer = open_model(model, opening)
    rows = swept(loaded, tokenizer, policies, tasks, out=out, seeds=seed or (0,), **scoring.how())
    summary = summarise(rows)
    for name, table in {"rows": rows, "summary": summary}.items():
        write_csv(table, out / f"{name}.csv")
    typer.echo(f"{as_text(summary)}\n{SKIPPED_ANSWER}")
