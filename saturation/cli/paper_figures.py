"""The figures of a paper: all that the files in a run's folder allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from .. import figures
from ..figures.policy_styles import DENSE, FAMILIES, family_of
from ..figures.score_by_warmup import levels
from ..figures.source import of_traces
from ..trace import Trace
from ..trace.parquet import OtherTable

ROWS = {"task", "example", "policy", "blocks"}  # columns of scored examples
TEXTS = dict.fromkeys(
    ("task", "example", "conversation", "kind", "policy", "text", "answer", "ids", "judge_error"), str
)
SUMMARY = {"task", "policy", "score", "mean", "low", "high", "decode"}
PRIMARY = ("correct", "rouge_L", "chrf", "nll")  # the score to draw is the first of these that a task has
FEW = 5  # least examples of a category
SHOWN = 3  # texts shown side by side
Drawing = tuple[str, Callable[[], Any], Literal["column", "text"]]  # name, function that draws it, width


@dataclass
class Run:
    """The content of a run's folder, recognised by columns rather than by file names."""

    traces: dict[str, Trace] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def having(self, *columns: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """Iterate over the tables that have these columns."""
        return ((name, table) for name, table in self.tables.items() if set(columns) <= set(table.columns))

    @property
    def seeds(self) -> dict[str, Any]:
        """Seeds of the random policies."""
        found = self.rows["seed"].dropna().unique().tolist() if "seed" in self.rows else []
        return {"seeds": sorted(map(int, found))} if found else {}


def draw_all(folder: Path, out: Path, venue: Any, say: Callable[[str], None]) -> list[Path]:
    """Draw what a run's files allow, as PDF and PNG at a venue's width, each with its data and manifest.

    Parameters
    ----------
    folder
        As `saturation demo` or `saturation sweep` writes it, or any with traces (.parquet) and tables (.csv).
    out
        Folder for the figures; made if missing.
    venue
        "acl", "neurips" or "icml".
    say
        Called with a sentence for each figure that is left out, with the reason.

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    OSError, ValueError
        For a folder that is missing, holds nothing to draw, or cannot be written.
    """
    run = read(folder, say)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"cannot make the folder {out}: {error.strerror}; name another with --out") from error
    written: list[Path] = []
    for name, draw, width in drawings(run):
        try:
            figure = draw()
            known = figure.sources[0].about if figure.sources else {}
            about = known if "traces" in known else of_traces(run.traces) | run.seeds
            written += figures.save(figure, out / name, venue, width, formats=("pdf", "png"), about=about)
        except ValueError as error:
            say(f"{name} is left out: {error}")
    return written


def read(folder: Path, say: Callable[[str], None]) -> Run:
    """Read the traces, tables and scored examples of a folder; not a sweep's cells, which may be of other models.

    A trace that cannot be read is reported and left out.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"expected the folder of a run, but there is no folder {folder}; name one with --all")
    run, scored = Run(), []
    for path in sorted(folder.glob("*.parquet")):
        try:
            trace = Trace.load(path)
        except OtherTable:
            continue
        except ValueError as error:
            say(f"{path.name} is left out: {error}")
            continue
        if len(trace):
            run.traces[path.stem] = trace
    for path in sorted(folder.glob("*.csv")):
        examples = set(pd.read_csv(path, nrows=0).columns) >= ROWS
        known: Any = {"keep_default_na": False, "na_values": [""], "dtype": TEXTS if examples else None}
        table = pd.read_csv(path, **known)  # a text may be "None", or "18"
        if examples:
            scored.append(_with_empty_texts(table))
        elif not path.name.endswith(".data.csv"):
            run.tables[path.stem] = table
    if scored:
        run.rows = pd.concat(scored, ignore_index=True)
    if not any(True for _ in drawings(run)):
        raise ValueError(
            f"expected traces or tables of a run in {folder}, found none; make some with saturation demo, record or "
            "sweep, or name another folder with --all"
        )
    return run


def _with_empty_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with "" for empty texts, which CSV files do not distinguish from missing ones."""
    texts = [name for name in TEXTS if name in rows]
    has = rows.groupby("task")[texts].transform("any")
    return rows.assign(**rows[texts].mask(has & rows[texts].isna(), ""))


def drawings(run: Run) -> Iterator[Drawing]:
    """Iterate over the figures that a run allows."""
    yield from _of_traces(run.traces)
    yield from _of_tables(run)
    if len(run.rows):
        yield from _of_rows(run.rows)


def _of_traces(traces: dict[str, Trace]) -> Iterator[Drawing]:
    dense = {name: trace for name, trace in traces.items() if not trace.skipped.any()}
    if dense:
        yield "layers", partial(figures.layers, dense), "column"
        yield "growth", partial(figures.growth, dense), "column"
        yield "distribution", partial(figures.distribution, dict(list(dense.items())[:4])), "text"
    for name, trace in traces.items():
        yield f"tokens_{name}", partial(figures.tokens, trace), "text"
        if name not in dense:
            yield f"skipped_{name}", partial(figures.skipped, trace), "text"


def _of_tables(run: Run) -> Iterator[Drawing]:
    for name, table in run.having("policy", "ratio", "loss", "low", "high"):
        yield f"{name}_loss", partial(figures.tradeoff, table), "column"
    for name, table in run.having("layer", "cosine", "rho", "loss rise", "untrained cosine"):
        yield f"{name}_rise", partial(figures.dynamics, _side_by_side(table), by="run"), "column"
    for name, table in run.having("tokens", "layer", "cosine", "rho"):
        yield name, partial(figures.dynamics, table), "column"
    for _, table in run.having(*SUMMARY):
        yield from _of_summary(table)


def _of_summary(table: pd.DataFrame) -> Iterator[Drawing]:
    for task, own in table.groupby("task", sort=False):
        score = _primary(own)
        if (own["policy"] != DENSE).any():
            yield f"tradeoff_{task}", partial(figures.tradeoff, own, score=score), "column"
        if len(levels(own["policy"])) > 1:
            yield f"warmup_{task}", partial(figures.warmup, own, score=score), "column"


def _of_rows(rows: pd.DataFrame) -> Iterator[Drawing]:
    from ..quality import summarise

    for task, own in rows.groupby("task", sort=False):
        policies = _telling(own)
        if own["kind"].nunique() > 1:
            kinds = summarise(own[own["policy"].isin(policies)], by=("task", "kind", "policy"))
            options: dict[str, Any] = {"score": _primary(kinds), "least": FEW}
            yield f"by_category_{task}", partial(figures.by_category, kinds, **options), "column"
        if "text" in own and own["text"].notna().any():
            options = {"policies": policies, "prompts": _prompts(str(task)), "examples": _differing(own, policies)}
            own.attrs["examples"] = f"the first {SHOWN} whose texts differ, then others"
            yield f"answers_{task}", partial(figures.answers, own, **options), "text"


def _primary(summary: pd.DataFrame) -> str:
    there = list(dict.fromkeys(summary["score"]))
    return next((score for score in PRIMARY if score in there), there[0])


def _prompts(task: str) -> dict[str, str]:
    """Prompts of a bundled task by example; empty for other tasks, whose rows have no prompts."""
    from ..tasks import bundled

    try:
        return {example.id: example.prompt for example in bundled(task)}
    except (ValueError, FileNotFoundError):
        return {}


def _telling(rows: pd.DataFrame) -> list[str]:
    """Up to three policies to show: dense, and from the first two families the one that skips most."""
    found = rows[rows["policy"] != DENSE].groupby("policy")[["skipped", "blocks"]].sum()
    most = (found["skipped"] / found["blocks"]).sort_values(ascending=False).index
    first = {family_of(name): name for name in reversed(most)}  # of each family, the one that skips most
    ranks = {family.lower(): rank for rank, family in enumerate(FAMILIES)}
    known = sorted(first, key=lambda family: (ranks.get(family.lower(), len(ranks)), family))
    return [name for name in (DENSE, *(first[family] for family in known)) if name in set(rows["policy"])][:3]


def _differing(rows: pd.DataFrame, policies: list[str]) -> list[str]:
    """The examples to show: first those that these policies answer differently, then others."""
    texts = rows[rows["policy"].isin(policies)].groupby("example", sort=False)["text"].nunique(dropna=False)
    return list(texts.index[(-texts.clip(upper=2)).argsort(kind="stable")][:SHOWN])


def _side_by_side(layers: pd.DataFrame) -> pd.DataFrame:
    """The demo's table of layers with one row for each run, trained and untrained."""
    names = {"cosine": "cosine", "rho": "rho", "loss rise": "rise"}
    trained = layers[["layer", *names]].rename(columns=names)
    before = layers[["layer", *(f"untrained {name}" for name in names)]]
    before = before.set_axis(trained.columns, axis="columns")
    return pd.concat([trained.assign(run="trained"), before.assign(run="untrained")], ignore_index=True)
