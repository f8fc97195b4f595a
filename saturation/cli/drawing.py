"""`saturation figure`: draws recorded traces, or a run's folder, as figures for a paper."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app, example, plainly
from .arguments import writable


class Kind(StrEnum):
    """Kinds of figures of a trace or of harm."""

    layers = "layers"
    tokens = "tokens"
    skipped = "skipped"
    distribution = "distribution"
    growth = "growth"
    harm = "harm"


class By(StrEnum):
    """Quantities to draw harm against."""

    distance = "distance"
    growth = "growth"
    position = "position"


class Venue(StrEnum):
    """Venues, whose width a figure gets."""

    acl = "acl"
    neurips = "neurips"
    icml = "icml"


class Width(StrEnum):
    """Widths of a figure: one column, or the whole text."""

    column = "column"
    text = "text"


@app.command(epilog=example("figure trace.parquet --venue acl --out fig.pdf"))
@plainly
def figure(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND] FILE",
            help=f"what to draw ({', '.join(Kind)}; left out, it is guessed), and recorded traces, drawn over each "
            "other; for harm its file, and the trace to draw it against",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="a .pdf, .svg or .png file, by default FILE.KIND.pdf beside the first; of --all a folder, by default "
            "its figures/",
        ),
    ] = None,
    every: Annotated[
        Path | None, typer.Option("--all", help="draw all that the files of a run's folder allow, for a paper")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="a legend label per trace; default: its file name")] = None,
    venue: Annotated[Venue | None, typer.Option(help="whose width; default: the figure's own, acl with --all")] = None,
    width: Annotated[Width, typer.Option(help="one column or the whole text")] = Width.column,
    phase: Annotated[str | None, typer.Option(help="prefill or decode; default: both")] = None,
    sequence: Annotated[int | None, typer.Option(help="tokens and skipped: which sequence")] = None,
    by: Annotated[By, typer.Option(help="harm: what of the trace it is drawn against")] = By.distance,
) -> None:
    """Draw recorded traces, or a whole run, as figures fit for a paper; each with its data and a manifest beside it."""
    from .. import figures

    if every is not None:
        from .paper_figures import draw_all

        if what:
            raise ValueError("expected either --all FOLDER or a kind and traces, got both; leave one out")
        for path in draw_all(every, out or every / "figures", str(venue or "acl"), say=typer.echo):
            typer.echo(str(path))
        return
    kind, traces = _asked(what or [])
    if out is not None:
        writable(out, "the figure")
    if kind is None:
        kind = _guessed(traces)
        typer.echo(f"drawn as {kind}; name another kind before the file: {', '.join(Kind)}", err=True)
    if out is None:
        writable(out := traces[0].with_suffix(f".{kind}.pdf"), "the figure")
    drawn = _harm(traces, by) if kind == Kind.harm else _drawn(kind, _labelled(traces, label), phase, sequence)
    for path in figures.save(drawn, out, venue=str(venue) if venue else None, width=str(width)):  # type: ignore[arg-type]
        typer.echo(str(path))


def _asked(words: list[str]) -> tuple[Kind | None, list[Path]]:
    """Split the arguments into the kind, if named, and the files."""
    from ..atomic import located

    kind = Kind(words[0]) if words and words[0] in tuple(Kind) else None
    files = [located(word) for word in words[kind is not None :]]
    if not files:
        raise ValueError("expected files to draw, perhaps a kind before them, or --all FOLDER; give one or the other")
    if kind is None and not files[0].suffix and not files[0].exists():
        raise ValueError(f"expected a kind among {', '.join(Kind)}, or a file, got {words[0]!r}; correct it")
    return kind, files


def _guessed(paths: list[Path]) -> Kind:
    """Guess the kind of figure from the files."""
    from ..trace import Harm, Trace
    from ..trace.parquet import OtherTable

    try:
        first = Trace.load(paths[0])
    except OtherTable:
        try:
            Harm.load(paths[0])
        except OtherTable:
            raise ValueError(
                f"expected a trace or a record of harm, got {paths[0]}, which is neither; make one with "
                "saturation record"
            ) from None
        return Kind.harm
    return Kind.skipped if len(paths) == 1 and first.skipped.any() else Kind.layers


def _harm(paths: list[Path], by: By) -> Any:
    from .. import figures
    from ..trace import Harm, Trace

    if len(paths) > 2:
        raise ValueError(
            f"expected a file of harm, and at most the trace to draw it against, got {len(paths)} "
            "files; leave the others out"
        )
    measured = Harm.load(paths[0])
    return figures.harm_against(measured, Trace.load(paths[1]), by=by) if len(paths) == 2 else figures.harm(measured)  # type: ignore[arg-type]


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
