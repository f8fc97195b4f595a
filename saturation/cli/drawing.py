"""`saturation figure`: recorded traces, or all that a run left in its folder, as figures fit for a paper."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app, plainly
from .given import writable


class Kind(StrEnum):
    """Figures that a trace can be drawn as."""

    layers = "layers"
    tokens = "tokens"
    skipped = "skipped"
    distribution = "distribution"
    growth = "growth"


class Venue(StrEnum):
    """Whose width a figure gets."""

    acl = "acl"
    neurips = "neurips"
    icml = "icml"


class Width(StrEnum):
    """One column, or the whole text."""

    column = "column"
    text = "text"


@app.command()
@plainly
def figure(
    kind: Annotated[Kind | None, typer.Argument(help="what to draw")] = None,
    traces: Annotated[
        list[Path] | None, typer.Argument(help="recorded traces; several are drawn over each other")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="a .pdf, .svg or .png file; of --all a folder, by default its figures/"),
    ] = None,
    every: Annotated[
        Path | None, typer.Option("--all", help="draw all that the files of a run's folder allow, for a paper")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="a legend label per trace; default: its file name")] = None,
    venue: Annotated[Venue | None, typer.Option(help="whose width; default: the figure's own, acl with --all")] = None,
    width: Annotated[Width, typer.Option(help="one column or the whole text")] = Width.column,
    phase: Annotated[str | None, typer.Option(help="prefill or decode; default: both")] = None,
    sequence: Annotated[int | None, typer.Option(help="tokens and skipped: which sequence")] = None,
) -> None:
    """Draw recorded traces, or a whole run, as figures fit for a paper; each with its data and a manifest beside it."""
    from .. import figures

    if every is not None:
        from .paper import draw_all

        if kind is not None or traces:
            raise ValueError("expected either --all FOLDER or a kind and traces, got both; leave one out")
        for path in draw_all(every, out or every / "figures", str(venue or "acl"), say=typer.echo):
            typer.echo(str(path))
        return
    if kind is None or not traces or out is None:
        raise ValueError("expected a kind, traces and --out FILE, or --all FOLDER; give one or the other")
    writable(out, "the figure")
    drawn = _drawn(kind, _labelled(traces, label), phase, sequence)
    for path in figures.save(drawn, out, venue=str(venue) if venue else None, width=str(width)):  # type: ignore[arg-type]
        typer.echo(str(path))


def _labelled(paths: list[Path], label: list[str] | None) -> dict[str, Any]:
    from ..trace import Trace

    labels = label or [path.stem for path in paths]
    if len(set(labels)) != len(paths) or len(labels) != len(paths):
        raise ValueError(f"expected a label of its own for each of {len(paths)} traces, got {labels}; give --label")
    return {name: Trace.load(path) for name, path in zip(labels, paths, strict=True)}


def _drawn(kind: Kind, traces: dict[str, Any], phase: str | None, sequence: int | None) -> Any:
    from .. import figures

    given: Any = traces if len(traces) > 1 else next(iter(traces.values()))
    if kind not in (Kind.tokens, Kind.skipped):
        return getattr(figures, kind)(given, phase=phase)
    if len(traces) > 1:
        raise ValueError(f"expected one trace to draw as {kind}, got {len(traces)}; draw them apart")
    if kind == Kind.skipped and not given.skipped.any():
        raise ValueError(
            f"expected a trace in which blocks were skipped, but in {next(iter(traces))} every one ran; make one with "
            "saturation generate MODEL --policy RULE --out FILE"
        )
    return getattr(figures, kind)(given, sequence=sequence)
