"""`saturation export`: writes a checkpoint without the feed-forward blocks that a static policy skips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app import app, example, plainly
from .arguments import open_model, read_policy


@app.command(epilog=example("export model.gguf --policy static:layers=12+13,sink=0 -o out.gguf"))
@plainly
def export(
    model: Annotated[str, typer.Argument(help="a model, as for the other commands, or a GGUF file")],
    out: Annotated[Path, typer.Option("--out", "-o", help="a new folder, or of a GGUF file a name ending in .gguf")],
    policy: Annotated[
        str | None, typer.Option(help="such as static:layers=3+4,sink=0, or as JSON, or a file of it")
    ] = None,
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    trust_remote_code: options.Trust = False,
) -> None:
    """Write a checkpoint without the skipped blocks, for vLLM or llama.cpp."""
    from ..serving import export as exported

    rule = read_policy(policy)
    if model.endswith(".gguf"):
        return typer.echo(exported(model, rule, out))
    loaded, tokenizer = open_model(model, options.Opening("cpu", dtype, None, revision, trust_remote_code))
    return typer.echo(exported(loaded, rule, out, tokenizer=tokenizer))
