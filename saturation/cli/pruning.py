"""`saturation prune` and `saturation study`: pruning on calibration texts, and studies of such texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .app import app, as_text, example, plainly
from .arguments import open_model, read_tasks, writable_folder

SOURCE = (
    "of calibration texts: a bundled kind, mixture, generated, dots, random-letters, random-tokens, a task, a .jsonl "
    "or .txt file, wikitext-2=FILE, or hub:NAME"
)
Sparsity = Annotated[str, typer.Option(help="a share such as 0.5, or N:M such as 2:4, which keeps N of every M")]
Tokens = Annotated[int, typer.Option(min=1, help="real tokens of calibration texts")]
Length = Annotated[int | None, typer.Option(min=2, help="tokens of a calibration text at most; default: the context")]
Whole = Annotated[bool, typer.Option(help="take whole examples; --no-whole cuts longer texts")]
Sources = Annotated[list[str] | None, typer.Option("--source", "-s", help=SOURCE)]


@app.command(epilog=example("prune demo --method wanda --sparsity 2:4 --out pruned"))
@plainly
def prune(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the pruned model, in Hugging Face format")],
    source: Annotated[str, typer.Option("--source", "-s", help=SOURCE)] = "mixture",
    method: Annotated[str, typer.Option(help="magnitude, wanda, sparsegpt or neurons")] = "wanda",
    sparsity: Sparsity = "0.5",
    update: Annotated[str | None, typer.Option(help="none, sparsegpt or least-squares; default: the method's")] = None,
    widths: Annotated[str | None, typer.Option(help="of neurons: ranked (default) or one")] = None,
    score: Annotated[str | None, typer.Option(help="of neurons: energy (default), relative or fisher")] = None,
    tokens: Tokens = 16_384,
    seed: Annotated[int, typer.Option(help="of the drawing of texts")] = 0,
    form: Annotated[str | None, typer.Option("--format", help="text, zero-shot, qa, icl or cot")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="questions of a text, for icl and cot")] = None,
    length: Length = None,
    whole: Whole = True,
    batch_size: options.BatchSize = 8,
    opening: options.Opening = options.OPENING,
) -> None:
    """Prune a model and save it."""
    from ..calibration import draw
    from ..pruning import prune as pruned

    writable_folder(out)
    loaded, tokenizer = open_model(model, opening)
    how: dict[str, Any] = {"tokens": tokens, "seed": seed, "format": form, "shots": shots}
    sample = draw(loaded, tokenizer, source, length=length, whole=whole, **how)
    asked: dict[str, Any] = {"update": update, "widths": widths, "score": score, "batch_size": batch_size}
    report = pruned(loaded, calibration=sample, method=method, sparsity=_share(sparsity), **asked)
    loaded.save_pretrained(out)
    tokenizer.save_pretrained(out)
    report.table.to_csv(out / "pruning.csv", index=False)
    (out / "pruning.json").write_text(json.dumps(report.about(), indent=1, default=str) + "\n", encoding="utf-8")
    shown = report.table[["layer", "matrix", "outputs", "inputs", "sparsity", "error"]]
    typer.echo(as_text(shown))
    what = "neurons" if method == "neurons" else "weights"
    typer.echo(
        f"{sample.name}, {sample.tokens} tokens: {100 * report.sparsity:.1f} % of the {what} are gone, mean error "
        f"{report.error:.4f}; written to {out}"
    )
    for note in report.notes:
        typer.echo(note)


@app.command(epilog=example("study demo -s mixture -s stories -t factoid --out runs/study"))
@plainly
def study(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for cells, rows.csv and rises.csv")],
    source: Sources = None,
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
    """Ask what calibration texts change: sources x formats x methods x seeds, judged on tasks."""
    from ..atomic import writing
    from ..study import recipes, rises
    from ..study import study as studied

    tasks = read_tasks(task or ["factoid", "problems", "stories"], examples)
    writable_folder(out)
    asked = recipes(
        source or ["mixture", "stories", "problems"],
        methods=method or ("wanda", "sparsegpt"),
        sparsity=[_share(given) for given in sparsity or ("0.5",)],
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
        with writing(out / f"{name}.csv", "the table") as part:
            table.to_csv(part, index=False)
    shown = ["task", "source", "format", "method", "sparsity", "dense", "rise", "low", "high", "spread"]
    typer.echo(as_text(found[shown]))
    typer.echo("loss of reference answers in nats a token: of the dense model, and how much more, with a 95 % interval")


def _share(given: str) -> float | str:
    """Parse a sparsity: a number, or N:M as text."""
    try:
        return float(given)
    except ValueError:
        return given


def _format(given: str) -> tuple[str | None, int | None]:
    """Parse a format, with its shots after a colon."""
    name, colon, shots = given.partition(":")
    if colon and not (shots.isascii() and shots.isdigit()):
        raise ValueError(f"expected a format such as qa or icl:5, got {given!r}; correct it")
    return name or None, int(shots) if colon else None
