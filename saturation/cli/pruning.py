"""`saturation prune`: a model without some of its weights or neurons, pruned on calibration texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .app import app, as_text, example, plainly
from .arguments import open_model, writable_folder

SOURCE = (
    "of calibration texts: a bundled kind, mixture, generated, dots, random-letters, random-tokens, a task, a .jsonl "
    "or .txt file, wikitext-2=FILE, or hub:NAME"
)
Sparsity = Annotated[str, typer.Option(help="a share such as 0.5, or N:M such as 2:4, which keeps N of every M")]
Tokens = Annotated[int, typer.Option(min=1, help="real tokens of calibration texts")]
Length = Annotated[int | None, typer.Option(min=2, help="tokens of a calibration text at most; default: the context")]
Whole = Annotated[bool, typer.Option(help="take whole examples; --no-whole cuts longer texts")]


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
    report = pruned(loaded, calibration=sample, method=method, sparsity=share_of(sparsity), **asked)
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


def share_of(given: str) -> float | str:
    """Parse a sparsity: a number, or N:M as text."""
    try:
        return float(given)
    except ValueError:
        return given
