"""Which calibration texts keep what, on the bundled model: ``python -m data.study --out runs/study`` (``make study``).

Eight sources x six tasks x three seeds x two methods at 60 %, two sources in their formats, and skipping fitted on each
source at 25 %. A killed run goes on where it was, seed by seed. Writes rows.csv, rises.csv, rankings.csv, page.md and
the figures; ``--write`` puts them into data/.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from data.page import put
from data.study_page import page
from saturation import figures, load
from saturation.study import SKIPPING, Recipe, masks, overlaps, ranking, recipes, rises, study
from saturation.tasks import Task, bundled

SOURCES = ("mixture", "generated", "entries", "stories", "problems", "conversations", "entailment", "random-tokens")
TASKS = ("factoid", "factoid_heldout", "problems", "entailment", "stories", "conversations")
METHODS = ("wanda", "sparsegpt")
SPARSITY, SKIPPED = 0.6, 0.25
FORMATS = {
    "questions": (("zero-shot", None), ("qa", None), ("icl", None)),
    "problems": (("zero-shot", None), ("qa", None), ("icl", None), ("cot", None)),
}
SEEDS = (0, 1, 2)


def asked(seeds: Sequence[int], tokens: int) -> list[Recipe]:
    """All recipes of the study, those of the first seed before those of the next."""
    common = {"seeds": seeds, "tokens": (tokens,)}
    pruned = recipes(SOURCES, methods=METHODS, sparsity=(SPARSITY,), **common)
    skipped = recipes(SOURCES, methods=("ffnskip", "static"), sparsity=(SKIPPED,), **common)
    shaped = [
        recipe
        for source, formats in FORMATS.items()
        for recipe in recipes([source], methods=METHODS, sparsity=(SPARSITY,), formats=formats, **common)
    ]
    return sorted([*pruned, *shaped, *skipped], key=lambda recipe: recipe.seed)


def share(recipes: Sequence[Recipe], number: int, processes: int) -> list[Recipe]:
    """What one of several processes runs: of the same calibration texts all or nothing; none are drawn twice."""
    texts = list(dict.fromkeys(recipe.texts() for recipe in recipes))
    return [recipe for recipe in recipes if texts.index(recipe.texts()) % processes == number]


def own_format(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of sources in the format in which each is usually read."""
    usual = {"questions": "qa", "problems": "cot"}
    shaped = table["source"].isin(usual) & (
        (table["format"] != table["source"].map(usual)) | ((table["source"] == "problems") & table["shots"].isna())
    )
    return table[table["source"].isin([*SOURCES, "dense"]) & ~shaped]


def write(rows: pd.DataFrame, cells: Path, out: Path) -> list[Path]:
    """Tables and figures from the rows of the study."""
    found = rises(rows)
    ranked = []
    for method in (*METHODS, "static", "ffnskip"):
        plain = own_format(rows)
        plain = plain[plain["method"].isin(["", method])]
        ranked += [ranking(plain, task).assign(task=task, method=method) for task in rows["task"].unique()]
    tables = {"rows": rows, "rises": found, "rankings": pd.concat(ranked)}
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    written = [out / f"{name}.csv" for name in tables]
    shaped = rows[rows["source"].isin([*FORMATS, "dense"]) & rows["shots"].isna() & ~rows["method"].isin(SKIPPING)]
    said = page(rows, own_format(rows), shaped, tables["rankings"], cells)
    (out / "page.md").write_text(said + "\n", encoding="utf-8")
    written.append(out / "page.md")
    for method in (*METHODS, "static", "ffnskip"):
        own = own_format(found)
        written += figures.save(figures.sources(own[own["method"] == method]), out / f"sources_{method}.png")
        written += _formats(found[found["method"] == method], out, method) if method in METHODS else []
    return [*written, *_overlap(own_format(rows), cells, out)]


def _formats(found: pd.DataFrame, out: Path, method: str) -> list[Path]:
    """Bars of the formats of each source, task by task."""
    written = []
    for source, formats in FORMATS.items():
        names = [name for name, _ in formats]
        own = found[(found["source"] == source) & found["format"].isin(names) & found["shots"].isna()]
        if len(own):
            label = "rise of loss (nats per token)"
            bars = own.rename(columns={"task": "judged on"})
            drawn = figures.by_category(bars, category="judged on", y="rise", by="format", label=label)
            written += figures.save(drawn, out / f"formats_{source}_{method}.png")
    return written


def _overlap(rows: pd.DataFrame, cells: Path, out: Path) -> list[Path]:
    """Of Wanda's prunings, every source and two seeds."""
    rows = rows[(rows["method"] == "wanda") & rows["seed"].isin(SEEDS[:2])]
    names = rows.drop_duplicates("pruning").set_index("pruning")
    held = masks(cells, rows)
    order = sorted(held, key=lambda name: SOURCES.index(names.loc[name, "source"]))  # a source's seeds side by side
    labels = [f"{names.loc[name, 'source']} {names.loc[name, 'seed']}" for name in order]
    return figures.save(figures.overlap(overlaps(held, order), labels), out / "overlap_wanda.png")


def tasks(examples: int) -> list[Task]:
    """Each with so many examples."""
    return [bundled(name).head(examples) for name in TASKS]


def measured(given: argparse.Namespace, number: int | None = None) -> pd.DataFrame:
    """The rows of one process's share of the recipes, or without a number of all of them."""
    model, tokenizer = load("demo")
    asks = asked(SEEDS[: given.seeds], given.tokens)
    if number is not None:
        torch.set_num_threads(1)
        asks = share(asks, number, given.processes)
    how = {"accuracy": not given.loss_only, "progress": not number}
    return study(model, tokenizer, asks, tasks(given.examples), out=given.out / "cells", **how)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.study", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for cells, tables and figures")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many of three")
    parser.add_argument("--tokens", type=int, default=16_384, help="real tokens of calibration texts")
    parser.add_argument("--examples", type=int, default=64, help="of each task")
    parser.add_argument("--loss-only", action="store_true", help="score the loss of reference answers alone")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="of one thread each")
    parser.add_argument("--write", action="store_true", help="put tables and pictures into data/ and its README")
    given = parser.parse_args(argv)
    if given.processes > 1:
        with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
            pool.starmap(measured, [(given, number) for number in range(given.processes)], chunksize=1)
    for path in write(measured(given), given.out / "cells", given.out):
        print(path)
    if given.write:
        publish(given.out)


def publish(out: Path) -> None:
    """Put the page, the small tables and the pictures where the repository keeps them."""
    here = Path(__file__).resolve().parent
    put("study", (out / "page.md").read_text(encoding="utf-8").rstrip())
    for name in ("rises.csv", "rankings.csv"):
        shutil.copy(out / name, here / "study" / name)
    for path in sorted(out.glob("*.png")):
        shutil.copy(path, here / "pictures" / f"study_{path.name}")


if __name__ == "__main__":
    main()
